"""The numbers in docs/troubleshooting.md are those that the stock backend raises, on this run's pair."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from django.db.utils import Error

from django_mysql_recycle.drivers.versions import is_connector_c, numbers
from servers import Server
from tests.choice import DRIVER, VENDOR
from tests.integration.acts import kill, session_id, wait_until_hung_up
from tests.integration.admin import Admin
from tests.integration.connections import STOCK, ConnectionFactory
from tests.integration.queries import run, value

from .snippets import ROOT

NAMES = {"mysqlclient": "mysqlclient", "pymysql": "PyMySQL", "mariadb": "MariaDB", "mysql": "MySQL"}
TRANSPORTS = {"tcp": "TCP", "tls": "TLS", "socket": "unix socket"}


def documented(event: str, transport: str) -> str:
    """The number in the table for this run's driver, library and server."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    section = page.partition("## One event, many numbers")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    name = f"{NAMES[DRIVER]}, {NAMES[VENDOR]}"
    if DRIVER == "mysqlclient" and not is_connector_c():
        name = "mysqlclient on libmysqlclient, MySQL"
    column = rows[0].index(name)
    current = ""
    for row in rows[2:]:
        current = row[0] or current
        if event in current and row[1] == TRANSPORTS[transport]:
            usual, _, newer = row[column].partition(" (")
            with_newer = newer.removesuffix(" with Connector/C 3.4)")
            return with_newer if newer and connector_c() >= (3, 4) else usual
    raise AssertionError(f"no row for {event} over {transport}")


def connector_c() -> tuple[int, ...]:
    """The version of mysqlclient's library."""
    return numbers(str(import_module("MySQLdb").get_client_info()))


def errors_of(act: Callable[[], Any]) -> list[tuple[Any, ...]]:
    """The errors of the first two statements."""
    found = []
    for _ in range(2):
        with pytest.raises(Error) as caught:
            act()
        found.append(caught.value.args)
    return found


def check(errors: list[tuple[Any, ...]], event: str, transport: str) -> None:
    first, second = errors
    assert str(first[0]) == documented(event, transport)
    if DRIVER == "pymysql":
        assert second == (0, "")
    else:
        assert second[0] == (2006 if is_connector_c() else 2013)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_kill_raises_the_number_of_the_table(
    make_connection: ConnectionFactory, admin: Admin, transport: str
) -> None:
    connection = make_connection(STOCK, transport=transport)
    value(connection, "SELECT 1")
    kill(admin, connection)
    check(errors_of(lambda: run(connection, "SELECT 1")), "`KILL`", transport)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_idle_kill_raises_the_number_of_the_table(
    make_connection: ConnectionFactory, admin: Admin, transport: str
) -> None:
    connection = make_connection(STOCK, transport=transport)
    run(connection, "SET SESSION wait_timeout = 1")
    number = session_id(connection)
    wait_until_hung_up(connection)
    admin.wait_until_closed(number)
    check(errors_of(lambda: run(connection, "SELECT 1")), "idle past", transport)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_shutdown_raises_the_number_of_the_table(
    make_connection: ConnectionFactory, server: Server, transport: str
) -> None:
    connection = make_connection(STOCK, transport=transport)
    value(connection, "SELECT 1")
    server.stop()
    wait_until_hung_up(connection)
    check(errors_of(lambda: run(connection, "SELECT 1")), "server shutdown", transport)
