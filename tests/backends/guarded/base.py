"""Ours in front of a backend whose cursors refuse some statements and convert errors.

Its executemany() looks at its rows as a list, which an application may have given as something
else that has a length.
"""

from __future__ import annotations

from typing import Any

from django.db.backends.mysql.base import DatabaseWrapper as MySQLDatabaseWrapper

from django_mysql_recycle.base import RecycleMixin


class Refused(Exception):
    """The guard does not let the statement through."""


class Converted(Exception):
    """What the guard makes of the driver's errors."""


class GuardedCursor:
    def __init__(self, cursor: Any, errors: type[Exception]) -> None:
        self.cursor = cursor
        self.errors = errors
        self.counted = 0

    def execute(self, query: Any, args: Any = None) -> Any:
        if "forbidden" in str(query):
            raise Refused
        try:
            return self.cursor.execute(query, args)
        except self.errors as error:
            raise Converted from error

    def executemany(self, query: Any, args: Any) -> Any:
        self.counted += len(args)
        return self.cursor.executemany(query, args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cursor, name)

    def __iter__(self) -> Any:
        return iter(self.cursor)


class GuardedWrapper(MySQLDatabaseWrapper):
    def create_cursor(self, name: str | None = None) -> Any:
        return GuardedCursor(super().create_cursor(name), self.Database.Error)


class DatabaseWrapper(RecycleMixin, GuardedWrapper):
    pass
