"""Interrupt the package's own code between any two of its bytecode instructions."""

from __future__ import annotations

import os
import random
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

import django_mysql_recycle

from .acts import descriptor
from .connections import Connection

PACKAGE = str(Path(django_mysql_recycle.__file__).parent) + os.sep

#: How many boundaries of each operation an ordinary run tries. All of them are tried with
#: RECYCLE_TEST_BOUNDARIES=all.
SAMPLE = 120


class Struck(KeyboardInterrupt):
    """The Ctrl-C of these tests."""


class _Tracer:
    def __init__(self, number: int) -> None:
        self.number = number
        self.seen = 0
        self.where = ""

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self.local

    def local(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode":
            self.seen += 1
            if self.seen == self.number:
                name = Path(frame.f_code.co_filename).name
                self.where = f"{name}:{frame.f_lineno} {frame.f_code.co_qualname}+{frame.f_lasti}"
                raise Struck
        return self.local


def strike(act: Callable[[], Any], number: int) -> tuple[str, BaseException | None, int]:
    """Run `act` and interrupt it at the boundary of that number.

    Returns where that was, or "" if it ended before; what it raised; and the boundaries seen.
    """
    tracer = _Tracer(number)
    before = sys.gettrace()
    error: BaseException | None = None
    sys.settrace(tracer)
    try:
        act()
    except BaseException as raised:
        error = raised
    finally:
        sys.settrace(before)
    return tracer.where, error, tracer.seen


def boundaries(total: int, sample: int = SAMPLE) -> list[int]:
    """Numbers of boundaries to interrupt at: all of them, or some of each part and the last ones."""
    if os.environ.get("RECYCLE_TEST_BOUNDARIES") == "all" or total <= sample:
        return list(range(1, total + 1))
    chance = random.Random(total)
    step = total / (sample - 20)
    some = {int(step * part + chance.random() * step) + 1 for part in range(sample - 20)}
    return sorted(some | set(range(total - 19, total + 1)))


def lose(connection: Connection) -> None:
    """Let the other end hang up: this end has sent its last, as far as the server can see."""
    with closing(socket.socket(fileno=os.dup(descriptor(connection)))) as own:
        own.shutdown(socket.SHUT_RDWR)
    # In the first millisecond after a statement the socket is not looked at.
    connection.guard.connection.last_activity -= 0.01  # type: ignore[attr-defined]


def each_boundary(
    arrange: Callable[[], Callable[[], Any]], *, sample: int = SAMPLE
) -> Iterator[tuple[str, BaseException | None]]:
    """Arrange and act again and again, interrupted at another boundary each time."""
    _, error, total = strike(arrange(), 0)
    yield "", error
    for number in boundaries(total, sample):
        where, error, _ = strike(arrange(), number)
        yield where, error
