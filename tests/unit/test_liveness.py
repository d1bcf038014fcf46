"""The socket, without a server: values that no kernel takes as they are."""

import socket

import pytest

from django_mysql_recycle import liveness
from django_mysql_recycle.diagnosis.path import kernel_options
from django_mysql_recycle.options import Options

HUGE = [2**31, 1e9, 10**18, 1e308]


@pytest.mark.parametrize("seconds", [1e-9, 1, *HUGE])
def test_waiting_takes_every_number_of_seconds_that_the_settings_take(seconds):
    here, there = socket.socketpair()
    with here, there:
        there.send(b"an answer")
        assert liveness.wait_until_readable(here.fileno(), seconds)


@pytest.mark.parametrize("key", ["keepalive", "network_timeout"])
@pytest.mark.parametrize("seconds", [1e-9, 1, *HUGE])
def test_kernel_gets_what_it_takes_of_every_number_of_seconds(key, seconds):
    options = Options(**{key: seconds})
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as here,
    ):
        liveness.watch_path(here.fileno(), options.keepalive, options.network_timeout)
        told = kernel_options(here.fileno(), options)
    assert told
    assert [option for option in told if option.asked != option.found] == []
