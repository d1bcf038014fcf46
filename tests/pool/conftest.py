"""Fixtures for the tests of the pool: those of the integration tests, and a site.

RECYCLE_POOL_REQUESTS is the number of requests of each load (default: 300).
RECYCLE_POOL_SERVERS has the names of the ASGI servers, separated by commas (default: uvicorn). The
others are installed by `nox -s pool`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from servers import Server
from tests.integration.admin import Admin
from tests.integration.conftest import (
    _clean_tables,
    admin,
    database,
    django_db_setup,
    make_connection,
    server,
    session_server,
)

from .places import Site, start_site

__all__ = [
    "_clean_tables",
    "admin",
    "database",
    "django_db_setup",
    "make_connection",
    "server",
    "session_server",
]

REQUESTS = int(os.environ.get("RECYCLE_POOL_REQUESTS") or 300)
ASGI_SERVERS = (os.environ.get("RECYCLE_POOL_SERVERS") or "uvicorn").split(",")


@pytest.fixture(scope="session")
def requests() -> int:
    """How many requests a load has."""
    return REQUESTS


@pytest.fixture
def accounts(admin: Admin) -> Iterator[Admin]:
    """The accounts between which the site's transfers go, and the function that reads @tenant."""
    admin.rows("INSERT INTO testapp_account (owner, balance) VALUES ('ann', 0), ('bob', 0)")
    admin.rows("CREATE FUNCTION pool_tenant() RETURNS INT READS SQL DATA RETURN @tenant")
    yield admin
    admin.rows("DROP FUNCTION pool_tenant")


@pytest.fixture
def run_site(
    tmp_path: Path, server: Server, accounts: Admin, driver: str
) -> Iterator[Callable[..., Site]]:
    """`run_site("uvicorn", engine=..., pool=..., **settings)` runs the site until the test ends."""
    with ExitStack() as stack:

        def start(web_server: str, **settings: Any) -> Site:
            return stack.enter_context(start_site(tmp_path, server, driver, web_server, **settings))

        yield start
