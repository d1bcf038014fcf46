"""The socket, without a server: what shows that it was closed, and values that no kernel takes."""

import select
import socket
import struct
import sys
from types import SimpleNamespace

import pytest

from django_mysql_recycle import liveness

HUGE = [2**31, 1e9, 10**18, 1e308]


@pytest.mark.parametrize("seconds", [1e-9, 1, *HUGE])
def test_waiting_takes_every_number_of_seconds_that_the_settings_take(seconds):
    here, there = socket.socketpair()
    with here, there:
        there.send(b"an answer")
        assert liveness.wait_until_readable(here.fileno(), seconds)


@pytest.fixture(params=["poll", "select"])
def system(request, monkeypatch):
    """What the liveness check looks with: poll(), or select() where there is no poll()."""
    if request.param == "select":
        monkeypatch.setattr(liveness, "_look", liveness.Select)
        monkeypatch.setattr(liveness, "_poll", liveness.Select)
    return request.param


@pytest.mark.usefixtures("system")
def test_idle_socket_is_open_until_the_other_end_closes_or_resets_it():
    for reset in (False, True):
        here, there = tcp_pair()
        with here, there:
            look = liveness.watch(here.fileno())
            assert not look()
            assert not liveness.hangs_up(here.fileno(), 0.01)
            if reset:
                there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            there.close()
            assert liveness.hangs_up(here.fileno(), 5)
            assert look()


@pytest.mark.usefixtures("system")
def test_wait_for_an_answer_ends_with_the_answer_or_after_its_time():
    here, there = tcp_pair()
    with here, there:
        assert not liveness.wait_until_readable(here.fileno(), 0.01)
        there.send(b"an answer")
        assert liveness.wait_until_readable(here.fileno(), None)


@pytest.mark.usefixtures("system")
def test_socket_that_is_not_open_any_more_counts_as_closed():
    here, there = tcp_pair()
    look = liveness.watch(here.fileno())
    here.close()
    there.close()
    assert look()


def test_descriptor_that_select_does_not_take_shows_nothing():
    look = liveness.Select()
    look.register(1 << 20, 0)
    assert look.poll(0) == []


def test_system_without_poll_looks_with_select(monkeypatch):
    monkeypatch.delattr(select, "poll")
    assert liveness._waiting() is liveness.Select
    monkeypatch.setattr(liveness, "_poll", liveness.Select)
    assert liveness._looking() is liveness.Select
    # gevent's select() would let other greenlets run: its original one looks.
    original = object()
    gevent = SimpleNamespace(get_original=lambda module, name: (original, module, name))
    monkeypatch.setitem(sys.modules, "gevent.monkey", gevent)
    assert liveness._looking()()._select == (original, "select", "select")
    monkeypatch.setitem(sys.modules, "eventlet", SimpleNamespace())
    assert liveness._waiting() is None


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname())
        there, _ = server.accept()
    return here, there
