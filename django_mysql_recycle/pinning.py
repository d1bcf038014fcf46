"""Pinning by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.utils import DEFAULT_DB_ALIAS

from .guard import Guard

__all__ = ["pinned"]


@contextmanager
def pinned(using: str | Any = DEFAULT_DB_ALIAS, reason: str = "held by hand") -> Iterator[None]:
    """Let the connection of `using`, an alias or a connection, not be replaced without an error.

    For session state that no SQL text shows: a lock that a stored procedure takes, a session
    that another system knows by its connection id. If the connection is lost inside the block,
    the next statement raises SessionStateLost, which says `reason`.

    Opens the connection if it is closed: the state to come shall belong to it. On another
    backend than this one it does nothing.
    """
    if isinstance(using, str):
        from django.db import connections

        connection: Any = connections[using]
    else:
        connection = using
    guard = getattr(connection, "guard", None)
    if not isinstance(guard, Guard):
        yield
        return
    release = guard.hold(reason)
    try:
        yield
    finally:
        release()
