"""State whose loss is reported when a request ends: the next borrower has none of it."""

from __future__ import annotations

from typing import Any

import pytest

from django_mysql_recycle import SessionStateLost

from ..admin import Admin
from ..connections import STOCK, ConnectionFactory
from ..queries import connection_id, run

BEGINS = ["BEGIN", "START TRANSACTION", "SET autocommit = 0"]


def write_in_a_transaction(connection: Any, begin: str) -> None:
    run(connection, begin)
    run(connection, "INSERT INTO testapp_account (owner, balance) VALUES ('first half', 0)")


@pytest.mark.parametrize("how", ["close", "close_if_unusable_or_obsolete"])
@pytest.mark.parametrize("begin", BEGINS)
def test_an_open_transaction_of_a_request_is_never_in_the_next_one(
    make_connection: ConnectionFactory, admin: Admin, begin: str, how: str
) -> None:
    connection: Any = make_connection(options={"pool": {"max_size": 1}})
    first = connection_id(connection)
    write_in_a_transaction(connection, begin)
    getattr(connection, how)()
    try:
        run(connection, "BEGIN")  # which would commit it
    except SessionStateLost:
        run(connection, "BEGIN")
    run(connection, "COMMIT")
    assert connection_id(connection) != first
    assert admin.rows("SELECT owner FROM testapp_account") == []
    connection.close_pool()


@pytest.mark.parametrize("begin", BEGINS)
def test_control_stock_backend_with_max_age_zero_does_the_same(
    make_connection: ConnectionFactory, admin: Admin, begin: str
) -> None:
    connection = make_connection(STOCK, CONN_MAX_AGE=0)
    write_in_a_transaction(connection, begin)
    connection.close_if_unusable_or_obsolete()
    run(connection, "BEGIN")
    run(connection, "COMMIT")
    assert admin.rows("SELECT owner FROM testapp_account") == []
