"""Children of this process, and their results."""

from __future__ import annotations

import ctypes
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .connections import Connection

PROGRAM = """
import ctypes, os, sys
import django
from django.conf import settings
settings.configure(DATABASES={{"default": {database!r}}})
django.setup()
from django.db import connection, transaction
def ask():
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        return cursor.fetchone()[0]
before = ask()
"""


def output_of_program(connection: Connection, driver: str, code: str) -> str:
    """Run a program of its own with this connection's settings; it knows `ask()` and `before`."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(database=connection.settings_dict) + code],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "DJANGO_MYSQL_RECYCLE_DRIVER": driver},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    ).stdout


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
        """Wait for the child's end, and return or raise its result."""
        with os.fdopen(self._pipe, "rb") as pipe:
            reported = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        assert reported, f"the child sent no result and ended with status {status}"
        kind, value = pickle.loads(reported)
        assert kind == "result", value
        return value


def send_result(pipe: int, act: Callable[[], Any]) -> None:
    """In a child: run `act`, send its result, and end without running anything else."""
    try:
        reported = ("result", act())
    except BaseException:
        reported = ("error", traceback.format_exc())
    with os.fdopen(pipe, "wb") as stream:
        stream.write(pickle.dumps(reported))
    os._exit(0)


def start(act: Callable[[], Any], forks: Callable[[], int] = fork) -> Child:
    """Fork, and run `act` in the child."""
    reading, writing = os.pipe()
    pid = forks()
    if pid == 0:
        os.close(reading)
        send_result(writing, act)
    os.close(writing)
    return Child(pid, reading)


def in_child(act: Callable[[], Any], forks: Callable[[], int] = fork) -> Any:
    """Run `act` in a child and return what it returned."""
    return start(act, forks).result()
