"""Connecting ends in time, wherever on the way to the first statement the server says no more."""

from __future__ import annotations

import functools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.db.backends.signals import connection_created
from django.db.utils import Error, OperationalError

from django_mysql_recycle.drivers import choose
from servers import FaultProxy, Server

from .acts import assert_works, receiving
from .admin import Admin
from .connections import OURS, STOCK, Connection, ConnectionFactory
from .queries import run, value

#: Seconds beyond connect_timeout that a machine under load may take.
SLACK = 1.4


class SlowServer:
    """The session's server behind a proxy that can drip and stop answering, over any transport."""

    def __init__(
        self,
        server: Server,
        make_connection: ConnectionFactory,
        folder: Path,
        stack: ExitStack,
        transport: Any,
    ) -> None:
        self.make_connection = make_connection
        self.stack = stack
        self.transport = transport
        sockets = None
        if transport == "socket":
            sockets = (str(folder / "slow.sock"), server.socket)
        self.proxy = FaultProxy(server.host, server.port, sockets=sockets)
        stack.callback(self.proxy.close)

    def connection(self, engine: str = OURS, seconds: int = 1, **options: Any) -> Any:
        settings: dict[str, Any] = {"CONN_MAX_AGE": None}
        if self.transport == "socket":
            settings.update(HOST=self.proxy.host, PORT="")
        else:
            settings.update(HOST=self.proxy.host, PORT=self.proxy.port)
        return self.make_connection(
            engine,
            transport="tcp" if self.transport == "socket" else self.transport,
            options={"connect_timeout": seconds, **options},
            **settings,
        )

    def another(self, connection: Any, number: int) -> FaultProxy:
        """A proxy of its own for this connection, so that many can stop answering at a time."""
        sockets = self.proxy.sockets and (f"{self.proxy.host}{number}", self.proxy.sockets[1])
        proxy = FaultProxy(*self.proxy.target, sockets=sockets)
        self.stack.callback(proxy.close)
        for settings in (connections.settings[connection.alias], connection.settings_dict):
            settings.update(HOST=proxy.host, PORT=proxy.port or "")
        return proxy


@pytest.fixture
def slow_server(
    server: Server, make_connection: ConnectionFactory, tmp_path: Path
) -> Iterator[Callable[[Any], SlowServer]]:
    with ExitStack() as stack:
        yield lambda transport: SlowServer(server, make_connection, tmp_path, stack, transport)


def seconds_to_fail(connection: Connection) -> float:
    begun = time.monotonic()
    with pytest.raises(OperationalError):
        connection.ensure_connection()
    assert connection.connection is None
    return time.monotonic() - begun


def seconds_to_fail_of(aliases: list[str]) -> list[float]:
    """Side by side: each of them waits for its own time."""

    def play(alias: str) -> float:
        try:
            return seconds_to_fail(connections[alias])
        finally:
            connections[alias].close()

    with ThreadPoolExecutor(len(aliases)) as threads:
        return list(threads.map(play, aliases))


@pytest.mark.core
def test_server_that_stops_answering_at_any_step_is_given_up_within_connect_timeout(
    slow_server: Callable[[Any], SlowServer], transport: Any, driver: str
) -> None:
    slow = slow_server(transport)
    slow.connection().ensure_connection()  # MySQL knows the password from here on
    # The first connection of a wrapper also asks what kind of server it is.
    first = slow.connection(isolation_level="repeatable read")
    first.ensure_connection()
    last = slow.proxy.connections[-1].requests
    if transport != "tls":
        steps = list(range(last))
    elif driver == "pymysql":
        steps = list(range(last - 2))  # what ends the handshake comes in one chunk or in several
    else:
        pytest.skip("the library's TLS has no bound up to the answer to the login; see below")
    aliases = []
    for step in steps:
        connection = slow.connection(isolation_level="repeatable read")
        slow.another(connection, step).request_limit = step
        aliases.append(connection.alias)
    took = seconds_to_fail_of(aliases)
    assert max(took) < 1 + SLACK, took


def test_server_that_stops_after_the_login_over_tls_is_given_up_within_connect_timeout(
    slow_server: Callable[[Any], SlowServer], driver: str, monkeypatch: Any
) -> None:
    slow = slow_server("tls")
    connection = slow.connection()
    kind: Any = choose()._connecting  # type: ignore[attr-defined]
    set_character_set = kind.set_character_set

    def stop_answering_first(self: Any, *args: Any) -> None:
        slow.proxy.request_limit = 0
        set_character_set(self, *args)

    monkeypatch.setattr(kind, "set_character_set", stop_answering_first)
    assert seconds_to_fail(connection) < 1 + SLACK
    assert slow.proxy.request_limit == 0


def test_server_that_stops_in_the_middle_of_its_words_is_given_up_within_connect_timeout(
    slow_server: Callable[[Any], SlowServer], transport: Any, driver: str
) -> None:
    slow = slow_server(transport)
    slow.connection().ensure_connection()  # MySQL knows the password from here on
    first = slow.connection()
    first.ensure_connection()
    said = slow.proxy.connections[-1].bytes_received
    # mysqlclient's library reads an answer in one call, which has no bound once it has begun.
    limits = list(range(0, said, said // 12)) if driver == "pymysql" else [0, 3, 40]
    aliases = []
    for number, limit in enumerate(limits):
        connection = slow.connection()
        slow.another(connection, number).reply_limit = limit
        aliases.append(connection.alias)
    took = dict(zip(limits, seconds_to_fail_of(aliases), strict=True))
    assert max(took.values()) < 1 + SLACK, took


@pytest.mark.parametrize("way", ["host", "unix socket", "tls"])
def test_server_that_drips_is_given_up_within_connect_timeout(
    slow_server: Callable[[Any], SlowServer], way: str, driver: str
) -> None:
    if driver != "pymysql":
        pytest.skip("mysqlclient's library reads the greeting in one call, each read by itself")
    slow = slow_server({"host": "tcp", "unix socket": "socket", "tls": "tls"}[way])
    slow.proxy.pace = 0.03
    connection = slow.connection()
    assert seconds_to_fail(connection) < 1 + SLACK
    slow.proxy.pace = 0
    assert value(connection, "SELECT 5 + 0") == 5


def test_control_stock_backend_waits_on_after_the_login(
    slow_server: Callable[[Any], SlowServer],
) -> None:
    slow = slow_server("tcp")
    connection = slow.connection(STOCK)
    slow.proxy.request_limit = 1
    failed: list[float] = []
    begun = time.monotonic()

    def connect() -> None:
        try:
            connections[connection.alias].ensure_connection()
        except Error:
            failed.append(time.monotonic() - begun)

    thread = threading.Thread(target=connect)
    thread.start()
    time.sleep(3)  # three times its connect_timeout
    assert failed == []
    slow.proxy.cut()
    thread.join()
    assert failed


@pytest.mark.parametrize("slow_part", ["connection_created", "init_connection_state"])
def test_what_the_application_does_with_a_new_connection_may_take_longer_than_connect_timeout(
    make_connection: ConnectionFactory, admin: Admin, slow_part: str, monkeypatch: Any
) -> None:
    connection = make_connection(options={"connect_timeout": 1})
    answers: list[Any] = []

    def ask(**_facts: Any) -> None:
        answers.append(value(connection, "SELECT SLEEP(1.2) + 5"))

    if slow_part == "connection_created":
        with receiving(connection_created, ask):
            connection.ensure_connection()
    else:
        kind = type(connection)

        class Own(kind):  # type: ignore[misc, valid-type]
            def init_connection_state(self) -> None:
                super().init_connection_state()
                ask()

        connection.__class__ = Own
        connection.ensure_connection()
    assert answers == [5]
    assert_works(connection, admin)


def test_open_connection_is_the_drivers_own_with_the_timeouts_of_the_user(
    make_connection: ConnectionFactory, driver: str, transport: Any, admin: Admin
) -> None:
    plain = make_connection(STOCK, transport=transport)
    plain.ensure_connection()
    for given in ({}, {"read_timeout": 7, "write_timeout": 8}):
        connection = make_connection(transport=transport, options={"connect_timeout": 1, **given})
        connection.ensure_connection()
        raw: Any = connection.connection
        assert isinstance(raw, type(plain.connection))
        assert not isinstance(raw, choose()._connecting)  # type: ignore[attr-defined]
        if driver == "pymysql":
            expected = (given.get("read_timeout"), given.get("write_timeout"))
            assert (raw._read_timeout, raw._write_timeout) == expected
            assert raw._sock.gettimeout() == raw._read_timeout
            stock: Any = plain.connection
            assert (raw.host_info, raw._secure) == (stock.host_info, stock._secure)
        assert value(connection, "SELECT SLEEP(1.1) + 5") == 5
        connection.close()


def test_connection_beside_the_one_in_use_is_the_drivers_own_as_well(
    make_connection: ConnectionFactory,
) -> None:
    connection: Any = make_connection(options={"connect_timeout": 1})
    stock: Any = make_connection(STOCK)
    stock.ensure_connection()
    beside = connection.get_new_connection(connection.get_connection_params())
    assert isinstance(beside, type(stock.connection))
    assert not isinstance(beside, choose()._connecting)  # type: ignore[attr-defined]
    cursor = beside.cursor()
    cursor.execute("SELECT SLEEP(1.1) + 5")
    assert cursor.fetchone() == (5,)
    cursor.close()
    beside.close()


@pytest.mark.parametrize("kind", ["refused", "unknown name"])
def test_what_keeps_from_connecting_is_reported_in_the_drivers_words(
    make_connection: ConnectionFactory, kind: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings = {
        "refused": {"PORT": port},
        "unknown name": {"HOST": "nowhere.invalid"},
    }[kind]
    raised = []
    for engine in (OURS, STOCK):
        recycle = {"connect_retries": 0} if engine == OURS else None
        with pytest.raises(Error) as caught:
            make_connection(engine, recycle=recycle, **settings).ensure_connection()
        raised.append((type(caught.value), str(caught.value)))
    assert raised[0] == raised[1]


def test_address_that_does_not_answer_leaves_time_for_the_others(
    make_connection: ConnectionFactory, server: Server, driver: str, monkeypatch: Any
) -> None:
    if driver != "pymysql":
        pytest.skip("mysqlclient's library looks names up by itself")
    with deaf() as address:
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", where)
            for where in (address, (server.host, server.port))
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args: found)
        connection = make_connection(HOST="db.invalid", options={"connect_timeout": 2})
        begun = time.monotonic()
        assert value(connection, "SELECT 5 + 0") == 5
        assert 0.8 < time.monotonic() - begun < 2 + SLACK


def test_address_to_connect_from_is_kept(
    make_connection: ConnectionFactory, driver: str, server: Server, admin: Admin
) -> None:
    if driver != "pymysql":
        pytest.skip("mysqlclient has no such parameter")
    connection: Any = make_connection(options={"bind_address": "127.0.0.1"})
    connection.ensure_connection()
    assert connection.connection._sock.getsockname()[0] == "127.0.0.1"
    wrong = make_connection(options={"bind_address": "192.0.2.1"}, recycle={"connect_retries": 0})
    with pytest.raises(OperationalError):
        wrong.ensure_connection()


def test_statements_of_a_first_connect_are_logged_as_by_the_stock_backend(
    make_connection: ConnectionFactory,
) -> None:
    logged = []
    for engine in (OURS, STOCK):
        connection = make_connection(engine, options={"isolation_level": "repeatable read"})
        connection.force_debug_cursor = True
        connection.ensure_connection()
        logged.append([entry["sql"] for entry in connection.queries])
    assert logged[0] == logged[1]
    assert any("ISOLATION LEVEL" in sql for sql in logged[0])


@pytest.mark.parametrize("charset", ["utf8mb4", "latin1", "utf8"])
def test_character_set_is_that_of_the_stock_backend(
    make_connection: ConnectionFactory, charset: str
) -> None:
    reported = []
    for engine in (OURS, STOCK):
        connection: Any = make_connection(engine, options={"charset": charset})
        names = "@@character_set_client, @@character_set_results, @@collation_connection"
        reported.append(
            (
                run(connection, f"SELECT {names}, %s, HEX(%s)", "é", "é"),
                connection.connection.character_set_name()
                if hasattr(connection.connection, "character_set_name")
                else connection.connection.charset,
                connection.connection.encoding,
            )
        )
    assert reported[0] == reported[1]


@pytest.mark.parametrize("what", ["connect", "get_new_connection"])
def test_what_stands_between_django_and_the_driver_is_still_called(
    make_connection: ConnectionFactory, monkeypatch: Any, what: str, admin: Admin
) -> None:
    from django.db.backends.mysql import base

    owner: Any = base.Database if what == "connect" else base.DatabaseWrapper
    function = getattr(owner, what)
    called = []

    @functools.wraps(function)
    def instrumented(*args: Any, **kwargs: Any) -> Any:
        called.append(what)
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, what, instrumented)
    connection = make_connection(options={"connect_timeout": 1})
    connection.ensure_connection()
    assert called == [what]
    assert value(connection, "SELECT SLEEP(1.1) + 5") == 5
    assert_works(connection, admin)


@pytest.mark.parametrize("engine_", ["tests.backends.instrumented", "tests.backends.subclassed"])
def test_what_django_sends_is_bounded_beneath_other_backends(
    slow_server: Callable[[Any], SlowServer], engine_: str
) -> None:
    slow = slow_server("tcp")
    first = slow.connection(engine_, isolation_level="repeatable read")
    first.ensure_connection()
    connection = slow.connection(engine_, isolation_level="repeatable read")
    slow.proxy.request_limit = slow.proxy.connections[-1].requests - 1
    assert seconds_to_fail(connection) < 2 + SLACK


def test_connect_timeout_of_zero_is_none_for_mysqlclient(
    slow_server: Callable[[Any], SlowServer], driver: str
) -> None:
    if driver != "mysqlclient":
        pytest.skip("PyMySQL refuses it")
    slow = slow_server("tcp")
    slow.proxy.latency = 0.3
    connection = slow.connection(seconds=0)
    assert value(connection, "SELECT 5 + 0") == 5


def test_connect_timeout_of_an_option_file_bounds_what_follows_the_login(
    slow_server: Callable[[Any], SlowServer], driver: str, tmp_path: Path
) -> None:
    if driver != "mysqlclient":
        pytest.skip("PyMySQL takes no connect_timeout from a file")
    (tmp_path / "my.cnf").write_text("[client]\nconnect-timeout=1\n")
    slow = slow_server("tcp")
    file = str(tmp_path / "my.cnf")
    connection = slow.connection(read_default_file=file)
    del connection.settings_dict["OPTIONS"]["connect_timeout"]
    slow.proxy.request_limit = 1
    assert seconds_to_fail(connection) < 1 + SLACK


@contextmanager
def deaf() -> Iterator[tuple[str, int]]:
    """An address whose kernel answers no client: its queue of connections is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield listener.getsockname()
