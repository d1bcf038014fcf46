"""The TCP options of a connection: what the settings and the system make of each other."""

from __future__ import annotations

import socket

import pytest

from django_mysql_recycle.diagnosis.path import kernel_options
from django_mysql_recycle.network_path import (
    PathOptions,
    options_of,
    set_user_timeout,
    shortened,
    watch_path,
)
from django_mysql_recycle.options import Options

LINUX = PathOptions(1, 7200, 75, 9, 0)
MACOS = PathOptions(8, 7200, 75, 8, None)
DEFAULTS = Options()


def defaults_on(system: PathOptions) -> dict[str, int]:
    return dict(shortened(system, DEFAULTS.keepalive, DEFAULTS.network_timeout))


def test_defaults_leave_time_for_several_probes() -> None:
    assert defaults_on(LINUX) == {
        "SO_KEEPALIVE": 1,
        "TCP_KEEPIDLE": 10,
        "TCP_KEEPINTVL": 3,
        "TCP_KEEPCNT": 7,
        "TCP_USER_TIMEOUT": 30_000,
    }


def test_system_without_a_limit_on_sent_data_counts_probes_for_the_same_time() -> None:
    wanted = defaults_on(MACOS)
    assert "TCP_USER_TIMEOUT" not in wanted
    probing = wanted["TCP_KEEPINTVL"] * wanted["TCP_KEEPCNT"]
    assert 30 <= wanted["TCP_KEEPIDLE"] + probing <= 33


def test_system_without_keepalive_options_is_asked_for_what_it_has() -> None:
    assert defaults_on(PathOptions(0)) == {"SO_KEEPALIVE": 1}


def test_settings_that_are_off_ask_for_nothing() -> None:
    assert shortened(LINUX, None, None) == {}
    assert "TCP_USER_TIMEOUT" not in shortened(LINUX, 60, None)
    assert list(shortened(LINUX._replace(SO_KEEPALIVE=0), None, 30)) == ["TCP_USER_TIMEOUT"]


def test_keepalive_alone_probes_for_thirty_seconds() -> None:
    wanted = shortened(LINUX, 60, None)
    assert wanted["TCP_KEEPIDLE"] == 60
    assert wanted["TCP_KEEPINTVL"] * wanted["TCP_KEEPCNT"] == 30


@pytest.mark.parametrize("keepalive", [None, 21, 60, 7200])
def test_first_probe_that_would_come_too_late_for_others_comes_earlier(
    keepalive: float | None,
) -> None:
    assert shortened(LINUX, keepalive, 30) == shortened(LINUX, 10, 30)


def test_first_probe_that_leaves_time_for_others_comes_when_it_is_set_to() -> None:
    for keepalive in (1, 10, 15, 20):
        assert shortened(LINUX, keepalive, 30)["TCP_KEEPIDLE"] == keepalive


def test_keepalive_of_the_system_that_gives_up_earlier_does_so_still() -> None:
    system = PathOptions(1, 5, 2, 3, 0)
    assert defaults_on(system)["TCP_USER_TIMEOUT"] == 11_000
    # The driver has not turned it on: there is nothing that gives up.
    assert defaults_on(system._replace(SO_KEEPALIVE=0))["TCP_USER_TIMEOUT"] == 30_000


@pytest.mark.parametrize("key", ["keepalive", "network_timeout"])
@pytest.mark.parametrize("seconds", [1e-9, 1, 2**31, 1e9, 10**18, 1e308])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_kernel_gets_what_it_takes_of_every_number_of_seconds(key, seconds, host):
    options = Options(**{key: seconds})
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        socket.create_server((host, 0), family=family) as listening,
        socket.create_connection(listening.getsockname()[:2]) as here,
    ):
        asked = watch_path(here.fileno(), options.keepalive, options.network_timeout)
        told = kernel_options(here.fileno(), asked)
    assert len(told) == len(asked) == 5
    assert [option for option in told if option.asked != option.found] == []


def test_unix_socket_is_left_as_it_is() -> None:
    here, there = socket.socketpair()
    with here, there:
        assert watch_path(here.fileno(), 10, 30) == {}
        assert options_of(here.fileno()) is None
        assert here.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0


def test_limit_is_not_set_on_another_socket_with_the_same_number() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as here,
    ):
        set_user_timeout(here.fileno(), (1, 1), 5000)
        set_user_timeout(None, None, 5000)
        options = options_of(here.fileno())
        assert options is not None and options.TCP_USER_TIMEOUT == 0
