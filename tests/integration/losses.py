"""Which connection it is, and how it is lost while nobody uses it."""

from __future__ import annotations

import time

from django.db.backends.base.base import BaseDatabaseWrapper

from .acts import run, value
from .admin import Admin


def connection_id(connection: BaseDatabaseWrapper) -> int:
    """Return the server's number of the connection that serves the next statement."""
    return int(value(connection, "SELECT CONNECTION_ID()"))


def kill(admin: Admin, *connections: BaseDatabaseWrapper) -> None:
    """KILL the connections, opening those that are closed, and return once the client can notice."""
    for connection in connections:
        admin.kill(connection_id(connection))
    settle()


def idle_out(admin: Admin, *connections: BaseDatabaseWrapper) -> None:
    """Let the server close the connections by its `wait_timeout`, set to a second in each session."""
    ids = []
    for connection in connections:
        ids.append(connection_id(connection))
        run(connection, "SET SESSION wait_timeout = 1")
    for number in ids:
        admin.wait_until_gone(number)
    settle()


def settle() -> None:
    """Rest longer than the millisecond in which the liveness check is skipped."""
    time.sleep(0.02)
