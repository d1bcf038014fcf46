"""A server that ends idle transactions: its error is raised, and the next transaction works."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.db.utils import DatabaseError

from ..choice import VENDOR
from .acts import Hooks, assert_works, insert, listening, owners, wait_until_hung_up
from .admin import Admin
from .connections import ConnectionFactory
from .queries import run

#: MariaDB has clocks of its own for transactions; on MySQL only the one for all connections.
LIMITS = {
    "mariadb": [
        "idle_transaction_timeout",
        "idle_write_transaction_timeout",
        "idle_readonly_transaction_timeout",
    ],
    "mysql": ["wait_timeout"],
}[VENDOR]


@pytest.mark.parametrize("limit", LIMITS)
def test_transaction_that_idles_too_long_raises_and_the_next_one_works(
    make_connection: ConnectionFactory, admin: Admin, limit: str, hooks: Hooks
) -> None:
    connection = make_connection(options={"init_command": f"SET SESSION {limit} = 1"})
    writes = limit != "idle_readonly_transaction_timeout"
    with listening(connection) as received:
        with pytest.raises(DatabaseError) as caught:
            with transaction.atomic(using=connection.alias):
                if writes:
                    insert(connection, "first half")
                else:
                    run(connection, "SELECT * FROM testapp_account")
                hooks.register(connection, "hook")
                wait_until_hung_up(connection)
                insert(connection, "second half")
        assert isinstance(caught.value.args[0], int)
        assert (received.recycled, received.repeated) == ([], [])
        with transaction.atomic(using=connection.alias):
            insert(connection, "next")
    assert received.recycled == ["lost"]
    assert (owners(admin), hooks) == (["next"], [])
    assert_works(connection, admin)


def test_loss_of_a_transaction_by_sql_that_idles_too_long_is_reported(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    from django_mysql_recycle import SessionStateLost

    connection = make_connection(options={"init_command": f"SET SESSION {LIMITS[0]} = 1"})
    run(connection, "START TRANSACTION")
    insert(connection, "first half")
    wait_until_hung_up(connection)
    with pytest.raises(SessionStateLost, match="transaction"):
        insert(connection, "second half")
    run(connection, "ROLLBACK")
    insert(connection, "next")
    assert owners(admin) == ["next"]
