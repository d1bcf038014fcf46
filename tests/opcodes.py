"""Do something between any two bytecode instructions of some code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any


class Struck(KeyboardInterrupt):
    """The Ctrl-C of the tests."""


def strike() -> None:
    raise Struck


class _Tracer:
    def __init__(self, path: str, number: int, do: Callable[[], object]) -> None:
        self.path = path
        self.number = number
        self.do = do
        self.counts = False
        self.seen = 0
        self.where = ""

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(self.path):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self.local

    def local(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode" and self.counts:
            self.seen += 1
            if self.seen == self.number:
                name, code = Path(frame.f_code.co_filename).name, frame.f_code
                # Python 3.10 has no co_qualname.
                function = getattr(code, "co_qualname", code.co_name)
                self.where = f"{name}:{frame.f_lineno} {function}+{frame.f_lasti}"
                self.do()
        return self.local


def at_opcode(
    arrange: Callable[[], Callable[[], Any]],
    number: int,
    path: str,
    do: Callable[[], object] = strike,
) -> tuple[str, BaseException | None, int]:
    """Run what `arrange` returns, and `do` before instruction `number` of the code in `path`.

    Returns where that was, or "" if it ended before; what it raised; how many were executed.
    """
    tracer = _Tracer(path, number, do)
    before = sys.gettrace()
    error: BaseException | None = None
    sys.settrace(tracer)
    try:
        # Python 3.13 shows no instruction of a function's first call after one without tracing.
        arrange()()
        act = arrange()
        tracer.seen, tracer.counts = 0, True
        act()
    except BaseException as raised:
        error = raised
    finally:
        sys.settrace(before)
    try:
        return tracer.where, error, tracer.seen
    finally:
        act = error = None  # frames can outlive their calls
