"""Interrupt the package's own code between any two of its bytecode instructions."""

from __future__ import annotations

import gc
import os
import random
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import django_mysql_recycle

from .acts import descriptor
from .connections import Connection

PACKAGE = str(Path(django_mysql_recycle.__file__).parent) + os.sep

#: How many boundaries of each operation an ordinary run tries. All of them are tried with
#: RECYCLE_TEST_BOUNDARIES=all.
SAMPLE = 120

monitoring: Any = getattr(sys, "monitoring", None)  # from Python 3.12 on
TOOL = 4


class Struck(KeyboardInterrupt):
    """The Ctrl-C of these tests."""


class _Counter:
    """Counts the instructions of the package's code while `counts`, and raises before one of them."""

    def __init__(self) -> None:
        self.counts = False
        self.begin(0)

    def begin(self, number: int) -> None:
        self.number = number
        self.seen = 0
        self.where = ""

    def instruction(self, frame: FrameType) -> None:
        self.seen += 1
        if self.seen == self.number:
            name, code = Path(frame.f_code.co_filename).name, frame.f_code
            # Python 3.10 has no co_qualname.
            function = getattr(code, "co_qualname", code.co_name)
            self.where = f"{name}:{frame.f_lineno} {function}+{frame.f_lasti}"
            raise Struck


class _Monitored(_Counter):
    """By sys.monitoring, which stays on when the callback raises.

    sys.settrace() does not: each interruption ends it, and Python 3.13 shows no instruction of the
    first call of each function after it is set again.
    """

    def __init__(self) -> None:
        super().__init__()
        monitoring.use_tool_id(TOOL, "boundaries")
        monitoring.register_callback(TOOL, monitoring.events.INSTRUCTION, self._event)

    def watch(self) -> None:
        """Watch all code of the package's that has been imported."""
        for thing in gc.get_objects():
            if type(thing) is FunctionType:  # isinstance() would set up lazy objects of Django's
                self._watch(thing.__code__)

    def _watch(self, code: CodeType) -> None:
        if code.co_filename.startswith(PACKAGE):
            monitoring.set_local_events(TOOL, code, monitoring.events.INSTRUCTION)
            for constant in code.co_consts:
                if isinstance(constant, CodeType):
                    self._watch(constant)

    def _event(self, _code: CodeType, _offset: int) -> None:
        if self.counts:
            self.instruction(sys._getframe(1))

    def run(self, act: Callable[[], Any]) -> None:
        self.counts = True
        try:
            act()
        finally:
            self.counts = False


class _Traced(_Counter):
    """By sys.settrace(), before Python 3.12."""

    def watch(self) -> None:
        pass

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self.local

    def local(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode":
            self.instruction(frame)
        return self.local

    def run(self, act: Callable[[], Any]) -> None:
        before = sys.gettrace()
        sys.settrace(self)
        try:
            act()
        finally:
            sys.settrace(before)


@cache
def _counter() -> Any:
    return _Traced() if monitoring is None else _Monitored()


def strike(act: Callable[[], Any], number: int) -> tuple[str, BaseException | None, int]:
    """Run `act` and interrupt it at the boundary of that number.

    Returns where that was, or "" if it ended before; what it raised; and the boundaries seen.
    """
    counter = _counter()
    counter.begin(number)
    error: BaseException | None = None
    try:
        counter.run(act)
    except BaseException as raised:
        error = raised
    return counter.where, error, counter.seen


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
    _counter().watch()
    _, error, total = strike(arrange(), 0)
    yield "", error
    for number in boundaries(total, sample):
        where, error, _ = strike(arrange(), number)
        yield where, error
