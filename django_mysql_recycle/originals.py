"""Whether a function of Django's is still the one of its source.

Apart from stock.py, which imports Django's MySQL backend and with it the driver: the package itself
is imported before the driver is chosen.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

from django.utils.asyncio import async_unsafe

__all__ = ["REPLACED", "djangos_own"]

#: Stands for a function of Django's in whose place something else has been put.
REPLACED: Any = object()


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
