"""The harness: which driver, which server, and how a test meets them.

Both are chosen per process: RECYCLE_TEST_DRIVER (mysqlclient or pymysql; unset, the backend's own
choice) and RECYCLE_TEST_SERVER (mariadb, the default, or mysql). One server is started when the
first test asks for it, and ended with the session.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

from servers import check_vendor
from servers.installation import find

_MODULES = {"mysqlclient": "MySQLdb", "pymysql": "pymysql"}

# Before anything imports the backend: it chooses its driver on import.
DRIVER = os.environ.get("RECYCLE_TEST_DRIVER") or (
    "mysqlclient" if find_spec("MySQLdb") is not None else "pymysql"
)
if DRIVER not in _MODULES:
    raise pytest.UsageError(f"RECYCLE_TEST_DRIVER: expected mysqlclient or pymysql, got {DRIVER!r}")
if find_spec(_MODULES[DRIVER]) is None:
    raise pytest.UsageError(
        f"RECYCLE_TEST_DRIVER is {DRIVER}, which is not installed: pip install {DRIVER}"
    )
os.environ["DJANGO_MYSQL_RECYCLE_DRIVER"] = DRIVER

VENDOR = check_vendor(os.environ.get("RECYCLE_TEST_SERVER") or "mariadb")


def pytest_report_header() -> list[str]:
    from importlib.metadata import version

    import django

    installation = find(VENDOR)
    return [
        f"django: {django.get_version()}",
        f"driver: {DRIVER} {version(DRIVER)}",
        f"server: {VENDOR} {installation.version if installation else '(not obtained yet)'}",
    ]


@pytest.fixture(scope="session")
def driver() -> str:
    """The driver of this run: 'mysqlclient' or 'pymysql'."""
    return DRIVER


@pytest.fixture(scope="session")
def vendor() -> str:
    """The server of this run: 'mariadb' or 'mysql'."""
    return VENDOR
