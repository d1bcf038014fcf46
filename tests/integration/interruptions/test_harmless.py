"""Exceptions that leave nothing in the middle: nothing was sent, or the whole answer was read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import time as time_of_day
from typing import Any

import pytest
from django.db import transaction
from django.db.utils import Error

from django_mysql_recycle import SessionStateLost

from ...testapp.models import Account
from ..acts import (
    assert_works,
    insert,
    listening,
    owners,
)
from ..admin import Admin
from ..connections import Connection, ConnectionFactory, unbuffered
from ..queries import connection_id, run
from .conftest import (
    SoftTimeLimit,
)


class Unwritable:
    def __str__(self) -> str:
        raise SoftTimeLimit

    __repr__ = __str__


def rows_that_raise() -> Iterator[tuple[str, int]]:
    yield "a", 1
    raise SoftTimeLimit


BEFORE_SENDING: dict[str, tuple[Any, Callable[[Connection], Any]]] = {
    "parameter that cannot be written": (
        Exception,
        lambda connection: run(connection, "SELECT %s", Unwritable()),
    ),
    "too few parameters": (Exception, lambda connection: run(connection, "SELECT %s, %s", 1)),
    "no text": (Exception, lambda connection: run(connection, object())),
    "rows of the application": (SoftTimeLimit, lambda connection: many(connection)),
}


def many(connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO testapp_account (owner, balance) VALUES (%s, %s)", rows_that_raise()
        )


@pytest.mark.parametrize("case", BEFORE_SENDING)
@pytest.mark.parametrize("inside", ["plain", "atomic"])
def test_exception_before_anything_was_sent_costs_no_connection(
    connection: Connection, admin: Admin, case: str, inside: str
) -> None:
    error, act = BEFORE_SENDING[case]
    before = connection_id(connection)
    with listening(connection) as received:
        if inside == "atomic":
            with transaction.atomic(using=connection.alias):
                with pytest.raises(error):
                    act(connection)
                insert(connection, "after")
        else:
            with pytest.raises(error):
                act(connection)
            insert(connection, "after")
    assert received.recycled == []
    assert connection_id(connection) == before
    assert owners(admin) == ["after"]


def test_error_of_the_orm_before_sending_costs_no_connection(
    connection: Connection, admin: Admin
) -> None:
    before = connection_id(connection)
    with transaction.atomic(using=connection.alias):
        with pytest.raises(ValueError), transaction.atomic(using=connection.alias):
            Account.objects.using(connection.alias).create(owner="a", balance="many")  # type: ignore[misc]
        Account.objects.using(connection.alias).create(owner="b")
    assert connection_id(connection) == before
    assert owners(admin) == ["b"]


TOO_LONG_FOR_PYTHON = "SELECT SEC_TO_TIME(100000) UNION SELECT SEC_TO_TIME(1)"


def test_value_that_cannot_be_converted_costs_a_transaction_no_more_than_on_the_stock_backend(
    make_connection: ConnectionFactory, admin: Admin, driver: str, engine: str
) -> None:
    connection = make_connection(engine)
    with suppress(Error), transaction.atomic(using=connection.alias):
        insert(connection, "a")
        with pytest.raises(ValueError, match="hour"):
            run(connection, TOO_LONG_FOR_PYTHON)
        insert(connection, "b")
    # PyMySQL gives up in the middle of the rows.
    assert owners(admin) == (["a", "b"] if driver == "mysqlclient" else [])


def test_value_of_an_unbuffered_row_that_cannot_be_converted_costs_that_row_alone(
    make_connection: ConnectionFactory, admin: Admin, driver: str, engine: str
) -> None:
    connection = make_connection(engine, options=unbuffered(driver))
    with transaction.atomic(using=connection.alias):
        insert(connection, "a")
        with connection.cursor() as cursor:
            cursor.execute(TOO_LONG_FOR_PYTHON)
            with pytest.raises(ValueError, match="hour"):
                cursor.fetchone()
            assert cursor.fetchone() == (time_of_day(0, 0, 1),)
            assert cursor.fetchone() is None
        insert(connection, "b")
    assert owners(admin) == ["a", "b"]


def test_value_that_cannot_be_converted_leaves_the_next_statement_its_own_answer(
    connection: Connection, admin: Admin, driver: str
) -> None:
    before = connection_id(connection)
    run(connection, "SELECT GET_LOCK('held', 0)")
    with pytest.raises(ValueError, match="hour"):
        run(connection, TOO_LONG_FOR_PYTHON)
    if driver == "pymysql":
        with pytest.raises(SessionStateLost, match="held"):
            run(connection, "SELECT 1")
    assert (connection_id(connection) == before) == (driver == "mysqlclient")
    assert_works(connection, admin)
