"""The server's own view: who is connected, which rows are there."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

import pymysql
import pymysql.cursors

from servers import Server


class Admin:
    """A connection that the backend under test has no part in, whatever driver it uses."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection = self._connect()
        self._changed: dict[str, Any] = {}
        self._procedures: set[str] = set()

    def _connect(self) -> pymysql.Connection[Any]:
        return pymysql.connect(
            unix_socket=self._server.socket,
            user=self._server.user,
            password=self._server.password,
            database=self._server.database,
            ssl_disabled=True,
            autocommit=True,
            read_timeout=20,
        )

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows; a server that was restarted meanwhile is no hindrance."""
        try:
            self._connection.ping(reconnect=False)
        except pymysql.MySQLError:
            self._connection = self._connect()
        with self._connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return list(cursor.fetchall())

    def value(self, sql: str, *parameters: Any) -> Any:
        """Run a statement and return the first column of its first row."""
        return self.rows(sql, *parameters)[0][0]

    def status(self, sql: str) -> dict[str, Any]:
        """Run a statement that returns one row, and return it with the names of its columns."""
        with self._connection.cursor(pymysql.cursors.DictCursor) as cursor:
            cursor.execute(sql)
            return dict(cursor.fetchone() or {})

    def connection_ids(self) -> set[int]:
        """Return the ids of all client connections but this one."""
        listed = self.rows(
            "SELECT id FROM information_schema.processlist"
            " WHERE id <> CONNECTION_ID() AND user NOT IN ('system user', 'event_scheduler')"
        )
        return {row[0] for row in listed}

    def connects(self) -> int:
        """Return how many connections the server has accepted since it started."""
        return int(self.rows("SHOW GLOBAL STATUS LIKE 'Connections'")[0][1])

    def kill(self, connection_id: int) -> None:
        """KILL a connection and return once it has left the process list."""
        self.rows(f"KILL {connection_id:d}")
        self.wait_until_closed(connection_id)

    def wait_until_closed(self, connection_id: int, *, timeout: float = 10) -> None:
        """Return once the server no longer lists a connection."""
        deadline = time.monotonic() + timeout
        while connection_id in self.connection_ids():
            assert time.monotonic() < deadline, f"connection {connection_id} is still there"
            time.sleep(0.01)

    def set_global(self, name: str, value: Any) -> None:
        """Set a global variable until the end of the test."""
        self._changed.setdefault(name, self.value(f"SELECT @@GLOBAL.{name}"))
        self.rows(f"SET GLOBAL {name} = %s", value)

    def create_procedure(self, definition: str) -> None:
        """`create_procedure("twice(a INT) SELECT 2 * a")`: a procedure until the end of the test."""
        name = definition.partition("(")[0]
        self._procedures.add(name)
        self.rows(f"DROP PROCEDURE IF EXISTS {name}")
        self.rows(f"CREATE PROCEDURE {definition}")

    def empty_tables(self) -> None:
        """Empty the tables that have rows, whatever their foreign keys say."""
        self.rows("SET SESSION foreign_key_checks = 0, lock_wait_timeout = 10")
        for (table,) in self.rows("SHOW TABLES LIKE 'testapp\\_%%'"):
            if self.rows(f"SELECT 1 FROM {table} LIMIT 1"):
                self.rows(f"TRUNCATE TABLE {table}")

    def __enter__(self) -> Admin:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def restore(self) -> None:
        """Undo what a test has changed; of variables a restarted server knows nothing."""
        for name in self._procedures:
            self.rows(f"DROP PROCEDURE IF EXISTS {name}")
        self._procedures.clear()
        for name, value in self._changed.items():
            self.rows(f"SET GLOBAL {name} = %s", value)
        self._changed.clear()
