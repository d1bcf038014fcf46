"""What the log says of the pool, and of connections that a pool should keep."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import connections
from django.db.backends.signals import connection_created

from ..acts import receiving
from ..connections import ConnectionFactory
from ..queries import connection_id

PERSISTENT = "CONN_MAX_AGE keeps the connections"


def in_a_request(alias: str) -> None:
    """Use the connection where an ASGI handler would, and close it."""

    def use() -> None:
        connection_id(connections[alias])
        connections[alias].close()

    async def request() -> None:
        async with ThreadSensitiveContext():
            await sync_to_async(use, thread_sensitive=True)()

    asyncio.run(request())


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"CONN_MAX_AGE": 60}, True),
        ({"CONN_MAX_AGE": None}, True),
        ({"CONN_MAX_AGE": 0}, False),
        ({"CONN_MAX_AGE": 60, "options": {"pool": True}}, False),
    ],
)
def test_persistent_connections_under_asgi_are_warned_about_once(
    make_connection: ConnectionFactory,
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, Any],
    warned: bool,
) -> None:
    connection: Any = make_connection(**settings)
    for _ in range(2):
        in_a_request(connection.alias)
    said = [record.getMessage() for record in caplog.records]
    assert sum(PERSISTENT in message for message in said) == warned
    connection.close_pool()


def test_persistent_connections_of_ordinary_threads_are_not_warned_about(
    make_connection: ConnectionFactory, caplog: pytest.LogCaptureFixture
) -> None:
    connection_id(make_connection(CONN_MAX_AGE=60))
    assert PERSISTENT not in caplog.text


def test_receivers_that_run_sql_are_reported_once(
    make_connection: ConnectionFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "django_mysql_recycle")
    connection: Any = make_connection(options={"pool": True})

    def receiver(connection: Any, **_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")

    with receiving(connection_created, receiver):
        first = connection_id(connection)
        connection.close()
        assert connection_id(connection) == first
    assert caplog.text.count("receivers of connection_created run SQL") == 1
    connection.close_pool()
