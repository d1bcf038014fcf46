"""A separate process for each side of a comparison.

Python specialises its bytecode for the classes that it runs with. If two backends ran in turn in
one process, Django's code would be specialised for one of them, and the other would be up to 2 %
slower, which no user would see. So each side has its own process, and their blocks alternate.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType

from .timing import Block


class Worker:
    """A forked process that builds blocks and runs them on request."""

    def __init__(self, build: Callable[[], Mapping[str, Block]]) -> None:
        self._pipe, theirs = Pipe()
        self._pid = os.fork()
        if self._pid == 0:
            self._pipe.close()
            _serve(theirs, build)
        theirs.close()

    def block(self, name: str) -> Block:
        """The block of that name, run in the worker."""

        def run() -> float:
            self._pipe.send(name)
            answer = self._pipe.recv()
            if isinstance(answer, str):
                raise RuntimeError(f"a worker failed:\n{answer}")
            return float(answer)

        return run

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pipe.close()
        os.waitpid(self._pid, 0)


def _serve(pipe: Connection, build: Callable[[], Mapping[str, Block]]) -> None:
    """Serve until the other end is closed. Never returns, because the code after the fork is the parent's."""
    try:
        try:
            blocks = build()
            while True:
                pipe.send(blocks[pipe.recv()]())
        except EOFError:
            pass
        except BaseException:
            pipe.send(traceback.format_exc())
            pipe.recv()
    finally:
        os._exit(0)
