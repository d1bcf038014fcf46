"""The socket, without a server: values that no kernel takes as they are."""

import socket

import pytest

from django_mysql_recycle import liveness

HUGE = [2**31, 1e9, 10**18, 1e308]


@pytest.mark.parametrize("seconds", [1e-9, 1, *HUGE])
def test_waiting_takes_every_number_of_seconds_that_the_settings_take(seconds):
    here, there = socket.socketpair()
    with here, there:
        there.send(b"an answer")
        assert liveness.wait_until_readable(here.fileno(), seconds)
