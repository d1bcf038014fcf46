"""What the backend does in place of Django's own methods, which it must follow when Django changes."""

from __future__ import annotations

import asyncio
import inspect
import re
from threading import Thread
from typing import Any
from unittest import mock

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.db import (
    DatabaseError,
    OperationalError,
    ProgrammingError,
    transaction,
)
from django.db.backends import utils
from django.db.backends.mysql.base import CursorWrapper, DatabaseWrapper
from pytest_django.plugin import DjangoDbBlocker

from .connections import STOCK, Connection, ConnectionFactory
from .queries import run


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
