"""docs/recipes/uwsgi.md: workers that were forked without Python's hooks."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import pytest

from servers.machine import free_port
from tests.integration.admin import Admin

from . import pages
from .projects import OURS, STOCK, Project, get, wrong_answers

# The hook shows whether uWSGI has called it, so that the test knows what it tests.
HOOK = "\nos.register_at_fork(after_in_child=lambda: print('a hook ran', flush=True))\n"


def start(project: Project, *more: str) -> tuple[list[str], str]:
    wsgi = project.directory / "mysite" / "wsgi.py"
    wsgi.write_text(wsgi.read_text() + HOOK)
    address = f"127.0.0.1:{free_port()}"
    command = pages.command("uwsgi", "uwsgi")
    command[command.index("--http-socket") + 1] = address
    return [*command, *more], f"http://{address}"


# From Python 3.13 on uWSGI (2.0.30) aborts in its own call of the hooks, whatever the backend.
HOOKS = [False, True] if sys.version_info < (3, 13) else [False]


@pytest.mark.parametrize(
    "hooks", HOOKS, ids=["with hooks" if h else "without hooks" for h in HOOKS]
)
def test_each_worker_has_a_connection_of_its_own(
    make_project: Callable[[str], Project], bank: Admin, hooks: bool
) -> None:
    project = make_project("uwsgi")
    command, url = start(project, *(["--py-call-osafterfork"] if hooks else []))
    before = bank.connection_ids()
    with project.start(OURS, *command, database={"CONN_MAX_AGE": None}) as program:
        program.wait_for("2 accounts before the fork")
        master = (bank.connection_ids() - before).pop()
        answers = [get(f"{url}/who/", program) for _ in range(20)]
        numbers = {one["pid"]: one["connection"] for one in answers}
        assert all(one["connection"] == numbers[one["pid"]] for one in answers)  # each keeps it
        assert master not in numbers.values()
        assert len(set(numbers.values())) == len(numbers)
        for pid in numbers:
            os.kill(pid, signal.SIGINT)  # in good order; uWSGI starts another one
        for number in numbers.values():
            bank.wait_until_closed(number)
        assert get(f"{url}/who/", program)["pid"] not in numbers
        assert get(f"{url}/who/", program)["connection"] != master
        assert ("a hook ran" in program.output) is hooks


def test_stocks_workers_share_the_masters_connection_and_get_each_others_answers(
    make_project: Callable[[str], Project], bank: Admin
) -> None:
    project = make_project("uwsgi")
    command, url = start(project)
    before = bank.connection_ids()
    with project.start(STOCK, *command, database={"CONN_MAX_AGE": None}) as stock:
        stock.wait_for("2 accounts before the fork")
        master = (bank.connection_ids() - before).pop()
        assert get(f"{url}/who/", stock)["connection"] == master
        assert wrong_answers(url, stock) > 0
    with project.start(OURS, *command, database={"CONN_MAX_AGE": None}) as ours:
        assert wrong_answers(url, ours) == 0


def test_first_request_of_each_worker_succeeds_with_atomic_requests(
    make_project: Callable[[str], Project], bank: Admin
) -> None:
    project = make_project("uwsgi")
    command, url = start(project)
    settings = {"CONN_MAX_AGE": None, "ATOMIC_REQUESTS": True}
    with project.start(OURS, *command, database=settings) as program:
        program.wait_for("2 accounts before the fork")
        answers = [get(f"{url}/who/", program) for _ in range(20)]
        for pid in {one["pid"] for one in answers}:
            os.kill(pid, signal.SIGINT)
        answers += [get(f"{url}/who/", program) for _ in range(20)]
    assert not any("status" in one for one in answers)
