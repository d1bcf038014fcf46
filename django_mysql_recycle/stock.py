"""Django's own MySQL backend. The driver is chosen before the import, which binds it by name."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.asyncio import async_unsafe

from .drivers import choose, versions

__all__ = ["REPLACED", "CursorWrapper", "DatabaseWrapper", "djangos_own", "driver"]

#: Stands for a function of Django's in whose place something else has been put.
REPLACED: Any = object()

driver = choose()

try:
    from django.db.backends.mysql.base import CursorWrapper, DatabaseWrapper
except ImproperlyConfigured as error:
    raise versions.explained(driver.name, error) from error


def djangos_own(function: Any) -> Any:
    """The function, if Django's source has it as it is; else `REPLACED`.

    Instrumentations put functions of their own in the place of Django's, often before this package
    is imported. A wrapper takes over the name and the module of what it wraps, so what counts is
    the module that a function was written in.
    """
    written = function
    if type(function) is FunctionType and function.__globals__ is async_unsafe.__globals__:
        written = getattr(function, "__wrapped__", None)
    module = str(getattr(written, "__globals__", {}).get("__name__"))
    return function if module.startswith("django.db.backends.") else REPLACED


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
