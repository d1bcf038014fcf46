"""An instrumented backend as those of tracing libraries: it knows nothing of ours."""

from __future__ import annotations

from typing import Any

from django.db.backends.mysql.base import DatabaseWrapper as MySQLDatabaseWrapper


class TracingCursor:
    """Notes what goes through it, and hands on everything else."""

    def __init__(self, cursor: Any, trace: list[str]) -> None:
        self._cursor = cursor
        self._trace = trace

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __iter__(self) -> Any:
        return iter(self._cursor)

    def execute(self, query: Any, args: Any = None) -> Any:
        self._trace.append(f"execute {query}")
        return self._cursor.execute(query, args)

    def executemany(self, query: Any, args: Any) -> Any:
        self._trace.append(f"executemany {query}")
        return self._cursor.executemany(query, args)


class TracingConnection:
    """A driver's connection inside a proxy object."""

    def __init__(self, connection: Any, trace: list[str]) -> None:
        self.__dict__.update(_connection=connection, _trace=trace)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._connection, name, value)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        return TracingCursor(self._connection.cursor(*args, **kwargs), self._trace)

    def close(self) -> None:
        self._trace.append("close")
        self._connection.close()


class InstrumentedWrapper(MySQLDatabaseWrapper):
    """Wraps cursors and connections, as an instrumented backend does, around Django's own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.trace: list[str] = []

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        self.trace.append("connect")
        return super().get_new_connection(conn_params)

    def create_cursor(self, name: str | None = None) -> Any:
        return TracingCursor(super().create_cursor(name), self.trace)


class ProxiedWrapper(MySQLDatabaseWrapper):
    """Puts the driver's connection into a proxy object."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.trace: list[str] = []

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        self.trace.append("connect")
        return TracingConnection(super().get_new_connection(conn_params), self.trace)
