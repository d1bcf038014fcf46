"""A path that loses a packet, or all of them for a moment, is not dead: the connection stays."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.utils import OperationalError

from django_mysql_recycle.network_path import options_of

from .acts import code_of, descriptor, insert, owners
from .admin import Admin
from .connections import STOCK, Connection, ConnectionFactory
from .far import Far, port_of
from .queries import run, value

pytestmark = [
    pytest.mark.netns,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]

#: The first probe is sent after 2 s, then one in each second until 6 s are over.
SHORT: dict[str, Any] = {"network_timeout": 6}
#: Longer than a connection lives whose probes stay unanswered.
PAUSE = 7.5


def server_at_work(connection: Connection) -> None:
    assert value(connection, f"SELECT SLEEP({PAUSE})") == 0


def rest_with_a_lock(connection: Connection) -> None:
    name = f"held {connection.alias}"
    assert value(connection, "SELECT GET_LOCK(%s, 9)", name) == 1
    time.sleep(PAUSE)
    assert value(connection, "SELECT IS_USED_LOCK(%s) = CONNECTION_ID()", name) == 1


def pause_inside_atomic(connection: Connection) -> None:
    with transaction.atomic(using=connection.alias):
        insert(connection, "debit")
        time.sleep(PAUSE)
        insert(connection, "credit")


def one_packet(far: Far, port: int) -> int:
    """Lose the first probe. Returns how many packets were lost."""
    far.namespace.drop_next(port)
    time.sleep(PAUSE - 1)
    return far.namespace.dropped(port)


def outage(far: Far, port: int) -> int:
    """Lose everything while the first probes are sent. Returns how many of them were lost."""
    time.sleep(1.5)
    far.namespace.drop_client(port)
    time.sleep(2.8)
    lost = far.namespace.dropped(port)
    far.namespace.let_client_through(port)
    return lost


def play(
    far: Far,
    connection: Connection,
    act: Callable[[Connection], None],
    lose: Callable[[Far, int], int],
) -> int:
    """Returns how many packets of the connection were lost while `act` was running."""
    port = port_of(connection)
    lost: list[int] = []

    def lose_soon() -> None:
        time.sleep(0.3)  # what `act` begins with has been answered by then
        lost.append(lose(far, port))

    thread = threading.Thread(target=lose_soon)
    thread.start()
    try:
        act(connection)
    finally:
        thread.join()
    assert port_of(connection) == port, "the connection was replaced"
    return lost[0]


@pytest.mark.core
def test_path_that_loses_packets_for_a_moment_costs_no_connection(
    make_connection: ConnectionFactory, far: Far
) -> None:
    ours = make_connection(server=far.server, recycle=SHORT).alias
    stock = make_connection(STOCK, server=far.server).alias

    def survives(case: tuple[Any, Any, str]) -> int:
        lose, act, alias = case
        connection = connections[alias]
        try:
            run(connection, "SELECT 1")
            return play(far, connection, act, lose)
        finally:
            connection.close()

    def control() -> int:
        # What the kernel makes of a first probe that is sent after TCP_USER_TIMEOUT.
        connection = connections[stock]
        try:
            connection.ensure_connection()
            with socket.socket(fileno=os.dup(descriptor(connection))) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 3)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2000)
            with pytest.raises(OperationalError) as caught:
                play(far, connection, server_at_work, one_packet)
            return int(code_of(caught.value))
        finally:
            connection.close()

    cases = [
        (one_packet, server_at_work, ours),
        (one_packet, pause_inside_atomic, ours),
        (outage, server_at_work, ours),
        (outage, rest_with_a_lock, ours),
        (outage, server_at_work, stock),
    ]
    # Side by side: each of them waits for the kernel's timers.
    with ThreadPoolExecutor(len(cases) + 1) as threads:
        dead = threads.submit(control)
        lost = list(threads.map(survives, cases))
    assert lost[:2] == [1, 1]
    assert min(lost[2:4]) >= 2
    assert dead.result() == 2013, "one lost packet ends no connection on this system"
    with Admin(far.server) as admin:
        assert owners(admin) == ["credit", "debit"]


def test_system_with_a_shorter_keepalive_keeps_it(
    make_connection: ConnectionFactory, far: Far
) -> None:
    connection = make_connection(server=far.server)

    def connect() -> Any:
        enter(far.namespace.name)
        one = connections[connection.alias]
        try:
            one.ensure_connection()
            return options_of(descriptor(one))
        finally:
            one.close()

    def options_with(idle: int, interval: int, count: int) -> tuple[Any, ...]:
        values = {"time": idle, "intvl": interval, "probes": count}
        for name, number in values.items():
            far.namespace.run("sysctl", "-q", "-w", f"net.ipv4.tcp_keepalive_{name}={number}")
        with ThreadPoolExecutor(1) as thread:
            return tuple(thread.submit(connect).result())

    standard = (7200, 75, 9)

    try:
        assert options_with(*standard) == options_with(20, 75, 9) == (1, 10, 3, 7, 30_000)
        assert options_with(5, 75, 9) == (1, 5, 4, 7, 30_000)
        assert options_with(5, 2, 3) == (1, 5, 1, 6, 11_000)
    finally:
        options_with(*standard)


def enter(namespace: str) -> None:
    """Move this thread into a network namespace."""
    with Path("/run/netns", namespace).open() as file:
        assert ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0) == 0
