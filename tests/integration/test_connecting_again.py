"""Further tries to connect: they sit out a restart, and delay no error that is to come at once."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pymysql
import pytest
from django.db.utils import Error, OperationalError

from django_mysql_recycle import failover
from servers import FaultProxy, Server

from .acts import code_of, kill, outcome, soon, wait_for
from .admin import Admin
from .connections import STOCK, Connection, ConnectionFactory, Proxied
from .queries import value
from .test_wrong_node import APPLICATION, make_application


def take_away(between: FaultProxy) -> Callable[[], None]:
    """Leave the proxy without its server. Returns what gives it back."""
    target = between.target
    with socket.create_server(("127.0.0.1", 0)) as listener:
        between.retarget(*listener.getsockname())
    return lambda: between.retarget(*target)


def tries_of(between: FaultProxy, act: Callable[[], Any]) -> tuple[int, float]:
    """How often `act` connects and how many seconds it takes until it fails."""
    before, begun = len(between.connections), time.monotonic()
    assert outcome(act) is not None
    return len(between.connections) - before, time.monotonic() - begun


@pytest.mark.core
def test_proxy_without_its_server_for_a_second_costs_no_error(
    proxied: Proxied, admin: Admin
) -> None:
    connection, between = proxied()
    assert value(connection, "SELECT 5 + 0") == 5
    kill(admin, connection)
    with soon(1.2, take_away(between)):
        assert value(connection, "SELECT 6 + 0") == 6


def test_control_stock_backend_fails_while_the_proxy_has_no_server(
    proxied: Proxied, admin: Admin
) -> None:
    connection, between = proxied(STOCK)
    assert value(connection, "SELECT 5 + 0") == 5
    connection.close()
    give_back = take_away(between)
    assert tries_of(between, connection.ensure_connection)[0] == 1
    give_back()


@pytest.mark.core
def test_first_connect_of_a_process_makes_one_further_try(proxied: Proxied) -> None:
    connection, between = proxied()
    take_away(between)
    tries, seconds = tries_of(between, connection.ensure_connection)
    assert tries == 2
    assert seconds < 2


def test_tries_and_pauses_grow_up_to_a_second(proxied: Proxied) -> None:
    connection, between = proxied()
    connection.ensure_connection()
    connection.close()
    take_away(between)
    tries, seconds = tries_of(between, connection.ensure_connection)
    assert tries == 5
    # 0.25 + 0.5 + 1 + 1, each varied by a quarter and capped at 1
    assert 0.75 * 2.75 <= seconds < 2.75 + 3


@pytest.mark.core
def test_while_an_alias_is_down_each_connect_makes_one_try(proxied: Proxied, admin: Admin) -> None:
    connection, between = proxied(recycle={"connect_retries": 1})
    connection.ensure_connection()
    connection.close()
    give_back = take_away(between)
    assert tries_of(between, connection.ensure_connection)[0] == 2
    tries, seconds = tries_of(between, connection.ensure_connection)
    assert tries == 1
    assert seconds < 1
    give_back()
    assert value(connection, "SELECT 5 + 0") == 5
    connection.close()
    take_away(between)
    assert tries_of(between, connection.ensure_connection)[0] == 2


def test_time_that_is_given_is_used(proxied: Proxied) -> None:
    connection, between = proxied(recycle={"connect_retries": 50}, options={"connect_timeout": 3})
    connection.ensure_connection()
    connection.close()
    take_away(between)
    _, seconds = tries_of(between, connection.ensure_connection)
    assert 2 <= seconds < 5


def test_host_that_does_not_answer_leaves_time_for_another_try(proxied: Proxied) -> None:
    connection, between = proxied(options={"connect_timeout": 6})
    between.reply_limit = 0

    def answer_the_next_one() -> None:
        wait_for(lambda: between.connections, "the first try")
        time.sleep(0.3)  # its greeting has been dropped by then
        between.reply_limit = None

    begun = time.monotonic()
    with soon(0, answer_the_next_one):
        assert value(connection, "SELECT 5 + 0") == 5
    assert 1.5 < time.monotonic() - begun < 5
    assert len(between.connections) == 2


@pytest.fixture
def full_server(own_server: Callable[..., Server]) -> Iterator[tuple[Server, Callable[[], None]]]:
    """A server that has no room for another application, and what makes some."""
    server = own_server()
    with ExitStack() as stack:
        admin = stack.enter_context(Admin(server))
        make_application(admin)
        admin.rows("SET GLOBAL max_connections = 10")
        with pytest.raises(pymysql.OperationalError) as full:
            while True:
                last = pymysql.connect(
                    host=server.host,
                    port=server.port,
                    user="application",
                    password="application",
                    ssl={"ca": str(server.ca)},
                )
                stack.callback(last.close)
        assert full.value.args[0] == 1040
        closing = stack.pop_all()
        yield server, closing.close
        closing.close()


def test_server_without_room_is_asked_once_more_after_half_a_second(
    make_connection: ConnectionFactory, full_server: tuple[Server, Callable[[], None]]
) -> None:
    server, make_room = full_server
    connection = make_connection(server=server, **APPLICATION)
    failover.of(connection.alias).connected(server.host)
    begun = time.monotonic()
    error = outcome(connection.ensure_connection)
    assert error is not None and code_of(error) == 1040
    assert 0.5 <= time.monotonic() - begun < 2
    failover.of(connection.alias).connected(server.host)
    with soon(0.2, make_room):
        assert value(connection, "SELECT 5 + 0") == 5


class Refusing:
    """What answers each connection with an error packet in the place of a greeting."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.listener.getsockname()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        packet = b"\xff" + struct.pack("<H", self.number) + b"no server is there"
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.sendall(struct.pack("<I", len(packet)) + packet)
            sock.close()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


@pytest.mark.parametrize("number", [2003, 3032, 1053])
def test_error_packet_of_a_proxy_means_not_now_with_both_drivers(
    proxied: Proxied, admin: Admin, number: int
) -> None:
    connection, between = proxied()
    assert value(connection, "SELECT 5 + 0") == 5
    kill(admin, connection)
    target = between.target
    refusing = Refusing(number)
    try:
        between.retarget(*refusing.address)
        with soon(0.2, lambda: between.retarget(*target)):
            assert value(connection, "SELECT 6 + 0") == 6
    finally:
        refusing.close()


def test_name_that_has_never_been_resolved_is_not_tried_again(
    make_connection: ConnectionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django_mysql_recycle import opening

    pauses: list[float] = []
    monkeypatch.setattr(opening, "sleep", pauses.append)
    connection = make_connection(HOST="nowhere.invalid")
    failover.of(connection.alias).connected("elsewhere.invalid")
    with pytest.raises(Error):
        connection.ensure_connection()
    assert pauses == []
    # It is, where it has led to a server before.
    failover.of(connection.alias).connected("nowhere.invalid")
    with pytest.raises(OperationalError):
        connection.ensure_connection()
    assert len(pauses) == 4


def test_wrong_password_is_not_tried_again(proxied: Proxied) -> None:
    connection, between = proxied(PASSWORD="wrong")
    assert tries_of(between, connection.ensure_connection)[0] == 1


def test_child_of_a_fork_knows_that_the_settings_are_right(connection: Connection) -> None:
    connection.ensure_connection()
    state = failover.of(connection.alias)
    state.gave_up()
    failover._aliases.after_fork_in_child()
    child = failover.of(connection.alias)
    assert child is not state
    assert (child.has_connected, child.down, child.hosts) == (True, False, state.hosts)
