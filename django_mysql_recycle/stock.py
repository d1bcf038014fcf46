"""Django's own MySQL backend. The driver is chosen before the import, which binds it by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

from .drivers import choose, versions

__all__ = ["CursorWrapper", "DatabaseWrapper", "driver"]

driver = choose()

try:
    from django.db.backends.mysql.base import CursorWrapper, DatabaseWrapper
except ImproperlyConfigured as error:
    raise versions.explained(driver.name, error) from error

if TYPE_CHECKING:
    from .wrapper import Wrapper

    class Base(DatabaseWrapper, Wrapper):
        """Django's wrapper with what RecycleMixin uses of it and no stubs describe."""

        health_check_done: bool
        health_check_enabled: bool

        def _cursor(self, name: str | None = None) -> Any: ...
        def _prepare_cursor(self, cursor: Any) -> Any: ...
        def _set_autocommit(self, autocommit: bool) -> None: ...
        def _commit(self) -> None: ...
        def _rollback(self) -> None: ...
        def _close(self) -> None: ...
        def _savepoint(self, sid: str) -> None: ...
        def _savepoint_allowed(self) -> bool: ...
