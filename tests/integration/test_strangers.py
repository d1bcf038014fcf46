"""What other people's code does to a connection in the middle of ours: receivers, handlers, rows."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, close_old_connections, connections
from django.db.backends.signals import connection_created
from django.db.utils import ConnectionHandler

from django_mysql_recycle import SessionStateLost, counters, pinned
from django_mysql_recycle.base import DatabaseWrapper
from django_mysql_recycle.signals import connection_recycled

from .acts import alarm, in_a_driver, insert, listening, owners, rest
from .admin import Admin
from .connections import OURS, Connection, ConnectionFactory, Proxied
from .queries import connection_id, idle_out, kill, run, settle, value
from .test_events import close, receiving


class SoftTimeLimit(Exception):
    pass


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT 1", [(1,)]),
        ("SET @a = 1", []),
        ("UPDATE testapp_account SET balance = 1", []),
        ("CALL strangers()", []),
    ],
)
def test_handler_that_closes_the_connection_after_the_answer_leaves_it_an_answer(
    connection: Connection, sql: str, rows: list[Any]
) -> None:
    run(connection, "DROP PROCEDURE IF EXISTS strangers")
    run(connection, "CREATE PROCEDURE strangers() DO 1")
    cursor = connection.cursor()
    inner = cursor.cursor.cursor

    def execute(*args: Any) -> Any:
        answer = type(inner).execute(inner, *args)
        connections.close_all()
        return answer

    inner.execute = execute
    cursor.execute(sql)
    assert list(cursor.fetchall() or []) == rows
    assert value(connection, "SELECT 5") == 5
    run(connection, "DROP PROCEDURE strangers")


def test_rows_that_close_the_connection_break_nothing(connection: Connection, admin: Admin) -> None:
    insert(connection, "another")

    def rows() -> Iterator[tuple[int]]:
        yield (7,)
        connection.close()

    with connection.cursor() as cursor:
        cursor.executemany("UPDATE testapp_account SET balance = %s", rows())
    assert admin.value("SELECT balance FROM testapp_account") == 7


@pytest.mark.parametrize("entering", [False, True])
def test_receiver_that_is_cut_short_does_not_answer_for_the_application(
    connection: Connection, admin: Admin, entering: bool
) -> None:
    run(connection, "SELECT 1")

    def receiver(connection: Any, **facts: Any) -> None:
        with alarm(0.05, SoftTimeLimit, where=in_a_driver):
            run(connection, "SELECT 'the receiver', SLEEP(0.3)")

    kill(admin, connection)
    with listening(connection) as received, receiving(connection_recycled, receiver):
        if entering:
            connection.set_autocommit(False)
        assert value(connection, "SELECT 'application'") == "application"
    assert received.recycled == ["closed", "interrupted"]
    # The third connection is not shown to who has lost two, and that is counted all the same.
    assert counters()[connection.alias]["recycled"] == {"closed": 1, "interrupted": 2}


def test_no_receiver_is_called_inside_itself(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(recycle={"idle_limit": 0.2})
    run(connection, "SELECT 1")
    depth = [0]

    def receiver(connection: Any, **facts: Any) -> None:
        depth[0] += 1
        time.sleep(0.3)
        run(connection, "SELECT 1")

    with receiving(connection_recycled, receiver):
        time.sleep(0.3)
        assert value(connection, "SELECT 2") == 2
    assert depth == [1]


def test_receiver_that_closes_the_connection_does_not_switch_autocommit_on(
    connection: Connection, admin: Admin
) -> None:
    run(connection, "SELECT 1")
    connection.set_autocommit(False)
    admin.kill(connection.connection.thread_id())
    settle()
    with receiving(connection_recycled, close):
        insert(connection, "undone")
        connection.rollback()
    assert not connection.get_autocommit()
    assert owners(admin) == []


def test_pin_by_hand_holds_although_a_receiver_has_closed_the_first_connection(
    connection: Connection, admin: Admin
) -> None:
    def close_once(connection: Any, **kwargs: Any) -> None:
        connection_created.disconnect(close_once)
        connection.close()

    connection_created.connect(close_once)
    connection.ensure_connection()
    with pinned(connection.alias):
        run(connection, "SELECT 1")
        kill(admin, connection)
        with pytest.raises(SessionStateLost):
            run(connection, "SELECT 1")


def test_begin_is_repeated_once(proxied: Proxied) -> None:
    connection, between = proxied()
    run(connection, "SELECT 1")
    between.cut_at(b"BEGIN")

    def cut_again(**facts: Any) -> None:
        between.cut_at(b"BEGIN")

    with listening(connection) as received, receiving(connection_recycled, cut_again):
        with pytest.raises(OperationalError):
            run(connection, "BEGIN")
    assert received.repeated == ["lost"]


@pytest.mark.parametrize("ends", [close_old_connections, connections.close_all])
def test_what_a_replaced_connection_knew_is_forgotten_with_the_unit_of_work(
    make_connection: ConnectionFactory, admin: Admin, ends: Callable[[], None]
) -> None:
    connection = make_connection(CONN_MAX_AGE=0)
    insert(connection, "first request")
    kill(admin, connection)
    run(connection, "SELECT 1")
    ends()
    assert connection.connection is None
    assert value(connection, "SELECT LAST_INSERT_ID()") == 0  # as on the stock backend


def test_subclass_that_opens_connections_by_itself_is_served(
    make_connection: ConnectionFactory, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    class OwnWay(DatabaseWrapper):
        def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
            return self.Database.connect(**conn_params)

    made = make_connection(OURS)
    connection = OwnWay(made.settings_dict, made.alias)
    try:
        assert value(connection, "SELECT 1") == 1
        first = connection_id(connection)
        idle_out(admin, connection)
        assert connection_id(connection) != first
        assert len(recycles) == 1
        assert value(made, "SELECT 1") == 1
    finally:
        connection.close()


def test_connection_opened_by_hand_costs_the_one_in_use_no_pins(
    connection: Connection, admin: Admin
) -> None:
    run(connection, "SELECT GET_LOCK('mine', 0)")
    connection.get_new_connection(connection.get_connection_params()).close()
    admin.kill(connection.connection.thread_id())
    settle()
    with pytest.raises(SessionStateLost):
        run(connection, "SELECT 1")


def test_connection_opened_by_hand_costs_the_one_in_use_no_transaction(
    connection: Connection, admin: Admin
) -> None:
    connection.set_autocommit(False)
    insert(connection, "first half")
    connection.get_new_connection(connection.get_connection_params()).close()
    admin.kill(connection.connection.thread_id())
    settle()
    with pytest.raises(DatabaseError):
        insert(connection, "second half")
    connection.rollback()


def test_cursor_from_before_another_connection_was_put_in_place_keeps_the_books(
    connection: Connection, admin: Admin
) -> None:
    with connection.cursor() as cursor:
        own: Any = connection.connection
        connection.connection = connection.get_new_connection(connection.get_connection_params())
        run(connection, "SELECT 1")
        connection.connection.close()
        connection.connection = own
        run(connection, "SELECT 1")
        cursor.execute("INSERT INTO testapp_account (owner, balance) VALUES ('numbered', 0)")
    admin.kill(own.thread_id())
    settle()
    run(connection, "SELECT 1")
    with pytest.raises(SessionStateLost):
        run(connection, "SELECT LAST_INSERT_ID()")


def test_default_timeout_of_sockets_leaves_the_drivers_alone(
    make_connection: ConnectionFactory, engine: str
) -> None:
    connection = make_connection(engine)
    socket.setdefaulttimeout(20)
    try:
        connection.ensure_connection()
    finally:
        socket.setdefaulttimeout(None)
    driver_connection: Any = connection.connection
    descriptor = (
        driver_connection.fileno()
        if hasattr(driver_connection, "fileno")
        else driver_connection._sock.fileno()
    )
    assert os.get_blocking(descriptor)
    assert value(connection, "SELECT 1") == 1


def test_connection_that_rested_is_the_handlers_own(make_connection: ConnectionFactory) -> None:
    # A handler of Django's of one's own, as libraries make them for a database apart.
    made = make_connection()
    handler = ConnectionHandler({"default": made.settings_dict})
    own = handler["default"]
    try:
        assert connection_id(own) != connection_id(made)
        rest(own)
        assert value(own, "SELECT 1") == 1
    finally:
        own.close()


def test_replaced_ensure_connection_may_call_the_one_it_has_replaced(
    make_connection: ConnectionFactory, engine: str
) -> None:
    """Django's own tests do that, with the method that they took from the instance before."""
    connection = make_connection(engine)
    real = connection.ensure_connection
    opened: list[bool] = []

    def replacement(_self: Any) -> None:
        opened.append(connection.connection is None)
        real()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "ensure_connection", replacement)
        assert value(connection, "SELECT 1") == 1
        assert value(connection, "SELECT 2") == 2
    assert opened[0] is True
    assert value(connection, "SELECT 3") == 3
