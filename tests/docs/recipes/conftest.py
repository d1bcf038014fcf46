"""What every recipe starts from: an impatient server, the project's table, the project."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from servers import Server
from tests.integration.admin import Admin

from .projects import Project

WAIT_TIMEOUT = 2
PAUSE = 2.3
"""A bit longer than the server waits: its deadline is exact to milliseconds."""

TABLE = """CREATE TABLE IF NOT EXISTS bank_account (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    owner VARCHAR(50) NOT NULL UNIQUE,
    balance INT NOT NULL
)"""


@pytest.fixture
def bank(server: Server, admin: Admin) -> Iterator[Admin]:
    """The server waits two seconds, and Ann and Bob have an account each."""
    admin.rows(TABLE)
    admin.rows("INSERT INTO bank_account (owner, balance) VALUES ('ann', 0), ('bob', 0)")
    admin.set_global("wait_timeout", WAIT_TIMEOUT)
    yield admin
    admin.rows("DROP TABLE bank_account")


@pytest.fixture
def make_project(tmp_path: Path, server: Server, bank: Admin) -> Callable[[str], Project]:
    """`make_project("celery")` is the project with the files of docs/recipes/celery.md."""

    def make(page: str = "") -> Project:
        return Project(tmp_path / f"project-{page}", server, pause=PAUSE, page=page)

    return make


def balances(bank: Admin) -> dict[str, int]:
    return dict(bank.rows("SELECT owner, balance FROM bank_account"))
