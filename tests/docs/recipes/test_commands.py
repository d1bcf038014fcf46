"""docs/recipes/commands.md: a command in a loop, and a shell in a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Callable

from tests.integration.admin import Admin

from . import pages
from .conftest import PAUSE, balances
from .projects import OURS, STOCK, Project


def test_command_goes_on_after_an_idle_queue(
    make_project: Callable[[str], Project], bank: Admin
) -> None:
    project = make_project("commands")
    command = pages.command("commands", "python manage.py consume")
    with project.start(OURS, *command) as ours, project.start(STOCK, *command) as stock:
        for program, owner in ((ours, "ann"), (stock, "bob")):
            program.wait_for("2 accounts")
            program.type(f"{owner}\n")
            program.wait_for(f"{owner} has 1")
        time.sleep(PAUSE)
        ours.type("ann\n")
        stock.type("bob\n")
        ours.wait_for("ann has 2")
        assert "OperationalError" in stock.wait()
    assert balances(bank) == {"ann": 2, "bob": 1}


class Terminal:
    """A person at a shell."""

    def __init__(self, project: Project, engine: str) -> None:
        self._end, other = pty.openpty()
        command = [*pages.command("commands", "python manage.py shell"), "-i", "python"]
        self.process = subprocess.Popen(
            project.resolve(command),
            cwd=project.directory,
            env={**project.environment(engine), "TERM": "dumb"},
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)
        self.read_prompt()

    def read_prompt(self) -> str:
        shown = ""
        deadline = time.monotonic() + 20
        while not re.search(r">>> \S*$", shown):
            assert time.monotonic() < deadline, shown
            if select.select([self._end], [], [], 1)[0]:
                shown += os.read(self._end, 65536).decode()
        return shown

    def type(self, line: str) -> str:
        os.write(self._end, f"{line}\n".encode())
        return self.read_prompt()

    def leave(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._end)


def test_shell_goes_on_after_lunch(make_project: Callable[[str], Project]) -> None:
    project = make_project("commands")
    shells = [Terminal(project, engine) for engine in (OURS, STOCK)]
    try:
        for shell in shells:
            shell.type("from bank.models import Account")
            assert "2" in shell.type("Account.objects.count()")
        time.sleep(PAUSE)
        ours, stock = (shell.type("Account.objects.count() + 40") for shell in shells)
        assert "42" in ours
        assert "OperationalError" in stock
        assert "Error" in shells[1].type("Account.objects.count() + 40")  # and so it stays
    finally:
        for shell in shells:
            shell.leave()
