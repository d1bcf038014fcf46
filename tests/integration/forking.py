"""Children of this process, and what they have to tell."""

from __future__ import annotations

import ctypes
import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any


def fork() -> int:
    return os.fork()


def fork_without_hooks() -> int:
    """Fork as C code does: Python's hooks do not run."""
    return int(ctypes.PyDLL(None).fork())


class Child:
    """The parent's end of a child; use `start`."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self._pipe = pipe

    def result(self) -> Any:
        """Wait for the child's end, and return or raise what it told."""
        with os.fdopen(self._pipe, "rb") as pipe:
            told = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        assert told, f"the child told nothing and ended with status {status}"
        kind, value = pickle.loads(told)
        assert kind == "result", value
        return value


def tell(pipe: int, act: Callable[[], Any]) -> None:
    """In a child: run `act`, tell its result, and end without a word to anybody else."""
    try:
        told = ("result", act())
    except BaseException:
        told = ("error", traceback.format_exc())
    with os.fdopen(pipe, "wb") as stream:
        stream.write(pickle.dumps(told))
    os._exit(0)


def start(act: Callable[[], Any], forks: Callable[[], int] = fork) -> Child:
    """Fork, and run `act` in the child."""
    reading, writing = os.pipe()
    pid = forks()
    if pid == 0:
        os.close(reading)
        tell(writing, act)
    os.close(writing)
    return Child(pid, reading)


def in_child(act: Callable[[], Any], forks: Callable[[], int] = fork) -> Any:
    """Run `act` in a child and return what it returned."""
    return start(act, forks).result()
