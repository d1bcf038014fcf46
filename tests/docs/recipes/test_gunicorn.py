"""docs/recipes/gunicorn.md: who uses the connection that the master opened before the fork."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from servers.machine import free_port
from tests.integration.admin import Admin

from . import pages
from .projects import OURS, STOCK, Project, get, wrong_answers


@pytest.mark.parametrize("engine", [OURS, STOCK])
def test_workers_leave_the_masters_connection_alone_where_stocks_share_it(
    make_project: Callable[[str], Project], bank: Admin, engine: str
) -> None:
    project = make_project("gunicorn")
    address = f"127.0.0.1:{free_port()}"
    before = bank.connection_ids()
    command = pages.command("gunicorn", "gunicorn mysite.wsgi")
    command[command.index("--bind") + 1] = address
    # The master's connection outlives its workers only if Django keeps it.
    with project.start(engine, *command, database={"CONN_MAX_AGE": None}) as program:
        program.wait_for("2 accounts before the fork")
        master = (bank.connection_ids() - before).pop()
        answer = get(f"http://{address}/who/", program)
        wrong = wrong_answers(f"http://{address}", program)
        if engine == STOCK:
            assert answer["connection"] == master
            assert wrong > 0
        else:
            assert answer["connection"] != master
            assert wrong == 0
            assert master in bank.connection_ids()
        assert answer["pid"] not in (program.process.pid, os.getpid())
