"""docs/recipes/threads.md: APScheduler's job and a plain thread, with pauses between."""

from __future__ import annotations

from collections.abc import Callable

from tests.integration.admin import Admin

from . import pages
from .conftest import PAUSE, balances
from .projects import OURS, STOCK, Project


def test_job_of_a_scheduler_goes_on_where_stocks_fails_from_the_second_run(
    make_project: Callable[[str], Project], bank: Admin
) -> None:
    project = make_project("threads")
    command = pages.command("threads", "python manage.py clock", seconds=PAUSE)
    with project.start(OURS, *command) as ours, project.start(STOCK, *command) as stock:
        ours.wait_for("paid to 2", times=3)
        assert "recycled the connection" in ours.output
        assert "raised an exception" not in ours.output
        assert "OperationalError" in stock.wait_for("raised an exception", times=2)
        assert stock.output.count("paid to 2") == 1
    assert balances(bank)["ann"] >= 4


def test_thread_goes_on_after_a_pause(make_project: Callable[[str], Project], bank: Admin) -> None:
    project = make_project("threads")
    command = pages.command("threads", "python manage.py watch")
    with project.start(OURS, *command) as ours, project.start(STOCK, *command) as stock:
        assert "OperationalError" in stock.wait()
        assert ours.wait().count("2 accounts") == 2
