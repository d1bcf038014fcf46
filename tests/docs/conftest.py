"""Fixtures for the documentation: those of the integration tests, with one server for all.

`server` lives as long as the run, so that fixtures of any scope can build on it. A test may stop,
kill or restart it: it runs again before the next one, and the tables are empty.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from servers import Server
from tests.integration.conftest import (
    _clean_tables,
    admin,
    connection,
    database,
    django_db_setup,
    haproxy,
    make_connection,
    namespace,
    own_server,
    proxy,
    recycles,
    session_server,
)

__all__ = [
    "_clean_tables",
    "admin",
    "connection",
    "database",
    "django_db_setup",
    "haproxy",
    "make_connection",
    "namespace",
    "own_server",
    "proxy",
    "recycles",
    "session_server",
]


@pytest.fixture(scope="session")
def server(session_server: Server) -> Server:
    """The server of this run, of the vendor that tests/choice.py names."""
    return session_server


@pytest.fixture(autouse=True)
def _server_runs_again(server: Server, _clean_tables: None) -> Iterator[None]:
    # After _clean_tables has begun, so that this ends before it cleans.
    yield
    if server.running:
        server.resume()
    else:
        server.start()
