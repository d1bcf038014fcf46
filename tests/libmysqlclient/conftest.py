"""mysqlclient on Oracle's libmysqlclient: `scripts/run_tests.py --libmysqlclient` runs these."""

from __future__ import annotations

import pytest

from django_mysql_recycle.drivers.versions import is_connector_c
from tests.docs.conftest import (
    _clean_tables,
    _server_runs_again,
    admin,
    database,
    django_db_setup,
    make_connection,
    proxy,
    server,
    session_server,
)

__all__ = [
    "_clean_tables",
    "_server_runs_again",
    "admin",
    "database",
    "django_db_setup",
    "make_connection",
    "proxy",
    "server",
    "session_server",
]


@pytest.fixture(autouse=True, scope="session")
def _library() -> None:
    assert not is_connector_c(), "run by scripts/run_tests.py --libmysqlclient"
