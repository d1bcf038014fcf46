"""Statements and losses in one line each."""

from __future__ import annotations

import time
from typing import Any

from .admin import Admin
from .connections import Connection


def run(connection: Connection, sql: Any, *parameters: Any) -> list[tuple[Any, ...]]:
    """Run one statement of the application's and return its rows."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return list(cursor.fetchall()) if cursor.description else []


def value(connection: Connection, sql: Any, *parameters: Any) -> Any:
    """Run one statement and return the first column of its first row."""
    return run(connection, sql, *parameters)[0][0]


def connection_id(connection: Connection) -> int:
    """Return the server's number of the connection that serves the next statement."""
    return int(value(connection, "SELECT CONNECTION_ID()"))


def kill(admin: Admin, *connections: Connection) -> None:
    """KILL the connections, opening those that are closed, and return once the client can notice."""
    for connection in connections:
        admin.kill(connection_id(connection))
    settle()


def idle_out(admin: Admin, *connections: Connection) -> None:
    """Let the server close the connections by its `wait_timeout`, set to a second in each session."""
    ids = []
    for connection in connections:
        ids.append(connection_id(connection))
        run(connection, "SET SESSION wait_timeout = 1")
    for number in ids:
        admin.wait_until_closed(number)
    settle()


def settle() -> None:
    """Rest longer than the millisecond in which the liveness check is skipped."""
    time.sleep(0.02)
