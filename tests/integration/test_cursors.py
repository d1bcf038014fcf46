"""Cursors that are held across a pause, and results that are still to be read."""

from __future__ import annotations

import asyncio
import inspect
import re
import time
from collections.abc import Callable, Generator
from contextlib import nullcontext, suppress
from threading import Thread
from typing import Any
from unittest import mock

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.db import (
    DatabaseError,
    Error,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    transaction,
)
from django.db.backends import utils
from django.db.backends.mysql.base import CursorWrapper, DatabaseWrapper
from django.db.models import F
from pytest_django.plugin import DjangoDbBlocker

from ..testapp.models import Account
from .admin import Admin
from .connections import STOCK, Connection, ConnectionFactory, unbuffered
from .queries import connection_id, kill, run, settle, value

PAUSE = 1.05
"""A bit over the second without a statement that makes a pause."""


def kill_now(admin: Admin, connection: Connection) -> None:
    """KILL without another cursor's statement."""
    admin.kill(connection.connection.thread_id())
    settle()


@pytest.fixture
def accounts(admin: Admin) -> None:
    for number in range(6):
        admin.rows("INSERT INTO testapp_account (owner, balance) VALUES (%s, 0)", f"owner {number}")


@pytest.fixture
def two_results(admin: Admin) -> str:
    """A procedure that answers with two result sets of two rows each."""
    admin.create_procedure(
        "testapp_two_results() BEGIN"
        " SELECT 1 AS a UNION SELECT 2; SELECT 3 AS b UNION SELECT 4; END"
    )
    return "testapp_two_results"


def read_all(cursor: Any) -> list[list[tuple[Any, ...]]]:
    """Every result set that is left, without the empty end of a CALL."""
    results = []
    while True:
        if cursor.description:
            results.append(list(cursor.fetchall()))
        if not cursor.nextset():
            return results


def iterate(alias: str) -> Generator[Account, None, None]:
    yield from Account.objects.using(alias).order_by("id").iterator(chunk_size=2)


def raw(alias: str) -> Generator[Account, None, None]:
    yield from Account.objects.using(alias).raw("SELECT * FROM testapp_account ORDER BY id")


LOOPS = pytest.mark.parametrize("loop", [iterate, raw])


@pytest.mark.core
@LOOPS
@pytest.mark.parametrize("loss", ["at the first row", "at every row"])
def test_loop_with_a_write_inside_survives_the_loss_of_its_connection(
    connection: Connection,
    admin: Admin,
    accounts: None,
    loop: Callable[[str], Generator[Account, None, None]],
    loss: str,
) -> None:
    seen: list[str] = []
    for account in loop(connection.alias):
        if not seen or loss == "at every row":
            kill_now(admin, connection)
        account.balance += 1
        account.save(using=connection.alias)
        seen.append(account.owner)
    assert seen == [f"owner {number}" for number in range(6)]
    assert admin.rows("SELECT DISTINCT balance FROM testapp_account") == [(1,)]


@LOOPS
def test_stock_backend_fails_at_the_write_inside_the_loop(
    make_connection: ConnectionFactory,
    admin: Admin,
    accounts: None,
    loop: Callable[[str], Generator[Account, None, None]],
) -> None:
    connection = make_connection(STOCK)
    rows = loop(connection.alias)
    account = next(rows)
    kill_now(admin, connection)
    with pytest.raises(Error):
        account.save(using=connection.alias)
    with suppress(Error):
        rows.close()  # mysqlclient cannot even close the cursor


def test_loops_with_a_write_inside_go_on_past_the_max_age_of_healthy_connections(
    make_connection: ConnectionFactory,
    admin: Admin,
    accounts: None,
    recycles: list[dict[str, Any]],
) -> None:
    first, second = (make_connection(CONN_MAX_AGE=1).alias for _ in range(2))
    seen: list[str] = []
    for one, other in zip(iterate(first), raw(second), strict=True):
        if not seen:
            time.sleep(PAUSE)
        for account, alias in ((one, first), (other, second)):
            Account.objects.using(alias).filter(pk=account.pk).update(balance=F("balance") + 1)
        seen.append(one.owner)
        assert one == other
    assert seen == [f"owner {number}" for number in range(6)]
    assert admin.rows("SELECT DISTINCT balance FROM testapp_account") == [(2,)]
    assert [reported["reason"] for reported in recycles] == ["max age"] * 2


@pytest.mark.core
def test_held_cursor_runs_its_next_statement_on_the_new_connection(
    connection: Connection, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    with connection.cursor() as cursor:
        for _ in range(3):
            cursor.execute("SELECT CONNECTION_ID()")
            number = cursor.fetchone()[0]
            assert number in admin.connection_ids()
            admin.kill(number)
            settle()
        cursor.executemany(
            "INSERT INTO testapp_account (owner, balance) VALUES (%s, 1)", [("a",), ("b",)]
        )
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == 2
    assert len(recycles) == 3


def test_stock_backend_fails_with_a_held_cursor(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(STOCK)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        kill_now(admin, connection)
        with pytest.raises(Error):
            cursor.execute("SELECT 1")


def test_held_cursor_keeps_its_rows_until_its_next_statement(
    connection: Connection, admin: Admin
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 AS a UNION SELECT 2 UNION SELECT 3")
        kill_now(admin, connection)
        run(connection, "SELECT 'replaced'")
        assert cursor.rowcount == 3
        assert [column[0] for column in cursor.description] == ["a"]
        assert cursor.fetchone() == (1,)
        assert list(cursor) == [(2,), (3,)]
        cursor.execute("SELECT 4")
        assert cursor.fetchall() == ((4,),)


@pytest.mark.core
@pytest.mark.parametrize("replaced_by", ["a loss", "close()"])
def test_closing_a_held_cursor_never_raises_and_spares_the_new_connection(
    connection: Connection, admin: Admin, replaced_by: str
) -> None:
    cursor = connection.cursor()
    cursor.execute("SELECT 1 UNION SELECT 2")
    cursor.fetchone()
    if replaced_by == "a loss":
        kill_now(admin, connection)
    else:
        connection.close()
    second = connection_id(connection)
    cursor.close()
    cursor.close()
    assert connection_id(connection) == second


def test_closing_a_held_cursor_whose_connection_is_not_replaced_yet_never_raises(
    connection: Connection, admin: Admin
) -> None:
    for close in (lambda: kill_now(admin, connection), connection.close):
        cursor = connection.cursor()
        cursor.execute("SELECT 1 UNION SELECT 2")
        close()
        cursor.close()


@pytest.mark.parametrize("inside", ["autocommit", "a block"])
def test_number_out_of_range_is_an_integrity_error(
    make_connection: ConnectionFactory, engine: str, inside: str
) -> None:
    connection = make_connection(engine)
    block = nullcontext() if inside == "autocommit" else transaction.atomic(using=connection.alias)
    with pytest.raises(IntegrityError), block:
        run(connection, "SELECT CAST(0 AS UNSIGNED) - 1")


def test_closing_a_cursor_raises_the_error_of_a_later_statement_of_its_text(
    make_connection: ConnectionFactory, engine: str
) -> None:
    multi_statements = 65536
    connection = make_connection(engine, options={"client_flag": 2 | multi_statements})
    cursor = connection.cursor()
    cursor.execute("SELECT 1; SELECT * FROM nowhere")
    with pytest.raises(connection.Database.ProgrammingError, match="nowhere"):
        cursor.close()
    assert value(connection, "SELECT 2") == 2


def test_nextset_of_a_held_cursor_raises_after_a_replacement(
    connection: Connection, admin: Admin
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        kill_now(admin, connection)
        run(connection, "SELECT 'replaced'")
        with pytest.raises(ProgrammingError, match="replaced"):
            cursor.nextset()


@pytest.mark.core
def test_closed_cursor_is_not_revived(
    make_connection: ConnectionFactory, engine: str, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    connection = make_connection(engine)
    cursor = connection.cursor()
    cursor.execute("SELECT 1")
    cursor.close()
    with pytest.raises(ProgrammingError, match=r"(?i)cursor closed"):
        cursor.execute("SELECT 2")
    kill_now(admin, connection)
    with pytest.raises(ProgrammingError, match=r"(?i)cursor closed"):
        cursor.execute("SELECT 2")


MANY_ROWS = (
    "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900)"
    " SELECT i, REPEAT('x', 20000) FROM n"
)
"""More than fits into the buffers on the way: the server is still sending when the first row is read."""


@pytest.mark.core
def test_unbuffered_rows_are_read_to_the_end_on_a_stale_connection(
    make_connection: ConnectionFactory, driver: str, recycles: list[dict[str, Any]]
) -> None:
    connection = make_connection(
        options=unbuffered(driver), CONN_MAX_AGE=1, recycle={"idle_limit": 0.2, "ping_after": 0.1}
    )
    first = connection_id(connection)
    with connection.cursor() as cursor:
        cursor.execute(MANY_ROWS)
        numbers = [cursor.fetchone()[0]]
        time.sleep(PAUSE)
        numbers += [row[0] for row in cursor.fetchmany(10)]
        numbers += [row[0] for row in cursor]
        assert numbers == list(range(1, 901))
    assert recycles == []
    time.sleep(0.3)
    assert connection_id(connection) != first


def test_statement_in_the_middle_of_unbuffered_rows_is_left_to_the_driver(
    make_connection: ConnectionFactory, driver: str, recycles: list[dict[str, Any]]
) -> None:
    connection = make_connection(options=unbuffered(driver), recycle={"idle_limit": 0.05})
    first = connection_id(connection)
    with connection.cursor() as cursor:
        cursor.execute(MANY_ROWS)
        cursor.fetchone()
        time.sleep(0.1)
        if driver == "mysqlclient":
            with pytest.raises(Error) as caught:
                run(connection, "SELECT 1")
            assert caught.value.args[0] == 2014
            assert recycles == []
        else:
            # PyMySQL gives the rows up, and says so.
            with pytest.warns(UserWarning, match="unbuffered result was left incomplete"):
                assert connection_id(connection) == first
    assert run(connection, "SELECT 1") == [(1,)]


def test_fetching_rows_counts_as_activity(
    make_connection: ConnectionFactory, driver: str, recycles: list[dict[str, Any]]
) -> None:
    connection = make_connection(options=unbuffered(driver), recycle={"idle_limit": 60})
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 UNION SELECT 2")
        connection.guard.connection.last_activity -= 61  # type: ignore[attr-defined]
        assert len(cursor.fetchall()) == 2
        cursor.execute("SELECT 3")
        cursor.fetchall()
    assert recycles == []


def test_unbuffered_rows_are_complete_after_a_long_pause(
    make_connection: ConnectionFactory, driver: str, recycles: list[dict[str, Any]]
) -> None:
    connection = make_connection(
        options=unbuffered(driver), CONN_MAX_AGE=1, recycle={"idle_limit": 0.1}
    )
    run(connection, "SELECT 1")
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 UNION SELECT 2 UNION SELECT 3")
        assert cursor.fetchone() == (1,)
        time.sleep(0.2)
        assert cursor.fetchone() == (2,)
        assert list(cursor.fetchall()) == [(3,)]
    assert recycles == []


def test_connection_with_unbuffered_cursors_is_replaced_once_the_rows_are_read(
    make_connection: ConnectionFactory, driver: str, admin: Admin
) -> None:
    connection = make_connection(options=unbuffered(driver))
    for _ in range(3):
        first = connection_id(connection)
        kill_now(admin, connection)
        assert connection_id(connection) != first
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 UNION SELECT 2")
        cursor.fetchone()
    kill_now(admin, connection)  # closing the cursor has read the rest
    assert run(connection, "SELECT 1") == [(1,)]


@pytest.mark.core
def test_further_result_sets_of_a_procedure_are_left_alone(
    make_connection: ConnectionFactory, two_results: str, recycles: list[dict[str, Any]]
) -> None:
    connection = make_connection(CONN_MAX_AGE=1, recycle={"idle_limit": 0.2, "ping_after": 0.1})
    first = connection_id(connection)
    with connection.cursor() as cursor:
        cursor.callproc(two_results)
        assert list(cursor.fetchall()) == [(1,), (2,)]
        time.sleep(PAUSE)
        assert cursor.nextset()
        assert list(cursor.fetchall()) == [(3,), (4,)]
        while cursor.nextset():
            pass
    assert connection_id(connection) == first  # it has just talked to the server
    assert recycles == []
    time.sleep(0.3)
    assert connection_id(connection) != first


def test_statement_before_further_result_sets_are_read_is_left_to_the_driver(
    make_connection: ConnectionFactory,
    driver: str,
    two_results: str,
    recycles: list[dict[str, Any]],
) -> None:
    connection = make_connection(recycle={"idle_limit": 0.05})
    first = connection_id(connection)
    with connection.cursor() as cursor:
        cursor.callproc(two_results)
        time.sleep(0.1)
        try:
            assert connection_id(connection) == first  # the driver has read past them
        except ProgrammingError:
            assert driver == "mysqlclient"  # Oracle's client library refuses: 2014
    assert recycles == []
    time.sleep(0.1)
    assert run(connection, "SELECT 1") == [(1,)]


def test_connection_is_replaced_although_a_cursor_is_open_whose_results_were_discarded(
    connection: Connection, admin: Admin, two_results: str, recycles: list[dict[str, Any]]
) -> None:
    with connection.cursor() as cursor:
        cursor.callproc(two_results)
        with suppress(ProgrammingError):  # Oracle's client library does not discard them
            run(connection, "SELECT 1")
            kill_now(admin, connection)
            assert value(connection, "SELECT 2") == 2
            assert [facts["reason"] for facts in recycles] == ["closed"]


def test_result_sets_of_several_statements_are_left_alone(
    make_connection: ConnectionFactory, recycles: list[dict[str, Any]]
) -> None:
    found_rows, multi_statements = 2, 65536
    connection = make_connection(
        options={"client_flag": found_rows | multi_statements}, recycle={"idle_limit": 0.05}
    )
    run(connection, "SELECT 1")
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1; SELECT 2; SELECT 3")
        time.sleep(0.1)
        assert read_all(cursor) == [[(1,)], [(2,)], [(3,)]]
    assert recycles == []


@pytest.mark.core
@pytest.mark.parametrize("lost", [False, True], ids=["healthy", "lost"])
def test_leftovers_of_the_executing_cursor_are_discarded(
    connection: Connection, admin: Admin, two_results: str, lost: bool
) -> None:
    with connection.cursor() as cursor:
        cursor.callproc(two_results)
        if lost:
            kill_now(admin, connection)
        cursor.execute("SELECT 'mine'")
        assert list(cursor.fetchall()) == [("mine",)]


def test_leftovers_of_a_collected_cursor_are_no_hindrance(
    connection: Connection, admin: Admin, two_results: str, recycles: list[dict[str, Any]]
) -> None:
    with connection.cursor() as cursor:
        cursor.callproc(two_results)
    kill(admin, connection)
    assert run(connection, "SELECT 'mine'") == [("mine",)]
    assert len(recycles) == 1


def lines(function: Any) -> list[str]:
    """The code of a function, less its comments and its docstring."""
    source = re.sub(r'""".*?"""', "", inspect.getsource(function), flags=re.DOTALL)
    found = (line.strip() for line in source.splitlines())
    return [line for line in found if line and not line.startswith("#")]


@pytest.mark.core
def test_django_begins_and_ends_a_transaction_as_ours_stands_in_for_it() -> None:
    assert lines(Connection.get_autocommit) == [
        "def get_autocommit(self):",
        "self.ensure_connection()",
        "return self.autocommit",
    ]
    assert lines(Connection.set_autocommit)[3:] == [
        "self.validate_no_atomic_block()",
        "self.close_if_health_check_failed()",
        "self.ensure_connection()",
        "start_transaction_under_autocommit = (",
        "force_begin_transaction_with_broken_autocommit",
        "and not autocommit",
        'and hasattr(self, "_start_transaction_under_autocommit")',
        ")",
        "if start_transaction_under_autocommit:",
        "self._start_transaction_under_autocommit()",
        "elif autocommit:",
        "self._set_autocommit(autocommit)",
        "else:",
        'with debug_transaction(self, "BEGIN"):',
        "self._set_autocommit(autocommit)",
        "self.autocommit = autocommit",
        "if autocommit and self.run_commit_hooks_on_set_autocommit_on:",
        "self.run_and_clear_commit_hooks()",
        "self.run_commit_hooks_on_set_autocommit_on = False",
    ]
    assert lines(DatabaseWrapper._set_autocommit) == [
        "def _set_autocommit(self, autocommit):",
        "with self.wrap_database_errors:",
        "self.connection.autocommit(autocommit)",
    ]
    for name in ("commit", "rollback"):
        assert lines(getattr(Connection, f"_{name}")) == [
            f"def _{name}(self):",
            "if self.connection is not None:",
            f'with debug_transaction(self, "{name.upper()}"), self.wrap_database_errors:',
            f"return self.connection.{name}()",
        ]
    assert lines(Connection.commit)[1:] == [
        "def commit(self):",
        "self.validate_thread_sharing()",
        "self.validate_no_atomic_block()",
        "self._commit()",
        "self.errors_occurred = False",
        "self.run_commit_hooks_on_set_autocommit_on = True",
    ]
    assert lines(Connection.validate_no_atomic_block)[1] == "if self.in_atomic_block:"
    assert lines(Connection.validate_thread_sharing)[1] == (
        "if not (self.allow_thread_sharing or self._thread_ident == _thread.get_ident()):"
    )


@pytest.mark.core
def test_django_checks_a_connection_as_ours_stands_in_for_it() -> None:
    assert lines(Connection.close_if_unusable_or_obsolete) == [
        "def close_if_unusable_or_obsolete(self):",
        "if self.connection is not None:",
        "self.health_check_done = False",
        'if self.get_autocommit() != self.settings_dict["AUTOCOMMIT"]:',
        "self.close()",
        "return",
        "if self.errors_occurred:",
        "if self.is_usable():",
        "self.errors_occurred = False",
        "self.health_check_done = True",
        "else:",
        "self.close()",
        "return",
        "if self.close_at is not None and time.monotonic() >= self.close_at:",
        "self.close()",
        "return",
    ]


@pytest.mark.core
def test_django_makes_a_cursor_as_ours_stands_in_for_it() -> None:
    # What RecycleMixin does in its place. ensure_connection() and the decorator look for a running
    # event loop, for which cursor() has looked by then.
    assert lines(DatabaseWrapper._cursor) == [
        "def _cursor(self, name=None):",
        "self.close_if_health_check_failed()",
        "self.ensure_connection()",
        "with self.wrap_database_errors:",
        "return self._prepare_cursor(self.create_cursor(name))",
    ]
    ensure = inspect.unwrap(Connection.ensure_connection)
    assert lines(ensure)[:3] == [
        "@async_unsafe",
        "def ensure_connection(self):",
        "if self.connection is None:",
    ]
    assert lines(DatabaseWrapper.create_cursor) == [
        "@async_unsafe",
        "def create_cursor(self, name=None):",
        "cursor = self.connection.cursor()",
        "return CursorWrapper(cursor)",
    ]
    assert lines(Connection.cursor) == [
        "@async_unsafe",
        "def cursor(self):",
        "return self._cursor()",
    ]
    assert lines(Connection._prepare_cursor) == [
        "def _prepare_cursor(self, cursor):",
        "self.validate_thread_sharing()",
        "if self.queries_logged:",
        "wrapped_cursor = self.make_debug_cursor(cursor)",
        "else:",
        "wrapped_cursor = self.make_cursor(cursor)",
        "return wrapped_cursor",
    ]
    assert lines(Connection.make_cursor) == [
        "def make_cursor(self, cursor):",
        "return utils.CursorWrapper(cursor, self)",
    ]
    assert lines(CursorWrapper.execute) == [
        "def execute(self, query, args=None):",
        "try:",
        "return self.cursor.execute(query, args)",
        "except Database.OperationalError as e:",
        "if e.args[0] in self.codes_for_integrityerror:",
        "raise IntegrityError(*tuple(e.args))",
        "raise",
    ]


@pytest.mark.core
def test_django_calls_the_cursor_as_ours_stands_in_for_it() -> None:
    # What DirectCursorWrapper does in its place.
    assert lines(utils.CursorWrapper.__getattr__) == [
        "def __getattr__(self, attr):",
        "cursor_attr = getattr(self.cursor, attr)",
        "if attr in CursorWrapper.WRAP_ERROR_ATTRS:",
        "return self.db.wrap_database_errors(cursor_attr)",
        "else:",
        "return cursor_attr",
    ]
    wrapped: Any = utils.CursorWrapper
    assert {"fetchone", "fetchmany", "fetchall", "nextset"} == wrapped.WRAP_ERROR_ATTRS
    assert lines(utils.CursorWrapper.execute) == [
        "def execute(self, sql, params=None):",
        "return self._execute_with_wrappers(",
        "sql, params, many=False, executor=self._execute",
        ")",
    ]
    assert lines(wrapped._execute_with_wrappers) == [
        "def _execute_with_wrappers(self, sql, params, many, executor):",
        'context = {"connection": self.db, "cursor": self}',
        "for wrapper in reversed(self.db.execute_wrappers):",
        "executor = functools.partial(wrapper, executor)",
        "return executor(sql, params, many, context)",
    ]
    execute = lines(wrapped._execute)
    assert execute[:2] == [
        "def _execute(self, sql, params, *ignored_wrapper_args):",
        "if not apps.ready and not apps.stored_app_configs:",
    ]
    assert execute[-6:] == [
        "self.db.validate_no_broken_transaction()",
        "with self.db.wrap_database_errors:",
        "if params is None:",
        "return self.cursor.execute(sql)",
        "else:",
        "return self.cursor.execute(sql, params)",
    ]
    assert lines(Connection.validate_no_broken_transaction)[1] == "if self.needs_rollback:"


@pytest.mark.core
@pytest.mark.parametrize("fetch", ["fetchone", "fetchmany", "fetchall"])
def test_errors_of_a_cursor_are_djangos_and_are_noted(
    make_connection: ConnectionFactory, engine: str, fetch: str
) -> None:
    connection = make_connection(engine)
    with connection.cursor() as cursor:
        with pytest.raises(OperationalError, match="no_such_column") as caught:
            cursor.execute("SELECT no_such_column")
        assert isinstance(caught.value.__cause__, connection.Database.OperationalError)
    assert connection.errors_occurred
    connection.errors_occurred = False
    cursor = connection.cursor()
    with pytest.raises(ProgrammingError):
        getattr(cursor, fetch)()  # nothing has been executed
    assert connection.errors_occurred
    with pytest.raises(TypeError):
        getattr(cursor, fetch)(1, 2, 3)
    with pytest.raises(AttributeError):
        getattr(cursor, "no_such_attribute")  # noqa: B009


@pytest.mark.core
def test_cursor_refuses_in_a_broken_transaction_as_on_the_stock_backend(
    make_connection: ConnectionFactory, engine: str
) -> None:
    connection = make_connection(engine)
    with transaction.atomic(using=connection.alias):
        cursor = connection.cursor()
        connection.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError, match="end of the 'atomic'"):
            cursor.execute("SELECT 1")
        connection.set_rollback(False)
        cursor.execute("SELECT 1")
        with pytest.raises(transaction.TransactionManagementError, match="forbidden"):
            connection.commit()


@pytest.mark.core
@pytest.mark.parametrize("shared", [True, False])
def test_another_thread_may_make_a_cursor_and_commit_only_where_it_may_share(
    make_connection: ConnectionFactory, engine: str, shared: bool
) -> None:
    connection = make_connection(engine)
    run(connection, "SELECT 1")
    errors: list[BaseException | None] = []

    def use() -> None:
        for call in (connection.cursor, connection.commit):
            try:
                call()
                errors.append(None)
            except DatabaseError as error:
                errors.append(error)

    if shared:
        connection.inc_thread_sharing()
    thread = Thread(target=use)
    thread.start()
    thread.join()
    if shared:
        connection.dec_thread_sharing()
    assert [error is None for error in errors] == [shared, shared]


@pytest.mark.core
def test_execute_wrapper_is_called_for_a_cursor_that_was_made_before(
    make_connection: ConnectionFactory, engine: str
) -> None:
    connection = make_connection(engine)
    seen: list[str] = []

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append(sql)
        return execute(sql, params, many, context)

    with connection.cursor() as cursor:
        cursor.execute("SELECT 'before'")
        with connection.execute_wrapper(watch):
            cursor.execute("SELECT 'within'")
        cursor.execute("SELECT 'after'")
        assert cursor.fetchmany(1) == (("after",),)
    assert seen == ["SELECT 'within'"]


@pytest.mark.core
def test_event_loop_is_as_closed_to_cursors_as_on_the_stock_backend(
    make_connection: ConnectionFactory, engine: str
) -> None:
    connection = make_connection(engine)
    connection.ensure_connection()

    async def make_one() -> None:
        connection.cursor()

    async def ensure() -> None:
        connection.ensure_connection()

    async def enter() -> None:
        with transaction.atomic(using=connection.alias):
            pass

    for misuse in (make_one, ensure, enter):
        with pytest.raises(SynchronousOnlyOperation):
            asyncio.run(misuse())
    assert run(connection, "SELECT @@SESSION.autocommit") == [(1,)]


@pytest.mark.core
def test_pytest_django_keeps_a_test_from_an_open_connection(
    make_connection: ConnectionFactory, engine: str, django_db_blocker: DjangoDbBlocker
) -> None:
    connection = make_connection(engine)
    run(connection, "SELECT 1")
    with (
        django_db_blocker.block(),
        pytest.raises(RuntimeError, match="Database access not allowed"),
    ):
        run(connection, "SELECT 1")
    for name in ("ensure_connection", "get_autocommit"):
        with django_db_blocker.block(), pytest.raises(RuntimeError, match="not allowed"):
            getattr(connection, name)()
    run(connection, "SELECT 1")


@pytest.mark.core
def test_cursor_is_the_one_of_django_around_the_one_of_the_driver(
    connection: Connection, make_connection: ConnectionFactory
) -> None:
    stock = make_connection(STOCK)
    with connection.cursor() as ours, stock.cursor() as theirs:
        assert isinstance(ours.cursor, CursorWrapper)
        assert type(ours.cursor.cursor) is type(theirs.cursor.cursor)
        assert ours.connection.thread_id() == connection.connection.thread_id()


def test_ensure_connection_that_a_test_puts_in_its_place_is_called_for_a_cursor(
    make_connection: ConnectionFactory, engine: str
) -> None:
    connection = make_connection(engine)
    connection.ensure_connection()
    with mock.patch.object(connection, "ensure_connection", side_effect=OperationalError("down")):
        with pytest.raises(OperationalError, match="down"):
            connection.cursor()
    run(connection, "SELECT 1")
