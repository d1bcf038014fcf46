"""Running the programs of the example project as a reader does: in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from servers import Server

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "example_project"


def variables(server: Server | None = None, **more: str) -> dict[str, str]:
    """Environment of a program that is to use `server`, or to find one of its own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MYSQL_", "EXAMPLE_", "DJANGO_SETTINGS_MODULE"))
    }
    named = server.settings if server is not None else {}
    return {**kept, **named, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **more}


def run(*command: str, env: dict[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a Python program in the example project to its end."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=PROJECT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


@contextmanager
def running(*command: str, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A Python program in the example project, which is ended with the block."""
    process: subprocess.Popen[str]
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=PROJECT,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def lines_until(process: subprocess.Popen[str], text: str) -> list[str]:
    """The lines that a program prints up to and with one that contains `text`."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"the program ended without {text!r}:\n{''.join(lines)}")
