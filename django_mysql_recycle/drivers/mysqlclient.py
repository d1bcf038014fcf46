"""mysqlclient, on MariaDB Connector/C or libmysqlclient."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any

from .interface import Attempt, Common, code_objects

__all__ = ["MySQLClient"]


class MySQLClient(Common):
    name = "mysqlclient"
    # It compares with the flag in the answer to its SET NAMES.
    leaves_autocommit: bool | None = True

    def __init__(self) -> None:
        cursors = import_module("MySQLdb.cursors")
        self.unbuffered: type = cursors.CursorUseResultMixIn
        self._adapting = code_objects(cursors.BaseCursor, "_mogrify", "mogrify", "_escape_args")
        self._refusing = code_objects(
            cursors.BaseCursor, "execute", "executemany", "callproc", "_do_execute_many"
        ) | code_objects(cursors, "_backquote_escape")
        # A buffered result has been stored as a whole before its first value is converted.
        self._converting = code_objects(cursors.BaseCursor, "_fetch_row")

    def distrust_autocommit(self, connection: Any) -> None:
        pass  # the flag is that of the answer to SET NAMES

    def descriptor(self, connection: Any) -> int | None:
        # fileno() keeps its number after a loss; the caller forgets it then.
        if not getattr(connection, "open", False):
            return None
        return int(connection.fileno())

    def has_more_results(self, connection: Any, cursor: Any, *, doubtful: bool) -> bool:
        if hasattr(connection, "more_results"):  # mysqlclient 2.3
            return bool(connection.more_results())
        # Before that nothing tells. A CALL ends with a result that has no columns.
        return doubtful and getattr(cursor, "description", None) is not None

    def in_transaction(self, connection: Any) -> bool:  # noqa: ARG002
        return False  # it keeps the server's status to itself

    def send(self, connection: Any, sql: bytes) -> None:
        connection.send_query(sql)

    def receive(self, connection: Any) -> tuple[Any, ...]:
        connection.read_query_result()
        result = connection.store_result()
        return () if result is None else tuple(result.fetch_row(0))

    def abandon(self, connection: Any) -> None:
        with suppress(Exception):
            connection.close()

    def attempt(
        self,
        alias: str,  # noqa: ARG002
        params: dict[str, Any],  # noqa: ARG002
        seconds: float,  # noqa: ARG002
        *,
        spare: bool,  # noqa: ARG002
    ) -> Attempt:
        # Connector/C and libmysqlclient bound the handshake by connect_timeout themselves.
        return Attempt()
