"""After fork() the child forgets its parent's connections without closing them.

Python's hook does it at once. A fork from C runs no hook (uWSGI's default): for that there is
`mark`, which every statement looks at.
"""

from __future__ import annotations

import atexit
import mmap
import os
import weakref
from typing import Any, Protocol

__all__ = ["leave", "look", "mark", "track"]

#: Linux 4.14: the kernel clears the page in a child, whoever forks. Python has no name for it.
_MADV_WIPEONFORK = 18


class _Forgets(Protocol):
    def after_fork_in_child(self) -> None: ...


class _ProcessId:
    """The same by comparing process ids, which is a system call each time."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, index: int) -> int:
        return int(self._pid == os.getpid())

    def __setitem__(self, index: int, value: int) -> None:
        self._pid = os.getpid()


def _make_mark() -> Any:
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
    except (AttributeError, OSError, TypeError, ValueError):
        return _ProcessId()  # another system, or an older kernel
    page[0] = 1
    return page


#: ``mark[0]`` is 0 in a child that has not looked (see `look`) since it was forked.
mark = _make_mark()

_tracked: weakref.WeakSet[Any] = weakref.WeakSet()

#: The parent's driver connections. Their destructors would send COM_QUIT, and another thread of
#: the parent may have been in the middle of one: they are kept for the life of the child.
_left: list[Any] = []


def track(holder: _Forgets) -> None:
    """Have `holder` forget what it has of its parent in every child that is forked from here."""
    _tracked.add(holder)


def leave(connection: Any) -> None:
    """Keep a connection of the parent's from ever being destroyed in this process."""
    _left.append(connection)


def look() -> None:
    """Do what the hook would have done, if this process was forked without it."""
    if not mark[0]:
        _in_child()


def _in_child() -> None:
    mark[0] = 1
    for holder in list(_tracked):
        holder.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
# A child that was forked without the hook and ends without having used a connection: the
# destructors that follow would end the parent's sessions.
atexit.register(look)
