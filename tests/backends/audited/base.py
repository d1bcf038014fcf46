"""Ours in front of a backend that runs statements of its own where transactions begin and end."""

from __future__ import annotations

from django.db.backends.mysql.base import DatabaseWrapper as MySQLDatabaseWrapper

from django_mysql_recycle.base import RecycleMixin


class AuditedWrapper(MySQLDatabaseWrapper):
    def note(self, text: str) -> None:
        with self.cursor() as cursor:
            cursor.execute("SET @audit = CONCAT(COALESCE(@audit, ''), %s)", [text])

    def _set_autocommit(self, autocommit: bool) -> None:
        super()._set_autocommit(autocommit)  # type: ignore[misc]
        if not autocommit:
            self.note("begun ")

    def _commit(self) -> None:
        self.note("commit ")
        super()._commit()  # type: ignore[misc]

    def _rollback(self) -> None:
        super()._rollback()  # type: ignore[misc]
        self.note("rollback ")


class DatabaseWrapper(RecycleMixin, AuditedWrapper):
    pass
