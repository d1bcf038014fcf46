"""docs/recipes/pytest.md: a project's own tests pass with our engine, twice on one test database."""

from __future__ import annotations

from collections.abc import Callable

from . import pages
from .projects import OURS, STOCK, Project

PLAIN = ("-p", "no:cacheprovider", "-p", "no:randomly", "--tb=short")


def test_tests_of_a_project_pass_where_stock_fails_after_a_pause(
    make_project: Callable[[str], Project],
) -> None:
    project = make_project("pytest")
    command = [*pages.command("pytest", "pytest"), *PLAIN]
    names = {engine: {"TEST": {"NAME": f"test_{engine[:8]}_recipe"}} for engine in (OURS, STOCK)}
    with (
        project.start(OURS, *command, database=names[OURS]) as ours,
        project.start(STOCK, *command, database=names[STOCK]) as stock,
    ):
        assert "7 passed" in ours.wait(50), ours.output
        assert "FAILED bank/test_bank.py::test_pause_outside_a_transaction" in stock.wait(50)
        assert (
            "FAILED bank/test_bank.py::CommitTests::test_committed" in stock.output
        )  # and the rest
    again = project.run(OURS, *command, "-k", "not pause", database=names[OURS])
    assert "6 passed, 1 deselected" in again


def test_djangos_own_runner(make_project: Callable[[str], Project]) -> None:
    project = make_project("pytest")
    output = project.run(OURS, *pages.command("pytest", "python manage.py test"))
    assert "Ran 4 tests" in output
    assert "exit status 0" in output
