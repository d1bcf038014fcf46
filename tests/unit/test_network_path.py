"""The TCP options of a connection: what the settings and the system make of each other."""

from __future__ import annotations

import socket
from itertools import product

import pytest

from django_mysql_recycle import network_path
from django_mysql_recycle.diagnosis.path import kernel_options
from django_mysql_recycle.network_path import (
    PathOptions,
    is_unix_socket,
    options_of,
    options_of_system,
    set_user_timeout,
    shortened,
    watch_path,
)
from django_mysql_recycle.options import Options

from .rows import each

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


@each([None, 21, 60, 7200])
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


@each(
    product(
        ["keepalive", "network_timeout"], [1e-9, 1, 2**31, 1e9, 10**18, 1e308], ["127.0.0.1", "::1"]
    )
)
def test_kernel_gets_what_it_takes_of_every_number_of_seconds(key, seconds, host):
    options = Options(**{key: seconds})
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        socket.create_server((host, 0), family=family) as listening,
        socket.create_connection(listening.getsockname()[:2]) as here,
    ):
        asked = watch_path(here.fileno(), options.keepalive, options.network_timeout)
        received = kernel_options(here.fileno(), asked)
    assert len(received) == len(asked) == 5
    assert [option for option in received if option.asked != option.found] == []


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


class MacSocket:
    """The numbers that Python's module socket has on macOS."""

    TCP_KEEPALIVE = 0x10
    TCP_KEEPINTVL = 0x101
    TCP_KEEPCNT = 0x102


class WindowsSocket:
    """The numbers that Python's module socket has on Windows."""

    TCP_KEEPIDLE = 3
    TCP_KEEPCNT = 16
    TCP_KEEPINTVL = 17


def test_options_of_macos_have_its_names_and_units() -> None:
    found = options_of_system("darwin", MacSocket)
    assert found["TCP_KEEPIDLE"] == (socket.IPPROTO_TCP, 0x10, 1)
    assert found["TCP_KEEPCNT"] == (socket.IPPROTO_TCP, 0x102, 1)
    # TCP_RXT_CONNDROPTIME is in seconds, TCP_USER_TIMEOUT in milliseconds.
    assert found["TCP_USER_TIMEOUT"] == (socket.IPPROTO_TCP, 0x80, 1000)


def test_options_of_windows_have_no_limit_on_sent_data() -> None:
    found = options_of_system("win32", WindowsSocket)
    assert list(found) == ["TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "SO_KEEPALIVE"]
    assert found["TCP_KEEPIDLE"] == (socket.IPPROTO_TCP, 3, 1)


def test_option_in_another_unit_is_converted_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    # An option of Linux in seconds stands in for the one of macOS.
    stand_in = network_path._OPTIONS["TCP_KEEPIDLE"]._replace(unit=1000)
    monkeypatch.setitem(network_path._OPTIONS, "TCP_USER_TIMEOUT", stand_in)
    monkeypatch.setattr(network_path, "shortened", shortened.__wrapped__)  # without its cache
    with socket.socket() as sock:
        asked = watch_path(sock.fileno(), None, 29.5)
        assert asked == {"TCP_USER_TIMEOUT": 30_000}
        found = options_of(sock.fileno())
        assert found is not None
        assert found.TCP_USER_TIMEOUT == 30_000
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


def test_socket_that_cannot_be_duplicated_is_viewed_and_left_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On Windows a socket has a handle and no descriptor."""
    monkeypatch.setattr(network_path, "WINDOWS", True)
    monkeypatch.delattr("os.dup")
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as sock:
            wanted = watch_path(sock.fileno(), 10, 30)
            found = options_of(sock.fileno())
            assert found is not None
            assert wanted.items() <= found._asdict().items()
            assert not is_unix_socket(sock.fileno())
            assert sock.gettimeout() is None
            sock.send(b"still open")


def test_socket_of_windows_is_not_viewed_where_that_would_make_it_non_blocking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network_path, "WINDOWS", True)
    with socket.socket() as sock:
        monkeypatch.setattr(socket, "getdefaulttimeout", lambda: 5.0)
        assert watch_path(sock.fileno(), 10, 30) == {}
        assert options_of(sock.fileno()) is None
