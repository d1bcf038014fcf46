"""What a long life costs."""

from __future__ import annotations

import weakref
from pathlib import Path

from .admin import Admin
from .connections import Connection, ConnectionFactory
from .queries import connection_id, kill


def test_recycling_leaks_neither_descriptors_nor_sessions(
    connection: Connection, admin: Admin
) -> None:
    connection_id(connection)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        connection_id(connection)
        kill(admin, connection)
    connection_id(connection)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_closing_lets_go_of_the_last_result(
    make_connection: ConnectionFactory, engine: str
) -> None:
    connection = make_connection(engine)
    connection_id(connection)
    # PyMySQL's connection holds the rows that it has read last.
    closed = weakref.ref(connection.connection)
    connection.close()
    assert closed() is None
    assert connection_id(connection)
