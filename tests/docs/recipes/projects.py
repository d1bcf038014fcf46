"""A Django project in a folder of its own, in which the recipes' programs run as real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from servers import Server
from tests.choice import DRIVER
from tests.integration.connections import OURS, STOCK, Address

from . import pages

__all__ = ["OURS", "STOCK", "Program", "Project", "get", "wrong_answers"]

ROOT = Path(__file__).resolve().parents[3]
TEMPLATE = Path(__file__).with_name("project")


class Program:
    """A process, and what it has written so far."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def type(self, text: str) -> None:
        """Write to the program's standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def wait_for(self, text: str, *, times: int = 1, timeout: float = 30) -> str:
        """Return what the program has written once `text` is in it."""
        deadline = time.monotonic() + timeout
        while (output := self.output).count(text) < times:
            assert self.running or self.output.count(text) >= times, (
                f"the program ended without {text!r}:\n{self.output}"
            )
            assert time.monotonic() < deadline, f"waited {timeout:g} s for {text!r}:\n{output}"
            time.sleep(0.02)
        return output

    def wait(self, timeout: float = 30) -> str:
        """Return what the program has written once it has ended."""
        self.process.wait(timeout)
        return self.output

    def kill(self) -> None:
        """End the program and its workers at once: the group is its own."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def end(self) -> None:
        """End the program in good order, and what it leaves behind without mercy."""
        if self.running:
            self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        self.kill()


class Project:
    """The project of `project/` with a page's files in it."""

    def __init__(self, directory: Path, server: Server, *, pause: float, page: str = "") -> None:
        self.directory = directory
        self._server = server
        self._pause = pause
        self._started = 0
        shutil.copytree(TEMPLATE, directory, ignore=shutil.ignore_patterns("__pycache__"))
        if page:
            for name, code in pages.files(page).items():
                self.write(name, code)

    def write(self, name: str, code: str) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for package in path.relative_to(self.directory).parents[:-1]:
            (self.directory / package / "__init__.py").touch()
        path.write_text(code)

    def environment(
        self,
        engine: str,
        *,
        via: Address | None = None,
        driver: str = DRIVER,
        database: dict[str, Any] | None = None,
        more: dict[str, str] | None = None,
    ) -> dict[str, str]:
        """Variables for a program: `database` goes into DATABASES['default'], `more` beside them."""
        address = {"HOST": via.host, "PORT": via.port} if via is not None else {}
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            **self._server.settings,
            "DJANGO_MYSQL_RECYCLE_DRIVER": driver,
            "DJANGO_SETTINGS_MODULE": "mysite.settings",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(self.directory), str(ROOT)]),
            "PYTHONUNBUFFERED": "1",
            "RECIPE_DATABASE": json.dumps({**address, **(database or {})}),
            "RECIPE_ENGINE": engine,
            "RECIPE_PAUSE": str(self._pause),
            **(more or {}),
        }

    @contextmanager
    def start(self, engine: str, *command: str, **options: Any) -> Iterator[Program]:
        """Run a program for the time of the block."""
        self._started += 1
        log = self.directory / f"output-{self._started}.txt"
        with open(log, "w") as output:
            process = subprocess.Popen(
                self.resolve(command),
                cwd=self.directory,
                env=self.environment(engine, **options),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        program = Program(process, log)
        try:
            yield program
        finally:
            program.end()
            assert process.stdin is not None
            process.stdin.close()

    def run(self, engine: str, *command: str, timeout: float = 50, **options: Any) -> str:
        """Run a program to its end and return what it wrote, its exit status in the last line."""
        with self.start(engine, *command, **options) as program:
            output = program.wait(timeout)
            return f"{output}\nexit status {program.process.returncode}"

    @staticmethod
    def resolve(command: Sequence[str]) -> list[str]:
        """The command line with the programs of this interpreter's environment."""
        program = Path(sys.executable).with_name(command[0])
        if command[0] == "python":
            return [sys.executable, *command[1:]]
        return [str(program) if program.exists() else command[0], *command[1:]]


def get(url: str, program: Program, *, timeout: float = 20) -> Any:
    """The JSON answer of a web server that is about to start; its error page as `{'status': ...}`."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            with urlopen(url, timeout=timeout) as answer:
                return json.load(answer)
        except HTTPError as error:
            with error:
                return {"status": error.code}
        except OSError:
            assert program.running, program.output
            assert time.monotonic() < deadline, program.output
            time.sleep(0.05)


def wrong_answers(url: str, program: Program, requests: int = 100) -> int:
    """How many of many requests at once fail, or get the answer to another one's statement."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: get(f"{url}/echo/", program), range(requests)))
    return sum(one.get("asked") != one.get("answered") or "status" in one for one in answers)
