"""docs/other-packages.md: packages that look at the ENGINE, with and without their settings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from servers import apt
from servers.machine import find_program
from tests.docs.recipes.conftest import balances
from tests.docs.recipes.projects import OURS, STOCK, Project
from tests.integration.admin import Admin

PAGE = Path(__file__).parents[2] / "docs" / "other-packages.md"


def setting(package: str) -> str:
    """The block that the page has for a package."""
    pattern = rf"<!-- package: {package} -->\n(?:<!--.*-->\n)*```python\n(.*?)```"
    found = re.search(pattern, PAGE.read_text(), re.DOTALL)
    assert found, package
    return found[1]


@pytest.fixture
def manage(make_project: Callable[..., Project]) -> Callable[..., str]:
    """Runs `manage.py` in a project with a package installed, and returns what it prints."""
    project = make_project()

    def run(engine: str, app: str, *command: str, settings: str = "", succeeds: bool = True) -> str:
        project.write(
            "mysite/with_package.py",
            f"from mysite.settings import *\nINSTALLED_APPS = ['bank', {app!r}]\n{settings}\n",
        )
        said = project.run(
            engine,
            *("python", "manage.py", *command),
            more={"DJANGO_SETTINGS_MODULE": "mysite.with_package"},
        )
        assert said.endswith("exit status 0") is succeeds, said
        return said

    run.folder = project.directory  # type: ignore[attr-defined]
    return run


def warnings(said: str) -> int:
    return said.count("(django_mysql_recycle.W016)")


APPS = ["dbbackup", "cachalot", "django_extensions"]


@pytest.mark.parametrize("app", APPS)
def test_check_reports_a_package_without_its_setting(manage: Callable[..., str], app: str) -> None:
    without = manage(OURS, app, "check")
    assert warnings(without) == 1
    # What the hint says has the same effect as what the page says.
    assert warnings(manage(OURS, app, "check", settings=setting(app))) == 0
    assert warnings(manage(STOCK, app, "check")) == 0


# django-dbbackup


def stores(folder: Path) -> str:
    options = {"location": str(folder)}
    backend = "django.core.files.storage.FileSystemStorage"
    return f"STORAGES = {{'dbbackup': {{'BACKEND': {backend!r}, 'OPTIONS': {options!r}}}}}\n"


@pytest.fixture
def mysqldump() -> None:
    if find_program("mysqldump") is None:
        apt.install("mariadb-client")


def backup(manage: Callable[..., str], engine: str, folder: Path, settings: str) -> Path:
    manage(engine, "dbbackup", "dbbackup", settings=stores(folder) + settings)
    (made,) = (path for path in folder.iterdir() if path.suffix != ".metadata")
    return made


def test_dbbackup_calls_mysqldump_with_its_setting(
    manage: Callable[..., str], bank: Admin, mysqldump: None, tmp_path: Path
) -> None:
    assert "CREATE TABLE `bank_account`" in backup(manage, STOCK, tmp_path / "stock", "").read_text(
        errors="replace"
    )
    without = backup(manage, OURS, tmp_path / "without", "").read_text()
    assert "CREATE TABLE" not in without and json.loads(without)[0]["model"] == "bank.account"
    own = setting("dbbackup")
    made = backup(manage, OURS, tmp_path / "with", own)
    assert "CREATE TABLE `bank_account`" in made.read_text(errors="replace")
    bank.rows("UPDATE bank_account SET balance = 9")
    restore = ("dbrestore", "--noinput")
    manage(OURS, "dbbackup", *restore, settings=stores(tmp_path / "with") + own)
    assert balances(bank) == {"ann": 0, "bob": 0}


def test_dbbackup_restores_an_older_backup_without_its_metadata(
    manage: Callable[..., str], bank: Admin, mysqldump: None, tmp_path: Path
) -> None:
    made = backup(manage, STOCK, tmp_path / "older", "")
    bank.rows("UPDATE bank_account SET balance = 9")
    settings = stores(tmp_path / "older") + setting("dbbackup")
    restore = ("dbrestore", "--noinput", "--input-filename", made.name)
    said = manage(OURS, "dbbackup", *restore, settings=settings, succeeds=False)
    assert "different database engine is not supported" in said
    assert balances(bank) == {"ann": 9, "bob": 9}
    made.with_name(made.name + ".metadata").unlink()
    manage(OURS, "dbbackup", *restore, settings=settings)
    assert balances(bank) == {"ann": 0, "bob": 0}


# django-cachalot

ASKS_TWICE = """
from django.db import connection
from django.test.utils import CaptureQueriesContext
from bank.models import Account
with CaptureQueriesContext(connection) as statements:
    for _ in range(2):
        list(Account.objects.all())
print("statements:", len(statements))
"""


def test_cachalot_caches_with_its_setting(manage: Callable[..., str]) -> None:
    command = ("shell", "--no-imports", "-c", ASKS_TWICE)
    assert "statements: 1" in manage(STOCK, "cachalot", *command)
    assert "statements: 2" in manage(OURS, "cachalot", *command)
    own = setting("cachalot")
    assert "statements: 1" in manage(OURS, "cachalot", *command, settings=own)


# django-extensions


def test_commands_of_extensions_work_with_their_setting(
    manage: Callable[..., str], bank: Admin
) -> None:
    reset = ("reset_db", "--noinput", "--dbname", "recycle_reset")
    commands = {
        ("sqldsn",): ("host=", "can't generate DSN"),
        ("sqlcreate",): ("to 'recycle'@", "PRIVILEGES ON DATABASE"),
        reset: ("CREATE DATABASE `recycle_reset`", "Unknown database engine"),
    }
    own = setting("django_extensions")
    try:
        for command, (works, fails) in commands.items():
            assert works in manage(STOCK, "django_extensions", *command), command
            assert works in manage(OURS, "django_extensions", *command, settings=own), command
            said = manage(OURS, "django_extensions", *command, succeeds=command != reset)
            assert works not in said and fails in said, command
    finally:
        bank.rows("DROP DATABASE IF EXISTS recycle_reset")


def test_sqldiff_compares_with_types_of_mysql_if_it_is_reported(manage: Callable[..., str]) -> None:
    command = ("sqldiff", "bank", "--output_text")
    ready = "import django_extensions.management.commands\n" + setting("sqldiff")
    stock = manage(STOCK, "django_extensions", *command)
    own = setting("django_extensions")
    assert stock != manage(OURS, "django_extensions", *command, settings=own, succeeds=False)
    folder: Path = manage.folder  # type: ignore[attr-defined]
    (folder / "bank" / "apps.py").write_text(
        "from django.apps import AppConfig\n\n\nclass BankConfig(AppConfig):\n"
        '    name = "bank"\n\n    def ready(self):\n'
        + "".join(f"        {line}\n" if line else "\n" for line in ready.splitlines())
    )
    assert manage(OURS, "django_extensions", *command, settings=own) == stock


# Packages that need no setting


def test_migration_linter_knows_the_engine(manage: Callable[..., str]) -> None:
    said = manage(OURS, "django_migration_linter", "lintmigrations")
    assert "Erroneous migrations: 0/0" in said  # for another one it raises ValueError
