"""The TCP options of a connection, over random settings and systems."""

from __future__ import annotations

from math import inf

from hypothesis import example, given
from hypothesis import strategies as st

from django_mysql_recycle.network_path import PathOptions, shortened

from ..unit.test_network_path import LINUX

SECONDS = st.none() | st.sampled_from([1e-9, 2.5, 1e9, 10**18, 1e308]) | st.integers(1, 1000)
SYSTEMS = st.builds(
    PathOptions,
    SO_KEEPALIVE=st.sampled_from([0, 1, 8]),
    TCP_KEEPIDLE=st.none() | st.integers(1, 32767),
    TCP_KEEPINTVL=st.none() | st.integers(1, 32767),
    TCP_KEEPCNT=st.none() | st.integers(1, 127),
    TCP_USER_TIMEOUT=st.none() | st.integers(0, 2**31 - 1),
)


@given(SYSTEMS, SECONDS, SECONDS)
@example(PathOptions(1, 20, 75, 9, 0), 60, 30)
def test_nothing_that_the_system_has_is_made_longer(
    system: PathOptions, keepalive: float | None, network_timeout: float | None
) -> None:
    wanted = shortened(system, keepalive, network_timeout)
    made = system._replace(**wanted)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        assert getattr(made, name) is None or 1 <= getattr(made, name) <= getattr(system, name)
    if system.TCP_KEEPINTVL and system.TCP_KEEPCNT:
        assert made.TCP_KEEPINTVL is not None and made.TCP_KEEPCNT is not None
        before = system.TCP_KEEPINTVL * system.TCP_KEEPCNT
        assert 1 <= made.TCP_KEEPINTVL * made.TCP_KEEPCNT <= before
    if system.TCP_USER_TIMEOUT:
        assert made.TCP_USER_TIMEOUT is not None
        assert 1 <= made.TCP_USER_TIMEOUT <= system.TCP_USER_TIMEOUT
    if system.SO_KEEPALIVE:
        assert made.SO_KEEPALIVE == system.SO_KEEPALIVE


def probes_before_the_end(options: PathOptions) -> int:
    """What tcp_keepalive_timer() of Linux sends to a peer that never answers."""
    assert options.TCP_KEEPIDLE and options.TCP_KEEPINTVL and options.TCP_KEEPCNT
    limit = options.TCP_USER_TIMEOUT or 0
    now, sent = options.TCP_KEEPIDLE, 0
    while not (
        (limit and now * 1000 >= limit and sent) or (not limit and sent >= options.TCP_KEEPCNT)
    ):
        sent += 1
        now += options.TCP_KEEPINTVL
    return sent


@given(SECONDS, st.none() | st.integers(3, 1000))
def test_one_lost_packet_ends_no_connection(
    keepalive: float | None, network_timeout: int | None
) -> None:
    if keepalive is None and network_timeout is None:
        return
    made = LINUX._replace(**shortened(LINUX, keepalive, network_timeout))
    assert probes_before_the_end(made) >= (2 if (network_timeout or inf) < 9 else 3)
