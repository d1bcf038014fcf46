"""The connection of an administrator: PyMySQL over the unix socket, whatever driver is measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pymysql

from servers import Endpoint


class Admin:
    """Asks the server, and kills connections, independently of the measured backend."""

    def __init__(self, target: Endpoint) -> None:
        self._connection: pymysql.Connection[Any] = pymysql.connect(
            unix_socket=target.socket,
            user=target.user,
            password=target.password,
            database=target.database,
            ssl_disabled=True,
            autocommit=True,
            read_timeout=30,
            # Independently of the server's own limit.
            init_command="SET SESSION wait_timeout = 28800",
        )

    def __enter__(self) -> Admin:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._connection.close()

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return list(cursor.fetchall())

    def value(self, sql: str, *parameters: Any) -> Any:
        return self.rows(sql, *parameters)[0][0]

    def sessions(self, database: str = "") -> list[int]:
        """The ids of the connections of other clients, or of those to one database."""
        listed = self.rows(
            "SELECT id, db FROM information_schema.processlist WHERE id <> CONNECTION_ID()"
            " AND user NOT IN ('system user', 'event_scheduler', 'unauthenticated user')"
        )
        return [number for number, name in listed if not database or name == database]

    def kill(self, number: int) -> None:
        """KILL a connection. It is no error if the connection has already ended."""
        try:
            self.rows(f"KILL {number:d}")
        except pymysql.MySQLError as error:
            if error.args[0] != 1094:  # no such connection
                raise

    def connections_so_far(self) -> int:
        """How many connections the server has accepted since its start, with this one."""
        return int(self.rows("SHOW GLOBAL STATUS LIKE 'Connections'")[0][1])


def wait_for(condition: Callable[[], Any], what: str, *, seconds: float = 15) -> None:
    """Call `condition()` until it is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.005)
