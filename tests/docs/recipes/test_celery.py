"""docs/recipes/celery.md: real workers, fed through folders instead of a broker."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.integration.admin import Admin

from . import pages
from .conftest import balances
from .projects import OURS, STOCK, Program, Project

# No broker has to run: messages are files.
CONFIG = """
from pathlib import Path

folder = Path("messages-{name}")
folder.mkdir(exist_ok=True)
broker_url = "filesystem://"
broker_transport_options = {{"data_folder_in": str(folder), "data_folder_out": str(folder)}}
broker_connection_retry_on_startup = True
"""
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO")


@pytest.fixture
def project(make_project: Callable[[str], Project]) -> Project:
    project = make_project("celery")
    project.write("mysite/celeryconfig.py", 'import os\nexec(os.environ["RECIPE_CELERY"])\n')
    return project


def worker(project: Project, stack: ExitStack, engine: str, pool: str, task: str) -> Program:
    """A worker that is about to find a message for it."""
    config = {"RECIPE_CELERY": CONFIG.format(name=engine)}
    send = f"import mysite.celery; from bank.tasks import *; {task}"
    shell = ("python", "manage.py", "shell", "--no-imports", "-c", send)
    stack.enter_context(project.start(engine, *shell, more=config))
    command = pages.command("celery", f"celery -A mysite worker --pool {pool}")
    return stack.enter_context(project.start(engine, *command, *QUIET, more=config))


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
def test_task_goes_on_after_a_pause_longer_than_wait_timeout(
    project: Project, bank: Admin, pool: str
) -> None:
    with ExitStack() as stack:
        ours = worker(project, stack, OURS, pool, "send_statement.delay('ann')")
        stock = worker(project, stack, STOCK, pool, "send_statement.delay('bob')")
        assert "send_statement" in ours.wait_for("succeeded in")
        assert "OperationalError" in stock.wait_for("raised unexpected")
        assert balances(bank) == {"ann": 1, "bob": 0}
        ours.kill()  # a warm shutdown takes four seconds
        stock.kill()


def test_statement_after_a_soft_time_limit_has_a_new_connection(project: Project) -> None:
    with ExitStack() as stack:
        ours = worker(project, stack, OURS, "prefork", "sum_up.delay('ann')")
        stock = worker(project, stack, STOCK, "prefork", "sum_up.delay('ann')")
        assert "'ann'" in ours.wait_for("succeeded in")
        assert " recycled the connection of 'default': interrupted" in ours.output
        stock.wait_for("raised unexpected")
        # mysqlclient says the one, PyMySQL the other.
        assert "(2014, " in stock.output or "InterfaceError: (0, '')" in stock.output
        ours.kill()  # a warm shutdown takes four seconds
        stock.kill()
