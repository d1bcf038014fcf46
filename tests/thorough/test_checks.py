"""System checks in a process of its own, as `manage.py check` runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import django

from ..unit.test_checks import ROOT, pretend_installed

PROJECT = """
import sys
import django_mysql_recycle
{lines}
from django.conf import settings
settings.configure(
    DATABASES={{"default": {{"ENGINE": "django_mysql_recycle", "HOST": "127.0.0.1",
                             "OPTIONS": {{"recycle": {recycle}}}}}}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    SECRET_KEY="for tests only",
)
import django
django.setup()
from django.core.checks import run_checks
print(*run_checks(databases=[]) or ["nothing"], sep="\\n")
"""


def check_project(lines: str = "", recycle: str = "{}", path: Path | None = None) -> str:
    """The checks of a project that has no more than the ENGINE of ours, in a process of its own."""
    program = PROJECT.format(lines=lines, recycle=recycle)
    if path is not None:
        program = f"import sys; sys.path.insert(0, {str(path)!r})\n{program}"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=50
    )
    return ran.stdout + ran.stderr


def test_they_need_no_place_in_installed_apps() -> None:
    assert "(django_mysql_recycle.W001)" in check_project(
        recycle="{'idle_limit': 5, 'ping_after': 9}"
    )
    assert "nothing" in check_project()


WITHOUT_MODELS = """
from django_mysql_recycle.drivers import choose
choose()  # Django's own backend finds PyMySQL by it
from django.conf import settings
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.mysql", "OPTIONS": {"recycle": {}}}},
    INSTALLED_APPS=["django_mysql_recycle"],
)
import django
django.setup()
from django.core.checks import run_checks
print(*run_checks(databases=[]), sep="\\n")
import sys
print("django_mysql_recycle.base" in sys.modules)
"""


def test_forgotten_engine_is_reported_where_the_app_is_installed() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_MODELS], cwd=ROOT, capture_output=True, text=True, timeout=50
    )
    said, loaded = ran.stdout.strip().rsplit("\n", 1)
    assert "(django_mysql_recycle.E003)" in said and loaded == "False"


SHIM = """
django_mysql_recycle.use_driver("pymysql")
import pymysql
pymysql.version_info = {claim}
pymysql.install_as_MySQLdb()
"""


def test_pymysql_that_was_made_to_claim_an_old_version() -> None:
    said = check_project(SHIM.format(claim=(1, 4, 6, "final", 0)))
    if django.VERSION < (6,):  # pragma: no cover - coverage is measured on the newest Django
        assert "(django_mysql_recycle.W009)" in said
    else:
        # Django refuses the driver before any check can run: the refusal says why.
        assert "ImproperlyConfigured" in said
        assert "pymysql.version_info has been set to (1, 4, 6, 'final', 0)" in said
    assert "nothing" in check_project(SHIM.format(claim=(2, 2, 9, "final", 0)))


def test_pymysql_that_is_old_whatever_it_claims(tmp_path: Path) -> None:
    pretend_installed(tmp_path, "PyMySQL", "1.1.1")
    said = check_project(SHIM.format(claim=(2, 2, 8, "final", 0)), path=tmp_path)
    assert "PyMySQL 1.1.1 is installed" in said and "(django_mysql_recycle.W008)" in said
    said = check_project(SHIM.format(claim=(1, 4, 2, "final", 0)), path=tmp_path)
    assert "The driver is PyMySQL 1.1.1; Django takes PyMySQL 1.2 and later" in said
