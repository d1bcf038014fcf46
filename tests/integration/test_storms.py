"""Two hundred threads whose connections are lost all at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections
from django.db.utils import Error

from servers import Server

from .acts import code_of, insert, session_id, wait_for
from .admin import Admin
from .connections import STOCK, Connection, ConnectionFactory
from .queries import run, value

WORKERS = 200
TOO_MANY = 1040

#: Django's backend waits for ever for a server whose queue of connections was full.
BOUNDED = {"connect_timeout": 10}


class Crowd:
    """Threads with a connection each, which do things together."""

    def __init__(self, alias: str, size: int = WORKERS) -> None:
        self._alias = alias
        self._size = size
        self._act: Callable[[int, Connection], Any] | None = None
        self._outcomes: list[Any] = []
        # A barrier that waits longer is broken, which ends the threads and fails the test.
        self._start = threading.Barrier(size + 1, timeout=50)
        self._done = threading.Barrier(size + 1, timeout=50)
        self._threads = [threading.Thread(target=self._work, args=(n,)) for n in range(size)]
        for thread in self._threads:
            thread.start()

    def do(self, act: Callable[[int, Connection], Any]) -> list[Any]:
        """Have each of them do it at the same time; returns results and database errors."""
        self._act, self._outcomes = act, [None] * self._size
        self._start.wait()
        self._done.wait()
        return self._outcomes

    def end(self) -> None:
        self._act = None
        if not (self._start.broken or self._done.broken):
            self._start.wait()
        self._start.abort()
        for thread in self._threads:
            thread.join(60)

    def _work(self, number: int) -> None:
        connection = connections[self._alias]
        try:
            while True:
                self._start.wait()
                if self._act is None:
                    return
                try:
                    self._outcomes[number] = self._act(number, connection)
                except Exception as error:
                    self._outcomes[number] = error
                self._done.wait()
        except threading.BrokenBarrierError:
            pass  # the main thread raises it, too
        finally:
            connection.close()


@contextmanager
def crowd(connection: Connection) -> Iterator[Crowd]:
    threads = Crowd(connection.alias)
    try:
        yield threads
    finally:
        threads.end()


def connect(number: int, connection: Connection) -> int:
    run(connection, "SELECT 1")
    return session_id(connection)


def write(number: int, connection: Connection) -> str:
    insert(connection, f"w{number}")
    return "written"


def ask(number: int, connection: Connection) -> bool:
    return bool(value(connection, "SELECT %s + 0", number) == number)


def kill_all(admin: Admin, sessions: list[int]) -> None:
    for session in sessions:
        admin.rows(f"KILL {session}")
    wait_for(lambda: not admin.connection_ids() & set(sessions), "the end of all sessions")


@pytest.mark.core
def test_storm_below_the_servers_limit_makes_no_statement_fail(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    admin.set_global("max_connections", 2 * WORKERS)
    with crowd(make_connection()) as threads:
        kill_all(admin, threads.do(connect))
        assert threads.do(write) == ["written"] * WORKERS
        assert threads.do(ask) == [True] * WORKERS
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == WORKERS


def test_control_storm_on_the_stock_backend_fails_for_everybody_and_for_good(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    admin.set_global("max_connections", 2 * WORKERS)
    with crowd(make_connection(STOCK, options=BOUNDED)) as threads:
        kill_all(admin, threads.do(connect))
        for _ in range(2):
            assert all(isinstance(outcome, Error) for outcome in threads.do(write))
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == 0


@pytest.mark.core
def test_storm_above_the_servers_limit_serves_whom_it_can_and_breaks_no_connection(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    admin.set_global("max_connections", 2 * WORKERS)
    with crowd(make_connection()) as threads:
        sessions = threads.do(connect)
        admin.set_global("max_connections", WORKERS // 2)
        kill_all(admin, sessions)
        start = time.monotonic()
        outcomes = threads.do(write)
        took = time.monotonic() - start
        counted = Counter(
            outcome if outcome == "written" else code_of(outcome) for outcome in outcomes
        )
        assert set(counted) == {"written", TOO_MANY}, counted
        # A place is kept for administrators, and this test's own connection takes one.
        assert counted["written"] >= WORKERS // 2 - 2
        assert took < 10  # the bounded tries of one connect
        assert admin.value("SELECT COUNT(*) FROM testapp_account") == counted["written"]
        admin.set_global("max_connections", 2 * WORKERS)
        assert threads.do(ask) == [True] * WORKERS


def test_storm_after_a_restart_finds_the_server_again(
    make_connection: ConnectionFactory, server: Server
) -> None:
    with crowd(make_connection()) as threads:
        threads.do(lambda number, connection: connect(number, connection) if number < 150 else 0)
        server.restart()
        outcomes = threads.do(
            lambda number, connection: write(number, connection) if number < 150 else "written"
        )
        assert outcomes == ["written"] * WORKERS


@pytest.mark.core
def test_server_that_stands_still_under_idle_connections_is_not_flooded(
    make_connection: ConnectionFactory, own_server: Callable[..., Server]
) -> None:
    # back_log: the kernel's queue takes all of them at once, or it forgets some for seconds.
    server = own_server(max_connections=10 * WORKERS, back_log=2 * WORKERS)
    connection = make_connection(server=server, recycle={"ping_timeout": 1})
    with Admin(server) as admin, crowd(connection) as threads:
        sessions = threads.do(connect)
        assert len(set(sessions)) == WORKERS
        time.sleep(0.6)  # a rest: each of them will look before it asks
        server.pause()
        timer = threading.Timer(4, server.resume)
        timer.start()
        outcomes = threads.do(ask)
        timer.join()
        assert outcomes == [True] * WORKERS, Counter(map(str, outcomes)).most_common(3)
        assert len(admin.connection_ids()) <= 2 * WORKERS
        assert threads.do(ask) == [True] * WORKERS
        wait_for(lambda: len(admin.connection_ids()) <= WORKERS, "the end of the old sessions")
