"""Paths that swallow packets, servers that stand still: nothing waits longer than it is set to."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.utils import Error, OperationalError

from servers import Server

from .acts import assert_works, descriptor, insert, listening, outcome, owners, rest, soon
from .admin import Admin
from .connections import OURS, STOCK, Connection, ConnectionFactory, Proxied
from .far import Far, port_of
from .forking import start
from .queries import run, value


class Stopwatch:
    seconds = 0.0

    def __enter__(self) -> Stopwatch:
        self._start = time.monotonic()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.seconds = time.monotonic() - self._start


# What the kernel is asked for.


def asked_of_the_kernel(connection: Connection) -> dict[str, int]:
    with socket.socket(fileno=os.dup(descriptor(connection))) as sock:
        return {
            "keepalive": sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            "idle": sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            "interval": sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
            "count": sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
            "user timeout": sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
        }


@pytest.mark.core
@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_kernel_watches_every_tcp_connection(
    make_connection: ConnectionFactory, transport: Any
) -> None:
    connection = make_connection(transport=transport)
    connection.ensure_connection()
    received = asked_of_the_kernel(connection)
    assert (received["keepalive"], received["idle"], received["user timeout"]) == (1, 10, 30_000)
    assert received["interval"] * received["count"] <= 30


def test_settings_reach_the_kernel(make_connection: ConnectionFactory) -> None:
    connection = make_connection(recycle={"keepalive": 7, "network_timeout": 12})
    connection.ensure_connection()
    received = asked_of_the_kernel(connection)
    assert (received["keepalive"], received["idle"], received["user timeout"]) == (1, 7, 12_000)


def test_watching_the_path_can_be_turned_off(make_connection: ConnectionFactory) -> None:
    connection = make_connection(recycle={"keepalive": None, "network_timeout": None})
    stock = make_connection(STOCK)
    for one in (connection, stock):
        one.ensure_connection()
    assert asked_of_the_kernel(connection) == asked_of_the_kernel(stock)


def test_control_stock_backend_leaves_the_kernels_defaults(
    make_connection: ConnectionFactory,
) -> None:
    connection = make_connection(STOCK)
    connection.ensure_connection()
    received = asked_of_the_kernel(connection)
    assert (received["user timeout"], received["idle"] >= 7200) == (0, True)


# Packets that are dropped: a namespace, whose kernel says nothing.


SHORT: dict[str, Any] = {"network_timeout": 2, "keepalive": 1, "ping_timeout": 0.5}


def write(connection: Connection, far: Far) -> None:
    run(connection, "SELECT 1")
    far.forget(connection)
    with pytest.raises(OperationalError):
        insert(connection, "write")


def commit(connection: Connection, far: Far) -> None:
    with pytest.raises(OperationalError), transaction.atomic(using=connection.alias):
        insert(connection, "commit")
        far.forget(connection)


def rollback(connection: Connection, far: Far) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=connection.alias):
        insert(connection, "rollback")
        far.forget(connection)
        raise ZeroDivisionError


def server_at_work(connection: Connection, far: Far) -> None:
    run(connection, "SELECT 1")
    breaker = threading.Timer(0.3, far.namespace.drop_client, [port_of(connection)])
    breaker.start()
    with pytest.raises(OperationalError):
        run(connection, "SELECT SLEEP(30)")
    breaker.join()


def idle_with_keepalive(connection: Connection, far: Far) -> None:
    run(connection, "SELECT 1")
    far.forget(connection)
    time.sleep(4.5)  # the kernel's own timers: 1 s without a packet, then probes for 2 s
    with listening(connection) as received:
        insert(connection, "idle with keepalive")
    assert received.recycled == ["closed"]


def ping_after_a_rest(connection: Connection, far: Far) -> None:
    run(connection, "SELECT 1")
    far.forget(connection)
    rest(connection, 20)
    with Stopwatch() as watch, listening(connection) as received:
        insert(connection, "ping after a rest")
    assert received.recycled == ["no answer"]
    assert watch.seconds < 2


def health_check(connection: Connection, far: Far) -> None:
    run(connection, "SELECT 1")
    far.forget(connection)
    with Stopwatch() as watch:
        assert connection.is_usable() is False
    assert watch.seconds < 2
    insert(connection, "health check")


def close(connection: Connection, far: Far) -> None:
    run(connection, "SELECT 1")
    far.forget(connection)
    with Stopwatch() as watch:
        connection.close()
    assert watch.seconds < 1
    insert(connection, "close")


SCENES = [
    write,
    commit,
    rollback,
    server_at_work,
    idle_with_keepalive,
    ping_after_a_rest,
    health_check,
    close,
]


@pytest.mark.core
@pytest.mark.netns
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_path_that_drops_packets_holds_no_statement_up(
    make_connection: ConnectionFactory, far: Far
) -> None:
    alias = make_connection(server=far.server, recycle=SHORT).alias
    stock = make_connection(STOCK, server=far.server)
    run(stock, "SELECT 1")
    far.forget(stock)
    control = start(lambda: outcome(lambda: run(stock, "SELECT 1")))

    def play(scene: Callable[[Connection, Far], None]) -> float:
        connection = connections[alias]
        try:
            connection.ensure_connection()
            with Stopwatch() as watch:
                scene(connection, far)
            # The path is broken for the old connection only.
            assert value(connection, "SELECT 5 + 0") == 5
            return watch.seconds
        finally:
            connection.close()

    # Side by side: each of them waits for a kernel's timers.
    with ThreadPoolExecutor(len(SCENES)) as threads:
        futures = {scene.__name__: threads.submit(play, scene) for scene in SCENES}
    seconds = {name: future.result() for name, future in futures.items()}
    assert all(took < 6 for took in seconds.values()), seconds
    assert os.waitpid(control.pid, os.WNOHANG)[0] == 0, "the stock backend did not hang"
    os.kill(control.pid, signal.SIGKILL)
    os.waitpid(control.pid, 0)
    with Admin(far.server) as admin:
        assert owners(admin) == [
            "close",
            "health check",
            "idle with keepalive",
            "ping after a rest",
        ]


# A server process that stands still behind a kernel that acknowledges.


@pytest.mark.core
@pytest.mark.parametrize("transport", ["tcp", "tls", "socket"])
def test_server_that_stands_still_is_found_by_the_ping(
    make_connection: ConnectionFactory, server: Server, admin: Admin, transport: Any
) -> None:
    connection = make_connection(transport=transport, recycle={"ping_timeout": 0.3})
    insert(connection, "before")
    rest(connection, 20)
    server.pause()
    with soon(0.8, server.resume), listening(connection) as received, Stopwatch() as watch:
        insert(connection, "after")
    assert received.recycled == ["no answer"]
    assert watch.seconds < 3
    assert owners(admin) == ["after", "before"]
    assert_works(connection, admin)


@pytest.mark.parametrize("way", ["is_usable", "boundary", "pinned"])
def test_health_check_on_a_server_that_stands_still_is_bounded(
    make_connection: ConnectionFactory, server: Server, admin: Admin, way: str
) -> None:
    connection = make_connection(
        recycle={"ping_timeout": 0.3}, CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True
    )
    run(connection, "SELECT GET_LOCK('still', 0)" if way == "pinned" else "SELECT 1")
    server.pause()
    with soon(0.8, server.resume), Stopwatch() as watch:
        if way == "is_usable":
            assert connection.is_usable() is False
        else:
            connection.close_if_unusable_or_obsolete()
            outcome(lambda: run(connection, "SELECT 1"))
    assert watch.seconds < 3
    assert_works(connection, admin)


def test_connection_to_a_server_that_stands_still_closes_at_once(
    connection: Connection, server: Server, admin: Admin
) -> None:
    run(connection, "SELECT 1")
    server.pause()
    with Stopwatch() as watch:
        connection.close()
    server.resume()
    assert watch.seconds < 0.5
    assert_works(connection, admin)


@pytest.mark.parametrize("inside", ["plain", "atomic"])
def test_stalled_path_swallows_the_ping_and_not_the_write(
    proxied: Proxied, admin: Admin, inside: str
) -> None:
    connection, between = proxied(recycle={"ping_timeout": 0.3})
    run(connection, "SELECT 1")
    rest(connection, 20)
    between.stall()
    with soon(0.8, between.resume):
        if inside == "atomic":
            with transaction.atomic(using=connection.alias):
                insert(connection, "once")
        else:
            insert(connection, "once")
    assert owners(admin) == ["once"]
    assert not any("INSERT" in sql for sql in between.connections[0].queries())


# Connecting.


@contextmanager
def mute(words: bytes = b"") -> Iterator[Any]:
    """A host that accepts, says `words` at most, and then nothing more."""
    listener = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []
    listener.settimeout(0.05)
    ends = threading.Event()

    def accept() -> None:
        while not ends.is_set():
            try:
                one, _ = listener.accept()
            except TimeoutError:
                continue
            accepted.append(one)
            one.sendall(words)

    thread = threading.Thread(target=accept)
    thread.start()

    class Address:
        host, port = listener.getsockname()
        tries = accepted

    try:
        yield Address
    finally:
        ends.set()
        thread.join()
        for one in (*accepted, listener):
            one.close()


def greeting_of(server: Server) -> bytes:
    with socket.create_connection((server.host, server.port)) as sock:
        return sock.recv(4096)


@pytest.mark.core
@pytest.mark.parametrize("says", ["nothing", "its greeting"])
def test_connecting_to_a_mute_host_is_bounded_by_connect_timeout(
    make_connection: ConnectionFactory, server: Server, says: str
) -> None:
    words = b"" if says == "nothing" else greeting_of(server)
    with mute(words) as host:
        connection = make_connection(
            via=host, options={"connect_timeout": 2}, recycle={"connect_retries": 3}
        )
        with Stopwatch() as watch, pytest.raises(OperationalError):
            connection.ensure_connection()
    assert 1.5 < watch.seconds < 2.6  # all tries together


def test_connecting_is_bounded_by_ten_seconds_unless_set_otherwise(
    make_connection: ConnectionFactory,
) -> None:
    assert make_connection(OURS).get_connection_params()["connect_timeout"] == 10
    own = make_connection(OURS, options={"connect_timeout": 3})
    assert own.get_connection_params()["connect_timeout"] == 3


def test_connect_timeout_is_not_a_limit_for_statements(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(options={"connect_timeout": 1})
    assert value(connection, "SELECT SLEEP(1.3) + 5") == 5
    assert_works(connection, admin)


def test_replacement_that_cannot_connect_is_bounded_too(proxied: Proxied, admin: Admin) -> None:
    connection, between = proxied(options={"connect_timeout": 1})
    target = between.target
    run(connection, "SELECT 1")
    with mute() as host:
        between.retarget(host.host, host.port)
        between.cut()
        rest(connection)
        with Stopwatch() as watch, pytest.raises(Error):
            insert(connection, "a")
        assert watch.seconds < 2.5
    between.retarget(*target)
    insert(connection, "b")
    assert owners(admin) == ["b"]


def test_read_timeout_of_the_user_still_ends_a_slow_statement_and_only_that(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(options={"read_timeout": 1})
    run(connection, "SELECT 1")
    with pytest.raises(OperationalError):
        run(connection, "SELECT SLEEP(3)")
    assert_works(connection, admin)


@pytest.mark.core
@pytest.mark.parametrize("transport", ["tcp", "tls", "socket"])
@pytest.mark.parametrize("way", ["ping", "wait_timeout", "health check"])
def test_no_round_trip_of_our_own_outlasts_the_users_read_timeout(
    make_connection: ConnectionFactory, server: Server, transport: Any, way: str
) -> None:
    connection = make_connection(transport=transport, options={"read_timeout": 1})
    run(connection, "SELECT 1")
    if way == "ping":
        rest(connection)
        run(connection, "SELECT 1")  # wait_timeout is read before it
    rest(connection, 20 if way == "ping" else 0.6)
    server.pause()
    with soon(2.5, server.resume), listening(connection) as received:
        if way == "health check":
            assert connection.is_usable() is False
        # With ping_timeout alone, 5 s, the answer would have come in time.
        run(connection, "SELECT 1")
    assert received.recycled == ["no answer"]
