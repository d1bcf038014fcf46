"""Pinning a connection from Python code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.utils import DEFAULT_DB_ALIAS

from .guard import guard_of, wrapper_of

__all__ = ["pinned"]


@contextmanager
def pinned(using: str | Any = DEFAULT_DB_ALIAS, reason: str = "held by hand") -> Iterator[None]:
    """Inside the block, the connection of `using` is not replaced without an error.

    `using`: an alias of DATABASES (``"default"`` if left out) or a connection. `reason`: a text
    for the error.

    Use it for session state that no SQL text shows: a lock that a stored procedure takes, or a
    session that another system knows by its connection id. If the connection is lost inside the
    block, the next statement raises SessionStateLost with `reason` in its text.

    A closed connection is opened first, so that the state can belong to it. Raises what
    connecting raises, and ConnectionDoesNotExist for an unknown alias. Does nothing on a
    connection of another backend.
    """
    guard = guard_of(wrapper_of(using))
    if guard is None:
        yield
        return
    release = guard.hold(reason)
    try:
        yield
    finally:
        release()
