"""System checks. They need no INSTALLED_APPS: Django calls them through the backend."""

from __future__ import annotations

from typing import Any

from django.db.backends.mysql.validation import DatabaseValidation as MySQLDatabaseValidation

__all__ = ["DatabaseValidation"]


class DatabaseValidation(MySQLDatabaseValidation):
    def check(self, **kwargs: Any) -> Any:
        return super().check(**kwargs)
