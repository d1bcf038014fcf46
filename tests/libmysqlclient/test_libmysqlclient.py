"""libmysqlclient reports 2013 where Connector/C says 2006: what is proved, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db.utils import OperationalError

from servers import FaultProxy
from tests.integration.acts import (
    assert_works,
    code_of,
    insert,
    kill,
    listening,
    owners,
    rest,
    wait_until_hung_up,
)
from tests.integration.admin import Admin
from tests.integration.connections import ConnectionFactory
from tests.integration.queries import run

BLIND: dict[str, Any] = {"liveness_check": False, "ping_after": None}
TRANSPORTS = ["tcp", "tls", "socket"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_connection_that_was_killed_is_replaced_before_the_statement(
    make_connection: ConnectionFactory, admin: Admin, transport: Any
) -> None:
    connection = make_connection(transport=transport)
    run(connection, "SELECT 1")
    kill(admin, connection)
    with listening(connection) as received:
        insert(connection, "new")
    assert (received.recycled, received.repeated) == (["closed"], [])
    assert owners(admin) == ["new"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_statement_on_a_killed_connection_that_was_not_looked_at_raises_2013(
    make_connection: ConnectionFactory, admin: Admin, transport: Any
) -> None:
    connection = make_connection(transport=transport, recycle=BLIND)
    run(connection, "SELECT 1")
    kill(admin, connection)
    rest(connection)
    connection.guard.connection.set_wait_timeout(None)  # type: ignore[attr-defined]
    with listening(connection) as received:
        with pytest.raises(OperationalError) as caught:
            insert(connection, "new")
    assert code_of(caught.value) == 2013
    assert received.repeated == []
    assert owners(admin) == []
    insert(connection, "new")
    assert owners(admin) == ["new"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_statement_after_an_idle_timeout_is_run_once_more(
    make_connection: ConnectionFactory, admin: Admin, transport: Any
) -> None:
    connection = make_connection(
        transport=transport,
        recycle=BLIND,
        options={"init_command": "SET SESSION wait_timeout = 1"},
    )
    run(connection, "SELECT 1")
    connection.guard.connection.set_wait_timeout(None)  # type: ignore[attr-defined]
    wait_until_hung_up(connection)
    with listening(connection) as received:
        insert(connection, "new")
    assert received.repeated == ["lost"]
    assert owners(admin) == ["new"]
    assert_works(connection, admin)


def test_proxy_reads_statements_with_query_attributes(
    make_connection: ConnectionFactory, admin: Admin, proxy: Callable[..., FaultProxy]
) -> None:
    between = proxy()
    connection = make_connection(via=between)
    insert(connection, "new")
    assert between.connections[0].queries()[-1].startswith("INSERT INTO testapp_account")
