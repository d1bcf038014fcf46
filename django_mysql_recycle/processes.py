"""After fork() the child forgets its parent's connections without closing them."""

from __future__ import annotations

import os
import weakref
from typing import Any, Protocol

__all__ = ["leave", "track"]


class _Wrapper(Protocol):
    def forget_parent(self) -> None: ...


_wrappers: weakref.WeakSet[Any] = weakref.WeakSet()

#: The parent's driver connections. Their destructors would send COM_QUIT, and another thread of
#: the parent may have been in the middle of one: they are kept for the life of the child.
_left: list[Any] = []


def track(wrapper: _Wrapper) -> None:
    """Have `wrapper` forget its connection in every child that is forked from here."""
    _wrappers.add(wrapper)


def leave(connection: Any) -> None:
    """Keep a connection of the parent's from ever being destroyed in this process."""
    _left.append(connection)


def _in_child() -> None:
    for wrapper in list(_wrappers):
        wrapper.forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
