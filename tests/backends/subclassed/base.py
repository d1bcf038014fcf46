"""A user's own subclass of ours, which wraps what ours makes."""

from __future__ import annotations

from typing import Any

from django_mysql_recycle.base import DatabaseWrapper as RecyclingWrapper

from ..tracing import TracingConnection, TracingCursor


class DatabaseWrapper(RecyclingWrapper):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.trace: list[str] = []

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        self.trace.append("connect")
        return TracingConnection(super().get_new_connection(conn_params), [])

    def create_cursor(self, name: str | None = None) -> Any:
        return TracingCursor(super().create_cursor(name), self.trace)
