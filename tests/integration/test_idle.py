"""The idle limit and the liveness check."""

from __future__ import annotations

import logging
import re
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any, Literal

import pytest
from django.db import Error

from servers import FaultProxy, Server

from .acts import rest
from .admin import Admin
from .connections import STOCK, Connection, ConnectionFactory, Proxied
from .queries import connection_id, kill, run, value

READ = "SELECT @@SESSION.wait_timeout, @@SESSION.sql_mode"
TRANSPORTS: tuple[Literal["tcp", "tls", "socket"], ...] = ("tcp", "tls", "socket")
REST = 0.6
"""A rest after which the session's `wait_timeout` is read: a bit over the half second."""


def test_deadline_of_the_server_is_exact(make_connection: ConnectionFactory, admin: Admin) -> None:
    admin.set_global("wait_timeout", 1)
    early, late = make_connection(STOCK), make_connection(STOCK)
    for connection in (early, late):
        run(connection, "DO 0")
    time.sleep(0.9)
    assert value(early, "SELECT 1") == 1
    time.sleep(0.2)
    with pytest.raises(Error):
        run(late, "SELECT 1")


@pytest.mark.core
def test_idle_connection_is_recycled_before_the_deadline_of_the_server_and_after_it(
    make_connection: ConnectionFactory,
    proxy: Callable[..., FaultProxy],
    admin: Admin,
    recycles: list[dict[str, Any]],
) -> None:
    admin.set_global("wait_timeout", 1)
    between = proxy()
    early, late = (make_connection(via=between, recycle={"liveness_check": False}) for _ in "12")
    first = [connection_id(early), connection_id(late)]
    time.sleep(REST)  # wait_timeout is read at the end of this one ...
    run(early, "DO 1")
    run(late, "DO 1")
    assert recycles == []
    time.sleep(REST)  # ... and kept during the next
    assert set(first) <= admin.connection_ids()
    assert connection_id(early) != first[0]
    admin.wait_until_closed(first[1])
    assert connection_id(late) != first[1]
    assert [(reported["reason"], reported["idle_limit"]) for reported in recycles] == [
        ("idle limit", 0.5)
    ] * 2
    # The server's clock begins when it sends its answer, a moment before the client's.
    assert 0.6 <= recycles[0]["idle"] < 1
    assert recycles[1]["idle"] > 0.95
    for sent in between.connections[:2]:
        assert sent.queries()[-1] == "DO 1"  # nothing was asked of them any more


@pytest.mark.core
def test_idle_limit_of_the_user_holds_below_that_of_the_server(
    make_connection: ConnectionFactory, recycles: list[dict[str, Any]]
) -> None:
    limited, control = make_connection(recycle={"idle_limit": 0.2}), make_connection()
    ids = [connection_id(limited), connection_id(control)]
    time.sleep(0.3)
    assert connection_id(limited) != ids[0]
    assert connection_id(control) == ids[1]
    assert [(reported["reason"], reported["idle_limit"]) for reported in recycles] == [
        ("idle limit", 0.2)
    ]


def test_connecting_costs_not_one_round_trip_more_than_on_the_stock_backend(
    make_connection: ConnectionFactory, proxy: Callable[..., FaultProxy], driver: str
) -> None:
    between = proxy()
    for engine in ("django_mysql_recycle", STOCK):
        run(make_connection(engine, via=between), "DO 1")
    ours, stock = (connection.commands for connection in between.connections)
    saved = Counter(stock)
    saved.subtract(ours)
    assert min(saved.values()) == 0  # and nothing that the stock backend does not send
    for command in saved.elements():
        assert re.fullmatch(rb"set autocommit ?= ?[01]", command.text.lower())
    assert saved.total() == 2  # off and on again


@pytest.mark.core
def test_wait_timeout_is_read_after_the_first_rest_and_once_per_connection(
    proxied: Proxied,
) -> None:
    connection, between = proxied()
    for number in range(20):
        run(connection, f"DO {number}")
    sent = between.connections[0]
    assert READ not in sent.queries()
    for number in (100, 200):
        time.sleep(REST)
        run(connection, f"DO {number}")
    assert sent.queries()[-4:] == ["DO 19", READ, "DO 100", "DO 200"]


def test_wait_timeout_is_read_again_after_a_statement_that_mentions_it(
    proxied: Proxied, recycles: list[dict[str, Any]]
) -> None:
    connection, between = proxied(recycle={"liveness_check": False})
    run(connection, "DO 1")
    time.sleep(REST)
    run(connection, "SET SESSION wait_timeout = 1")
    time.sleep(REST)
    run(connection, "DO 2")
    assert between.connections[0].queries()[-4:] == [
        READ,
        "SET SESSION wait_timeout = 1",
        READ,
        "DO 2",
    ]
    time.sleep(REST)
    run(connection, "DO 3")
    assert [reported["idle_limit"] for reported in recycles] == [0.5]


def test_wait_timeout_is_read_anew_on_the_next_connection(
    connection: Connection, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    run(connection, "DO 1")
    time.sleep(REST)
    run(connection, "DO 2")
    admin.set_global("wait_timeout", 1)
    kill(admin, connection)
    run(connection, "DO 3")
    time.sleep(REST)
    run(connection, "DO 4")
    time.sleep(REST)
    run(connection, "DO 5")
    assert [(reported["reason"], reported["idle_limit"]) for reported in recycles] == [
        ("closed", pytest.approx(28770)),
        ("idle limit", 0.5),
    ]


def test_session_value_counts_and_not_the_global_one_nor_a_longer_idle_limit(
    make_connection: ConnectionFactory, recycles: list[dict[str, Any]]
) -> None:
    connection = make_connection(
        options={"init_command": "SET SESSION wait_timeout = 1"},
        recycle={"liveness_check": False, "idle_limit": 100},
    )
    run(connection, "DO 1")
    for number in (2, 3):
        time.sleep(REST)
        run(connection, f"DO {number}")
    assert [reported["idle_limit"] for reported in recycles] == [0.5]


@pytest.mark.core
def test_connection_within_all_its_limits_is_never_replaced(
    make_connection: ConnectionFactory, recycles: list[dict[str, Any]]
) -> None:
    connections = [
        make_connection(
            transport=transport, CONN_MAX_AGE=60, recycle={"idle_limit": 30, "ping_after": 0.1}
        )
        for transport in TRANSPORTS
    ]
    first = [connection_id(connection) for connection in connections]
    for seconds in [0.0] * 100 + [0.002] * 50 + [0.15, REST]:
        time.sleep(seconds)
        assert [connection_id(connection) for connection in connections] == first
    assert recycles == []


@pytest.mark.core
def test_liveness_check_sees_a_killed_connection(
    make_connection: ConnectionFactory,
    admin: Admin,
    transport: str,
    recycles: list[dict[str, Any]],
) -> None:
    connection = make_connection(transport=transport)  # type: ignore[arg-type]
    kill(admin, connection)
    run(connection, "INSERT INTO testapp_item (name, created) VALUES ('once', NOW())")
    assert admin.value("SELECT COUNT(*) FROM testapp_item") == 1
    assert [reported["reason"] for reported in recycles] == ["closed"]


def test_without_the_liveness_check_a_killed_connection_is_met_by_the_statement(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(recycle={"liveness_check": False})
    kill(admin, connection)
    with pytest.raises(Error):
        run(connection, "INSERT INTO testapp_item (name, created) VALUES ('lost', NOW())")
    assert value(connection, "SELECT COUNT(*) FROM testapp_item") == 0


class Forger:
    """Stands between a client and a server and puts other words of the same length for the read."""

    def __init__(self, server: Server, words: str, times: int = 1000) -> None:
        self._server = server
        self._left = times
        self._words = words.ljust(len(READ)).encode()
        assert len(self._words) == len(READ)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self._listener.getsockname()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.forged = 0

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(client,)))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection((self._server.host, self._server.port))
        with client, server:
            other = {client: server, server: client}
            while True:
                for end in select.select([client, server], [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    self.forged += data.count(READ.encode())
                    if READ.encode() in data and self._left > 0:
                        self._left -= 1
                        data = data.replace(READ.encode(), self._words)
                    other[end].sendall(data)

    def close(self) -> None:
        # A thread that accepts is not woken by a mere close().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


FORGERIES = (
    "SELECT @@SESSION.no_such_var",
    "SELECT 'soon enough'",
    "SELECT 0",
    "SELECT NULL",
    "DO 0",
)
"""A refusal, and answers that make no sense."""


@pytest.fixture
def forgers(server: Server) -> Iterator[list[Forger]]:
    with ExitStack() as stack:
        yield [stack.enter_context(closing(Forger(server, words))) for words in FORGERIES]


def test_server_that_does_not_report_its_wait_timeout_leaves_the_liveness_check(
    forgers: list[Forger],
    make_connection: ConnectionFactory,
    admin: Admin,
    recycles: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    connections = [make_connection(via=forger) for forger in forgers]
    first = [connection_id(connection) for connection in connections]
    try:
        with caplog.at_level(logging.INFO, "django_mysql_recycle"):
            time.sleep(REST)
            assert [connection_id(connection) for connection in connections] == first
            kill(admin, *connections)
            second = [connection_id(connection) for connection in connections]
            time.sleep(REST)
            assert [connection_id(connection) for connection in connections] == second
    finally:
        for connection in connections:
            connection.close()
    assert [forger.forged for forger in forgers] == [2] * len(forgers)
    assert [(reported["reason"], reported["idle_limit"]) for reported in recycles] == [
        ("closed", None)
    ] * 5
    warnings = [
        record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
    ]
    # One for each alias, however often it asks.
    assert len(warnings) == len(forgers) and all("wait_timeout" in text for text in warnings)


#: Each of them is refused once, or answered with nonsense once.
PASSING = "KILL QUERY CONNECTION_ID()"


@pytest.mark.core
@pytest.mark.parametrize("words", [PASSING, *FORGERIES])
def test_limit_that_was_refused_once_is_asked_for_after_the_next_rest(
    server: Server,
    make_connection: ConnectionFactory,
    admin: Admin,
    caplog: pytest.LogCaptureFixture,
    recycles: list[dict[str, Any]],
    words: str,
) -> None:
    admin.set_global("wait_timeout", 3)
    with closing(Forger(server, words, times=1)) as forger:
        connection = make_connection(via=forger)
        first = connection_id(connection)
        with caplog.at_level(logging.INFO, "django_mysql_recycle"):
            time.sleep(REST)
            assert connection_id(connection) == first  # refused
            assert connection_id(connection) == first
            assert (forger.forged, connection.guard.connection.idle_limit) == (1, None)
            time.sleep(REST)
            assert connection_id(connection) == first  # and answered
            assert (forger.forged, connection.guard.connection.idle_limit) == (2, 2.5)
        # Of an error that says nothing about the next time there is no warning.
        warned = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert len(warned) == (words != PASSING)
        rest(connection, 2.5)
        assert connection_id(connection) != first
        connection.close()
    assert [reported["reason"] for reported in recycles] == ["idle limit"]


def test_server_that_always_refuses_is_asked_less_and_less_often(
    server: Server, make_connection: ConnectionFactory
) -> None:
    with closing(Forger(server, FORGERIES[0])) as forger:
        connection = make_connection(via=forger)
        first = connection_id(connection)
        asked = []
        for _ in range(5):
            time.sleep(0.55)
            assert connection_id(connection) == first
            asked.append(forger.forged)
        connection.close()
    assert asked == [1, 2, 2, 3, 3]


def test_ping_is_sent_where_the_limit_is_not_asked_for(
    server: Server, make_connection: ConnectionFactory, proxy: Callable[..., FaultProxy]
) -> None:
    with closing(Forger(server, FORGERIES[0])) as forger:
        between = proxy(forger)
        connection = make_connection(via=between, recycle={"ping_after": 0.6})
        first = connection_id(connection)
        for _ in range(3):
            time.sleep(0.65)
            assert connection_id(connection) == first
        sent = between.connections[0].queries()
        connection.close()
    assert [text for text in sent if text in (READ, "DO 0")] == [READ, READ, "DO 0"]
