"""An exception that comes before anything was sent: the connection stays as good as it was."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import DatabaseError, Error, ProgrammingError

from ..backends.guarded.base import Converted, Refused
from .acts import assert_works, insert, owners, soon
from .admin import Admin
from .connections import STOCK, ConnectionFactory
from .interruptions.conftest import SoftTimeLimit
from .queries import connection_id, kill, run, settle, value


def raises(kind: type[BaseException] = SoftTimeLimit) -> Iterator[Any]:
    yield ["row", 0]
    raise kind


class Encoder:
    def __str__(self) -> str:
        raise SoftTimeLimit


def rows(connection: Any, rows: Any) -> None:
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO testapp_account (owner, balance) VALUES (%s, %s)", rows)


def procedure(connection: Any, *arguments: Any) -> None:
    with connection.cursor() as cursor:
        cursor.callproc("nothing", arguments)


UNSENT: dict[str, Callable[[Any], Any]] = {
    "text that cannot be encoded": lambda connection: run(connection, "SELECT '\ud800'"),
    "parameter that cannot be encoded": lambda connection: run(connection, "SELECT %s", "\ud800"),
    "argument of a procedure that cannot be encoded": lambda c: procedure(c, "\ud800"),
    "argument of a procedure that raises": lambda c: procedure(c, Encoder()),
    "name of a procedure that is none": lambda connection: connection.cursor().callproc(None),
    "parameter that raises": lambda connection: run(connection, "SELECT %s", Encoder()),
    "text that is none": lambda connection: run(connection, object()),
    "rows that raise": lambda connection: rows(connection, raises()),
    "rows that raise Ctrl-C": lambda connection: rows(connection, raises(KeyboardInterrupt)),
    "row that cannot be encoded": lambda connection: rows(connection, [["a", 0], ["\ud800", 0]]),
}


@pytest.mark.parametrize(
    ("engine", "what"),
    [
        *(("django_mysql_recycle", what) for what in UNSENT),
        # The guard asks for the number of rows, which an iterator does not have.
        *(("tests.backends.guarded", what) for what in UNSENT if not what.startswith("rows")),
    ],
)
def test_exception_before_anything_was_sent_leaves_the_transaction_as_it_was(
    make_connection: ConnectionFactory, admin: Admin, engine: str, what: str
) -> None:
    connection = make_connection(engine)
    before = connection_id(connection)
    with transaction.atomic(using=connection.alias):
        insert(connection, "first")
        with pytest.raises(BaseException) as caught:
            UNSENT[what](connection)
        insert(connection, "second")
    assert not isinstance(caught.value, pytest.fail.Exception)
    assert (owners(admin), connection_id(connection)) == (["first", "second"], before)


def test_error_of_another_connection_out_of_the_rows_costs_no_connection(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection, other = make_connection(), make_connection(STOCK)
    before = connection_id(connection)
    kill(admin, other)

    def from_the_other() -> Iterator[Any]:
        yield ["a", 0]
        yield [value(other, "SELECT 'never'"), 0]

    with transaction.atomic(using=connection.alias):
        insert(connection, "first")
        with pytest.raises(Error):
            rows(connection, from_the_other())
        insert(connection, "second")
    assert (owners(admin), connection_id(connection)) == (["first", "second"], before)


def test_guard_in_front_of_the_drivers_cursor_costs_no_transaction(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection("tests.backends.guarded")
    before = connection_id(connection)
    with transaction.atomic(using=connection.alias):
        insert(connection, "first")
        with pytest.raises(Refused):
            run(connection, "SELECT 'forbidden'")
        with pytest.raises(Converted):
            insert(connection, "first")  # a duplicate
        insert(connection, "second")
    assert (owners(admin), connection_id(connection)) == (["first", "second"], before)


@pytest.mark.parametrize("how", ["subclass", "patch"])
def test_query_method_around_the_drivers_is_called_and_its_errors_cost_no_transaction(
    make_connection: ConnectionFactory,
    admin: Admin,
    engine: str,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    database = make_connection(engine).Database  # type: ignore[attr-defined]
    module = "pymysql.connections" if database.__name__ == "pymysql" else "MySQLdb.connections"
    kind = sys.modules[module].Connection
    drivers = kind.query
    called: list[Any] = []

    def query(self: Any, sql: Any, *args: Any, **named: Any) -> Any:
        called.append(sql)
        return drivers(self, sql, *args, **named)

    if how == "patch":
        monkeypatch.setattr(kind, "query", query)
    else:
        monkeypatch.setattr(database, "connect", type("Subclass", (kind,), {"query": query}))
    connection = make_connection(engine)
    with transaction.atomic(using=connection.alias):
        insert(connection, "first")
        with pytest.raises(DatabaseError), transaction.atomic(using=connection.alias):
            run(connection, "SELECT * FROM no_such_table")
        insert(connection, "second")
    assert owners(admin) == ["first", "second"]
    assert any("no_such_table" in str(sql) for sql in called)


def test_loss_that_an_instrumentation_has_converted_is_still_a_loss(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection("tests.backends.guarded")
    first = connection_id(connection)
    with pytest.raises(Converted), soon(0.1, lambda: admin.kill(first)):
        run(connection, "SELECT SLEEP(5)")
    assert connection_id(connection) != first
    assert_works(connection, admin)


ROWS: dict[str, Callable[[], Any]] = {
    "list": lambda: [["a", 1], ["b", 2]],
    "tuple": lambda: (["a", 1], ["b", 2]),
    "deque": lambda: deque([["a", 1], ["b", 2]]),
    "set": lambda: {("a", 1), ("b", 2)},
    "dict.items()": lambda: {"a": 1, "b": 2}.items(),
    "dict.values()": lambda: {1: ["a", 1], 2: ["b", 2]}.values(),
    "dict.keys()": lambda: dict.fromkeys([("a", 1), ("b", 2)]).keys(),
}


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("engine", ["django_mysql_recycle", "tests.backends.guarded", STOCK])
def test_executemany_takes_what_it_takes_on_the_stock_backend(
    make_connection: ConnectionFactory, admin: Admin, engine: str, kind: str
) -> None:
    connection = make_connection(engine)
    rows(connection, ROWS[kind]())
    assert owners(admin) == ["a", "b"]


@pytest.mark.parametrize("kind", ["iterator", "generator"])
@pytest.mark.parametrize("engine", ["django_mysql_recycle", STOCK])
def test_executemany_takes_iterators_as_the_stock_backend_does(
    make_connection: ConnectionFactory, admin: Admin, engine: str, kind: str
) -> None:
    given = [["a", 1], ["b", 2]]
    rows(make_connection(engine), iter(given) if kind == "iterator" else (row for row in given))
    assert owners(admin) == ["a", "b"]


def test_statement_that_the_driver_itself_was_given_ends_with_its_answer(
    connection: BaseDatabaseWrapper, admin: Admin, driver: str
) -> None:
    """Also one without rows, of which mysqlclient's users need not fetch a result."""
    before = connection_id(connection)
    connection.connection.query("INSERT INTO testapp_account (owner, balance) VALUES ('raw', 0)")
    assert value(connection, "SELECT 1") == 1
    assert (owners(admin), connection_id(connection)) == (["raw"], before)


def test_connection_goes_with_its_last_reference(connection: BaseDatabaseWrapper) -> None:
    """What watches the driver's object does not keep it."""
    import gc
    import weakref

    run(connection, "SELECT 1")
    driver_connection = weakref.ref(connection.connection)
    gc.disable()
    try:
        connection.close()
        assert driver_connection() is None
    finally:
        gc.enable()
    assert connections  # the handler itself is untouched


def test_statement_at_any_step_of_switching_a_replacement_to_autocommit_off_mixes_nothing_up(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(AUTOCOMMIT=True)
    connection.set_autocommit(False)
    for step in count(1):
        connection.commit()
        admin.kill(connection.connection.thread_id())  # asking it would begin a transaction
        settle()
        found: list[Any] = []
        left, switching = step, False

        def profile(frame: Any, event: str, _argument: Any) -> None:
            nonlocal left, switching
            if frame.f_code.co_name == "set_autocommit" and not frame.f_locals["autocommit"]:
                switching = event == "call"
            left -= switching
            if left == 0:
                sys.setprofile(None)
                with suppress(ProgrammingError):
                    found.append(value(connection, f"SELECT {-step}"))  # noqa: B023

        sys.setprofile(profile)
        try:
            answer = value(connection, f"SELECT {step}")
        finally:
            sys.setprofile(None)
        assert answer == step
        assert found in ([], [-step])
        assert value(connection, "SELECT @@autocommit") == 0
        if left > 0:
            break
    assert step > 5
