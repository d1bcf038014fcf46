"""A server with databases of tenants beside the configured one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ..admin import Admin
from ..connections import Connection, ConnectionFactory
from ..queries import run, value

PATIENT: dict[str, Any] = {"CONN_MAX_AGE": None}
#: mysqlclient allows several statements in one text by itself; FOUND_ROWS is Django's.
SEVERAL: dict[str, Any] = {"options": {"client_flag": 65536 | 2}, "CONN_MAX_AGE": None}

AWKWARD = "te`na nt-ü.1"
TENANTS = ("tenant_a", "tenant_b", AWKWARD)


def quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"


@pytest.fixture
def main(admin: Admin) -> Iterator[str]:
    """The configured database; beside it are two of tenants, and one with an awkward name."""
    main = str(admin.value("SELECT DATABASE()"))
    for name in TENANTS:
        admin.rows(f"CREATE DATABASE {quoted(name)}")
        admin.rows(f"CREATE TABLE {quoted(name)}.note (text VARCHAR(40))")
    admin.rows("CREATE TABLE note (text VARCHAR(40))")
    yield main
    admin.rows("DROP TABLE note")
    for name in TENANTS:
        admin.rows(f"DROP DATABASE IF EXISTS {quoted(name)}")


@pytest.fixture
def connection(make_connection: ConnectionFactory, main: str) -> Connection:
    return make_connection(**PATIENT)


@pytest.fixture
def tenant(connection: Connection) -> Connection:
    """A connection that has selected another database than the configured one."""
    run(connection, "USE tenant_a")
    return connection


def assert_only_in_tenant_a(admin: Admin, main: str, texts: list[str]) -> None:
    assert (notes(admin, main), notes(admin, "tenant_a")) == ([], texts)


def here(connection: Connection) -> Any:
    return value(connection, "SELECT DATABASE()")


def note(connection: Connection, text: str) -> None:
    run(connection, "INSERT INTO note VALUES (%s)", text)


def notes(admin: Admin, database: str) -> list[str]:
    return [row[0] for row in admin.rows(f"SELECT text FROM {quoted(database)}.note")]
