"""A transaction that SQL began is lost: who goes on in the same function, and who has left it."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction
from django.db.utils import Error

from django_mysql_recycle import SessionStateLost

from .acts import insert, owners
from .admin import Admin
from .connections import STOCK, Connection, ConnectionFactory
from .queries import kill

INSERT = "INSERT INTO testapp_account (owner, balance) VALUES (%s, 0)"


def transfer(connection: Any, admin: Admin) -> None:
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(INSERT, ["first half"])
        kill(admin, connection)
        cursor.execute(INSERT, ["second half"])
        cursor.execute("COMMIT")


@pytest.mark.core
def test_whoever_has_left_the_function_by_the_error_meets_no_other(
    connection: Connection, admin: Admin
) -> None:
    with pytest.raises(SessionStateLost):
        transfer(connection, admin)
    insert(connection, "another unit of work")
    with transaction.atomic(using=connection.alias):
        insert(connection, "and one in a block")
    assert owners(admin) == ["and one in a block", "another unit of work"]


@pytest.mark.core
def test_whoever_goes_on_in_the_same_function_commits_nothing(
    make_connection: ConnectionFactory, admin: Admin, engine: str
) -> None:
    connection = make_connection(engine)
    failed = []
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        for number in range(6):
            if number == 3:
                kill(admin, connection)
            try:
                cursor.execute(INSERT, [f"row {number}"])
            except Error:
                failed.append(number)
        with pytest.raises(Error):
            cursor.execute("COMMIT")
    assert failed == [3, 4, 5]
    assert owners(admin) == []
    if engine == STOCK:
        connection.close()
    insert(connection, "after")
    assert owners(admin) == ["after"]
