"""`pinned()`: state that only the application knows of."""

from __future__ import annotations

from typing import Any

import pytest

from django_mysql_recycle import SessionStateLost, pinned

from ..acts import (
    assert_works,
    insert,
    kill,
    listening,
    owners,
    rest,
)
from ..admin import Admin
from ..connections import STOCK, Connection, ConnectionFactory
from ..queries import run, value

#: mysqlclient allows several statements in one text by itself; FOUND_ROWS is Django's.
SEVERAL: dict[str, Any] = {"options": {"client_flag": 65536 | 2}}


@pytest.mark.core
@pytest.mark.parametrize("by", ["alias", "connection"])
def test_connection_can_be_pinned_by_hand(connection: Connection, admin: Admin, by: str) -> None:
    using: Any = connection.alias if by == "alias" else connection
    with pinned(using, "the cache of a procedure"):
        insert(connection, "a")
        kill(admin, connection)
        with pytest.raises(SessionStateLost, match="the cache of a procedure"):
            insert(connection, "b")
        insert(connection, "c")
        kill(admin, connection)
        insert(connection, "d")  # reported once; the new connection has no state
    assert owners(admin) == ["a", "c", "d"]


def test_pinning_by_hand_begins_on_a_living_connection(
    connection: Connection, admin: Admin
) -> None:
    run(connection, "SELECT 1")
    kill(admin, connection)
    with listening(connection) as received, pinned(connection):
        insert(connection, "a")
    assert (received.lost, received.recycled) == ([], ["closed"])
    run(connection, "SELECT GET_LOCK('earlier', 0)")
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match="earlier"), pinned(connection):
        pytest.fail("the lock is lost")


def test_pin_by_hand_holds_what_a_cursor_of_the_drivers_own_does(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(recycle={"idle_limit": 1})
    with pinned(connection.alias, "cursor of the driver's own"):
        with connection.connection.cursor() as cursor:
            cursor.execute("SELECT GET_LOCK('unseen', 0)")
        rest(connection, 2)
        assert value(connection, "SELECT IS_USED_LOCK('unseen') = CONNECTION_ID()") == 1
        kill(admin, connection)
        with pytest.raises(SessionStateLost, match="driver's own"):
            run(connection, "SELECT 1")


def test_pin_by_hand_ends_with_its_block(connection: Connection, admin: Admin) -> None:
    with pinned(connection):
        with pinned(connection):
            run(connection, "SELECT 1")
        kill(admin, connection)
        with pytest.raises(SessionStateLost):
            run(connection, "SELECT 1")
    with pinned(connection):
        run(connection, "SELECT 1")
    kill(admin, connection)
    assert_works(connection, admin)


def test_pin_by_hand_holds_over_the_results_of_several_statements(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(**SEVERAL)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1; SELECT 2")
        with pinned(connection, "begun between them"):
            while cursor.nextset():
                pass
            kill(admin, connection)
            with pytest.raises(SessionStateLost, match="begun between them"):
                run(connection, "SELECT 1")


def test_pin_by_hand_that_ends_before_all_results_are_read_has_ended(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(**SEVERAL)
    with connection.cursor() as cursor:
        with pinned(connection):
            cursor.execute("SELECT 1; SELECT 2")
        while cursor.nextset():
            pass
    kill(admin, connection)
    assert_works(connection, admin)


def test_pin_by_hand_on_the_stock_backend_does_nothing(
    make_connection: ConnectionFactory,
) -> None:
    connection = make_connection(STOCK)
    with pinned(connection):
        assert value(connection, "SELECT 1") == 1
