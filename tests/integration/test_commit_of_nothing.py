"""`commit()` with nothing to commit succeeds on a lost connection, and no other COMMIT does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django.db.utils import Error, OperationalError

from django_mysql_recycle import SessionStateLost
from servers import FaultProxy

from ..testapp.models import Account
from .acts import (
    Hooks,
    assert_works,
    insert,
    kill,
    listening,
    outcome,
    owners,
    rest,
    wait_until_hung_up,
)
from .admin import Admin
from .connections import OURS, STOCK, Connection, ConnectionFactory, Proxied
from .queries import connection_id, idle_out, run, value

MODES = pytest.mark.parametrize("mode", ["on", "off by the settings", "off by a call"])


def in_mode(make_connection: ConnectionFactory, mode: str, **more: Any) -> Connection:
    connection = make_connection(AUTOCOMMIT=mode != "off by the settings", **more)
    if mode == "off by a call":
        connection.set_autocommit(False)
    return connection


@pytest.mark.core
@MODES
@pytest.mark.parametrize("before", ["commit", "rollback", "select", "insert", "atomic", "nothing"])
def test_commit_of_nothing_succeeds_on_a_connection_that_died_while_idle(
    make_connection: ConnectionFactory, admin: Admin, transport: Any, mode: str, before: str
) -> None:
    connection = in_mode(make_connection, mode, transport=transport)
    if before == "select":
        value(connection, "SELECT COUNT(*) FROM testapp_account")
    elif before == "insert":
        insert(connection, "before")
    elif before == "atomic":
        with transaction.atomic(using=connection.alias):
            insert(connection, "before")
    elif before == "nothing":
        connection.ensure_connection()
    else:
        insert(connection, "before")
        getattr(connection, before)()
    if mode != "on":
        connection.commit()
    autocommit = connection.autocommit
    kill(admin, connection)
    with listening(connection) as received:
        for _ in range(2):
            transaction.commit(using=connection.alias)
        insert(connection, "after")
        transaction.commit(using=connection.alias)
    assert "after" in owners(admin)
    assert len(received.recycled) == 1 and received.repeated == []
    assert connection.autocommit is autocommit
    assert_works(connection, admin)


def test_control_stock_backend_raises_at_a_commit_of_nothing(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(STOCK)
    run(connection, "SELECT 1")
    kill(admin, connection)
    with pytest.raises(Error):
        transaction.commit(using=connection.alias)


@MODES
@pytest.mark.parametrize("how", ["fin", "rst", "at COMMIT", "after COMMIT"])
def test_commit_of_nothing_succeeds_however_the_connection_is_lost(
    make_connection: ConnectionFactory,
    admin: Admin,
    proxy: Callable[..., FaultProxy],
    mode: str,
    how: Any,
) -> None:
    between = proxy()
    connection = in_mode(make_connection, mode, via=between)
    insert(connection, "before")
    if mode != "on":
        connection.commit()
    if "COMMIT" in how:
        between.cut_at(b"COMMIT", when="after" if how == "after COMMIT" else "before")
    else:
        between.cut(how)
        wait_until_hung_up(connection)
    connection.commit()
    insert(connection, "next")
    connection.commit()
    assert owners(admin) == ["before", "next"]


def test_commit_of_nothing_succeeds_after_the_servers_idle_timeout(
    connection: Connection, admin: Admin
) -> None:
    idle_out(admin, connection)
    connection.commit()
    assert_works(connection, admin)


def test_commit_of_nothing_succeeds_where_a_statement_has_failed_since(
    connection: Connection, admin: Admin
) -> None:
    insert(connection, "a")
    with pytest.raises(Error):
        insert(connection, "a")
    kill(admin, connection)
    connection.commit()
    assert_works(connection, admin)


def test_commit_after_an_empty_block_whose_connection_died_in_it_is_a_success(
    connection: Connection, admin: Admin, hooks: Hooks
) -> None:
    with transaction.atomic(using=connection.alias):
        hooks.register(connection, "hook")
        kill(admin, connection)
    assert hooks == ["hook"]
    assert_works(connection, admin)


def test_scheduler_that_commits_in_each_turn_survives_each_loss(
    connection: Connection, admin: Admin
) -> None:
    # What django-celery-beat does before it looks for changes of its schedule.
    Account.objects.using(connection.alias).create(owner="schedule")
    for turn in range(4):
        rest(connection, 15 * turn)
        transaction.commit(using=connection.alias)
        assert Account.objects.using(connection.alias).get().owner == "schedule"
        kill(admin, connection)


# ##### Where there was something to commit #####


def begin_by_sql(connection: Connection) -> None:
    run(connection, "BEGIN")


def start_by_sql(connection: Connection) -> None:
    run(connection, "START TRANSACTION")


def autocommit_off_by_sql(connection: Connection) -> None:
    run(connection, "SET autocommit = 0")


def xa(connection: Connection) -> None:
    run(connection, "XA START 'x'")


def lock(connection: Connection) -> None:
    value(connection, "SELECT GET_LOCK('mine', 0)")


@pytest.mark.core
@pytest.mark.parametrize(
    "begin", [begin_by_sql, start_by_sql, autocommit_off_by_sql, xa, lock], ids=lambda f: f.__name__
)
def test_commit_where_session_state_was_lost_raises_that_once(
    connection: Connection, admin: Admin, begin: Callable[[Connection], None]
) -> None:
    begin(connection)
    if begin is not lock:
        insert(connection, "lost")
    kill(admin, connection)
    with listening(connection) as received:
        with pytest.raises(SessionStateLost):
            connection.commit()
        connection.commit()
        insert(connection, "next")
    assert len(received.lost) == 1
    assert owners(admin) == ["next"]


@pytest.fixture
def opens_a_transaction(admin: Admin) -> Any:
    admin.create_procedure(
        "testapp_open() BEGIN START TRANSACTION; "
        "INSERT INTO testapp_account (owner, balance) VALUES ('by procedure', 0); END"
    )
    return "testapp_open"


def by_procedure(connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.callproc("testapp_open")


def by_call(connection: Connection) -> None:
    run(connection, "CALL testapp_open()")


def by_procedure_and_more(connection: Connection) -> None:
    run(connection, "CALL testapp_open()")
    insert(connection, "more")


def drivers_begin(connection: Connection) -> None:
    connection.connection.begin()
    insert(connection, "lost")


def drivers_autocommit(connection: Connection) -> None:
    connection.connection.autocommit(False)
    insert(connection, "lost")


def drivers_cursor(connection: Connection) -> None:
    with connection.connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO testapp_account (owner, balance) VALUES ('lost', 0)")


def drivers_query(connection: Connection) -> None:
    connection.connection.query("BEGIN")
    connection.connection.query("INSERT INTO testapp_account (owner, balance) VALUES ('lost', 0)")


HIDDEN = (
    *(by_procedure, by_call, by_procedure_and_more, drivers_begin, drivers_autocommit),
    *(drivers_cursor, drivers_query),
)


@pytest.mark.core
@pytest.mark.parametrize("engine", [OURS, STOCK])
@pytest.mark.parametrize("begin", HIDDEN, ids=lambda f: f.__name__)
def test_commit_of_what_no_text_shows_raises_on_a_lost_connection(
    make_connection: ConnectionFactory,
    admin: Admin,
    opens_a_transaction: str,
    engine: str,
    begin: Callable[[Connection], None],
) -> None:
    connection = make_connection(engine)
    connection.ensure_connection()
    begin(connection)
    assert owners(admin) == []
    kill(admin, connection)
    assert outcome(connection.commit) is not None
    assert owners(admin) == []


@pytest.mark.core
@pytest.mark.parametrize("begin", HIDDEN, ids=lambda f: f.__name__)
def test_commit_of_what_no_text_shows_commits_it_on_a_living_connection(
    connection: Connection,
    admin: Admin,
    opens_a_transaction: str,
    begin: Callable[[Connection], None],
) -> None:
    connection.ensure_connection()
    begin(connection)
    connection.commit()
    assert len(owners(admin)) >= 1


@pytest.mark.parametrize("call", [by_procedure, by_call], ids=lambda f: f.__name__)
def test_commit_that_was_acknowledged_ends_the_doubt_that_a_procedure_has_left(
    connection: Connection,
    admin: Admin,
    opens_a_transaction: str,
    call: Callable[[Connection], None],
) -> None:
    connection.ensure_connection()
    call(connection)
    connection.commit()
    kill(admin, connection)
    connection.commit()
    assert_works(connection, admin)


@pytest.mark.parametrize("mode", ["off by the settings", "off by a call"])
@pytest.mark.parametrize("what", ["django", "many", "driver", "select for update", "failed"])
def test_with_autocommit_off_commit_of_something_raises_on_a_lost_connection(
    make_connection: ConnectionFactory, admin: Admin, mode: str, what: str
) -> None:
    connection = in_mode(make_connection, mode)
    run(connection, "SELECT 1")
    connection.commit()
    if what == "django":
        insert(connection, "lost")
    elif what == "many":
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO testapp_account (owner, balance) VALUES (%s, 0)", [("lost",)]
            )
    elif what == "driver":
        with connection.connection.cursor() as cursor:
            cursor.execute("INSERT INTO testapp_account (owner, balance) VALUES ('lost', 0)")
    elif what == "failed":
        insert(connection, "lost")
        assert outcome(lambda: insert(connection, "lost")) is not None
    else:
        run(connection, "SELECT * FROM testapp_account FOR UPDATE")
    kill(admin, connection)
    with pytest.raises(OperationalError):
        connection.commit()
    connection.rollback()
    assert owners(admin) == []
    connection.commit()
    assert connection_id(connection) in admin.connection_ids()


def test_commit_after_a_statement_that_was_lost_is_no_success(
    proxied: Proxied, admin: Admin
) -> None:
    connection, between = proxied()
    run(connection, "SELECT 1")
    between.cut_at(b"INSERT")
    assert outcome(lambda: insert(connection, "lost")) is not None
    assert outcome(connection.commit) is not None
    assert owners(admin) == []
