"""docs/recipes/proxies.md: which statements are the backend's own, by the server's general log."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.integration.admin import Admin
from tests.integration.connections import STOCK, ConnectionFactory
from tests.integration.queries import connection_id, run

from . import pages


@pytest.fixture
def logged(admin: Admin) -> Admin:
    admin.set_global("log_output", "TABLE")
    admin.rows("TRUNCATE TABLE mysql.general_log")
    admin.set_global("general_log", 1)
    return admin


def statements(admin: Admin, session: int) -> list[str]:
    """What a session has sent, as the server has logged it."""
    rows = admin.rows(
        "SELECT argument FROM mysql.general_log"
        " WHERE thread_id = %s AND command_type = 'Query' ORDER BY event_time",
        session,
    )
    return [text if isinstance(text, str) else text.decode() for (text,) in rows]


def sent_by(connection: BaseDatabaseWrapper, admin: Admin) -> list[str]:
    session = connection_id(connection)
    time.sleep(0.6)  # rested: wait_timeout is read
    run(connection, "DO 1")
    time.sleep(1.1)  # rested for longer than the test's ping_after
    run(connection, "DO 2")
    return statements(admin, session)


def sets_autocommit(sql: str) -> bool:
    return sql.lower().startswith("set autocommit")


def test_own_statements_are_the_two_of_the_page(
    make_connection: ConnectionFactory, logged: Admin, driver: str
) -> None:
    ours = sent_by(make_connection(recycle={"ping_after": 1}), logged)
    stock = sent_by(make_connection(STOCK), logged)
    own = re.findall(r"^    ([A-Z].*)$", pages.text("proxies"), re.MULTILINE)
    assert [one for one in ours if one not in stock] == own
    others = [one for one in ours if one not in own and not sets_autocommit(one)]
    assert others == [one for one in stock if not sets_autocommit(one)]
    assert sum(map(sets_autocommit, stock)) == 2
    assert sum(map(sets_autocommit, ours)) == {"mysqlclient": 0, "pymysql": 1}[driver]
    for word in ("SET NAMES", "SET SESSION TRANSACTION ISOLATION", "SELECT VERSION()"):
        assert any(one.lower().startswith(word.lower()) for one in others)


def test_settings_of_the_page_leave_no_statement_but_one(
    make_connection: ConnectionFactory, logged: Admin
) -> None:
    settings: dict[str, Any] = {}
    exec(pages.files("proxies")["mysite/databases.py"], settings)
    sent = sent_by(make_connection(options=settings["OPTIONS"]), logged)
    assert sent[-3:] == [
        "SELECT @@SESSION.wait_timeout, @@SESSION.sql_mode",
        "DO 1",
        "DO 2",
    ]
