"""The mixin in front of other people's backends, and other people's subclasses of the backend."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

import pytest
from django.db import Error, OperationalError, ProgrammingError, transaction

from django_mysql_recycle import SessionStateLost
from servers import Server

from ..testapp.models import Account
from .acts import insert, listening, owners
from .admin import Admin
from .connections import OURS, STOCK, Connection, ConnectionFactory, point, unbuffered
from .queries import connection_id, idle_out, kill, run, settle, value

NAMES = ("instrumented", "proxied", "subclassed")


@pytest.fixture(params=NAMES)
def composed(request: pytest.FixtureRequest, make_connection: ConnectionFactory) -> Connection:
    return make_connection(f"tests.backends.{request.param}")


@pytest.fixture
def all_composed(make_connection: ConnectionFactory) -> list[Connection]:
    recycle = {"idle_limit": 0.3, "ping_after": 0.05}
    return [make_connection(f"tests.backends.{name}", recycle=recycle) for name in NAMES]


def trace(connection: Any) -> list[str]:
    noted: list[str] = connection.trace
    return noted


@pytest.mark.core
def test_lost_connection_is_replaced(composed: Connection, admin: Admin) -> None:
    first = connection_id(composed)
    kill(admin, composed)
    Account.objects.using(composed.alias).create(owner="once")
    assert connection_id(composed) != first
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == 1
    assert trace(composed).count("connect") == 2


def test_boundary_of_the_backend_below_is_called(
    make_connection: ConnectionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = make_connection(STOCK)
    called: list[Any] = []

    def called_with(wrapper: Any) -> None:
        called.append(wrapper)

    monkeypatch.setattr(type(stock), "close_if_unusable_or_obsolete", called_with, raising=False)
    connection = make_connection(CONN_MAX_AGE=60)
    run(connection, "SELECT 1")
    connection.close_if_unusable_or_obsolete()
    assert called == [connection]


def test_instrument_sees_the_applications_statements_once_each(
    composed: Connection, admin: Admin
) -> None:
    kill(admin, composed)
    run(composed, "SELECT 'mine'")
    with composed.cursor() as cursor:
        cursor.execute("SELECT 'held'")
        kill(admin, composed)
        cursor.execute("SELECT 'held on'")
        cursor.executemany(
            "INSERT INTO testapp_account (owner, balance) VALUES (%s, 0)", [("a",), ("b",)]
        )
    mine = [step for step in trace(composed) if "'mine'" in step or "held" in step]
    assert mine == ["execute SELECT 'mine'", "execute SELECT 'held'", "execute SELECT 'held on'"]
    assert [step for step in trace(composed) if step.startswith("executemany")] == [
        "executemany INSERT INTO testapp_account (owner, balance) VALUES (%s, 0)"
    ]


def test_idle_limit_holds_and_a_ping_spares(
    all_composed: list[Connection], recycles: list[dict[str, Any]]
) -> None:
    first = [connection_id(connection) for connection in all_composed]
    time.sleep(0.1)
    assert [connection_id(connection) for connection in all_composed] == first
    time.sleep(0.4)
    assert not set(first) & {connection_id(connection) for connection in all_composed}
    assert [reported["reason"] for reported in recycles] == ["idle limit"] * 3


def test_idle_kill_is_met(
    make_connection: ConnectionFactory, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    connections = [make_connection(f"tests.backends.{name}") for name in NAMES]
    idle_out(admin, *connections)
    for connection in connections:
        assert value(connection, "SELECT 1") == 1
    assert [reported["reason"] for reported in recycles] == ["closed"] * 3


def test_nothing_is_replaced_inside_atomic(composed: Connection, admin: Admin) -> None:
    with pytest.raises(Error), transaction.atomic(using=composed.alias):
        Account.objects.using(composed.alias).create(owner="first half")
        admin.kill(composed.connection.thread_id())
        settle()
        Account.objects.using(composed.alias).create(owner="second half")
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == 0
    assert value(composed, "SELECT 1") == 1


def test_loop_over_rows_with_a_write_inside_goes_on(composed: Connection, admin: Admin) -> None:
    for number in range(4):
        admin.rows("INSERT INTO testapp_account (owner, balance) VALUES (%s, 0)", f"owner {number}")
    for account in Account.objects.using(composed.alias).iterator(chunk_size=1):
        kill(admin, composed)
        account.balance = 1
        account.save(using=composed.alias)
    assert admin.rows("SELECT balance, COUNT(*) FROM testapp_account GROUP BY balance") == [(1, 4)]


@pytest.mark.parametrize("name", NAMES)
def test_unread_rows_keep_the_connection(
    make_connection: ConnectionFactory, driver: str, name: str
) -> None:
    connection = make_connection(f"tests.backends.{name}", options=unbuffered(driver))
    rows = " UNION ALL ".join(f"SELECT {number}, REPEAT('x', 100000)" for number in range(40))
    first = connection_id(connection)
    with connection.cursor() as cursor:
        cursor.execute(rows)
        assert cursor.fetchone()[0] == 0
        settle()
        reported = (
            pytest.warns(UserWarning, match="left incomplete")
            if driver == "pymysql"
            else pytest.raises(ProgrammingError)
        )
        with reported:  # as on the stock backend
            run(connection, "SELECT 1")
    assert connection_id(connection) == first


def test_errors_are_mapped_as_the_base_backend_maps_them(composed: Connection) -> None:
    with pytest.raises(ProgrammingError) as caught:
        run(composed, "SELECT * FROM no_such_table")
    assert caught.value.args[0] == 1146
    assert value(composed, "SELECT 1") == 1


class _Failing:
    """A driver's connection inside a proxy object whose cursor() fails."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def cursor(self, *_arguments: Any) -> Any:
        raise self._connection.OperationalError(2006, "gone")


@pytest.mark.parametrize("engine", [OURS, STOCK])
def test_error_of_a_proxy_that_makes_cursors_is_djangos_error(
    make_connection: ConnectionFactory, engine: str
) -> None:
    connection = make_connection(engine)
    run(connection, "SELECT 1")
    own = connection.connection
    connection.connection = _Failing(own)
    with pytest.raises(OperationalError):
        connection.cursor()
    assert connection.errors_occurred
    connection.connection = own


def test_lost_named_lock_is_reported(composed: Connection, admin: Admin) -> None:
    assert value(composed, "SELECT GET_LOCK('composition', 0)") == 1
    kill(admin, composed)
    with pytest.raises(SessionStateLost):
        run(composed, "SELECT 1")
    assert value(composed, "SELECT 1") == 1


def test_closing_and_health_check_work(composed: Connection, admin: Admin) -> None:
    first = connection_id(composed)
    assert composed.is_usable()
    composed.close()
    admin.wait_until_closed(first)
    assert connection_id(composed) != first
    kill(admin, composed)
    assert not composed.is_usable()


def test_base_backend_may_run_statements_where_transactions_begin_and_end(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection("tests.backends.audited", recycle={"pin_session_state": False})
    with transaction.atomic(using=connection.alias):
        insert(connection, "kept")
    with suppress(ZeroDivisionError), transaction.atomic(using=connection.alias):
        insert(connection, "undone")
        raise ZeroDivisionError
    assert owners(admin) == ["kept"]
    assert value(connection, "SELECT CAST(@audit AS CHAR)") == "begun commit begun rollback "
    connection.set_autocommit(False)
    connection.commit()
    admin.kill(connection.connection.thread_id())
    settle()
    insert(connection, "on a new connection")
    connection.commit()
    assert owners(admin) == ["kept", "on a new connection"]


def test_loss_in_a_statement_of_the_base_backend_leaves_no_transaction_with_autocommit_on(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    """The base backend has switched autocommit off on the old connection alone.

    That is no state of the application's, whose loss would have to be reported.
    """
    connection = make_connection("tests.backends.audited", recycle={"pin_session_state": False})
    run(connection, "SELECT 1")
    lost = []

    def lose(execute: Any, *arguments: Any) -> Any:
        if not lost:
            lost.append(connection.connection.thread_id())
            admin.kill(lost[0])
            settle()
        return execute(*arguments)

    with (
        listening(connection) as received,
        connection.execute_wrapper(lose),
        pytest.raises(OperationalError) as caught,
        transaction.atomic(using=connection.alias),
    ):
        insert(connection, "undone")
    assert (owners(admin), received.lost) == ([], [])
    assert not isinstance(caught.value, SessionStateLost)
    assert connection_id(connection) != lost[0]


# ##### Functions that an instrumentation puts in the place of Django's #####

INSTRUMENTED = """
import functools, json, sys
from collections import Counter
engine, when, driver, logged = sys.argv[1:]
import django_mysql_recycle
django_mysql_recycle.use_driver(driver)
from django.conf import settings
database = json.load(sys.stdin)
database["ENGINE"] = engine
settings.configure(DATABASES={"default": database}, DEBUG=logged == "logged")
if when != "before":
    import django_mysql_recycle.base
from django.apps import apps
from django.db import close_old_connections, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.mysql.base import DatabaseWrapper
from django.db.backends.utils import CursorWrapper
apps.populate([])
seen = Counter()

def instrument(owner, name):
    original = vars(owner)[name]
    @functools.wraps(original)
    def instrumented(*args, **named):
        seen[f"{owner.__module__}.{name}"] += 1
        return original(*args, **named)
    setattr(owner, name, instrumented)
    return original

def work():
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchall()
    try:
        with transaction.atomic():
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    close_old_connections()
    connection.close()

functions = [
    (owner, name)
    for owner, names in (
        (BaseDatabaseWrapper, WRAPPER_NAMES),
        (DatabaseWrapper, WRAPPER_NAMES),
        (CursorWrapper, CURSOR_NAMES),
    )
    for name in names
    if name in vars(owner)
]
if when == "each alone":
    work()  # Python makes its bytecode fit what it has seen
    for owner, name in functions:
        original = instrument(owner, name)
        del connections["default"]
        work()
        setattr(owner, name, original)
else:
    for owner, name in functions:
        instrument(owner, name)
    work()
print(json.dumps(seen))
"""

WRAPPER_NAMES = [
    *("connect", "get_new_connection", "ensure_connection", "get_autocommit", "set_autocommit"),
    *("_set_autocommit", "commit", "rollback", "_commit", "_rollback", "cursor", "_cursor"),
    *("create_cursor", "_prepare_cursor", "make_cursor", "close_if_unusable_or_obsolete"),
    "run_and_clear_commit_hooks",
]
CURSOR_NAMES = ["__init__", "__getattr__", "execute", "_execute_with_wrappers", "_execute"]


@pytest.mark.parametrize("logged", ["logged", "unlogged"])
@pytest.mark.parametrize("when", ["before", "after", "each alone"])
def test_functions_put_in_the_place_of_djangos_are_called_as_on_the_stock_backend(
    server: Server, driver: str, when: str, logged: str
) -> None:
    """Before or after the backend is imported; with all of them replaced, or one after the other."""

    def called(engine: str) -> set[str]:
        database: dict[str, Any] = {"CONN_MAX_AGE": 60}
        point(database, server)
        names = f"{WRAPPER_NAMES=}\n{CURSOR_NAMES=}\n"
        done = subprocess.run(
            [sys.executable, "-c", names + INSTRUMENTED, engine, when, driver, logged],
            input=json.dumps(database),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return set(json.loads(done.stdout))

    on_stock = called(STOCK)
    assert len(on_stock) > 10
    assert called(OURS) == on_stock
