"""An interruption between any two instructions of the package's code costs nothing but itself.

Each operation is interrupted again and again, at another boundary each time.
"""

from __future__ import annotations

import dis
import gc
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import wraps
from typing import Any

import pymysql
import pytest
from django.db import transaction
from django.db.utils import Error

from django_mysql_recycle import SessionStateLost, pinned
from django_mysql_recycle.base import RecycleMixin
from django_mysql_recycle.cursors import RecyclingCursor

from .acts import owners
from .admin import Admin
from .boundaries import each_boundary, lose
from .connections import Connection, ConnectionFactory
from .forking import in_child
from .queries import run, value

pytestmark = [
    pytest.mark.timeout(300),
    # What an interrupted connect() of the driver's leaves to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _end_what_is_left(admin: Admin) -> Iterator[None]:
    yield
    # Struck while it handles an exception of its own, the interpreter keeps that exception, and
    # with it the connections that its frames refer to.
    for number in admin.connection_ids():
        with suppress(pymysql.Error):
            admin.kill(number)
    gc.collect()  # now, and not in the middle of another test


LOCK = "SELECT GET_LOCK('mine', 2)"


def isolated(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a child: tracing leaves its marks in the code of the process."""

    @wraps(test)
    def run_in_child(**fixtures: Any) -> None:
        in_child(lambda: test(**fixtures))

    return run_in_child


def outcome(act: Callable[[], Any]) -> BaseException | None:
    try:
        act()
    except Error as error:
        return error
    return None


def works(connection: Connection, where: str = "") -> None:
    """It answers what it is asked, in the mode that it should have."""
    for number in (7, 8):
        assert value(connection, f"SELECT {number}") == number, where
    assert connection.autocommit, where
    assert value(connection, "SELECT @@SESSION.autocommit") == 1, where
    assert not connection.in_atomic_block, where
    calls = connection.guard.calls
    assert not (calls.is_connecting() or calls.in_django_check() or calls.is_notifying())


def losses_reported(connection: Connection) -> int:
    """How often the next statements raise SessionStateLost."""
    errors = [outcome(lambda: run(connection, "SELECT 1")) for _ in range(4)]
    assert all(error is None or isinstance(error, SessionStateLost) for error in errors), errors
    return sum(error is not None for error in errors)


def is_callers(where: str) -> bool:
    """Whether close() had not looked at the loss yet, or had done all and was about to return.

    The application's `with` statement has received the error by then. An interruption takes its
    place there, as anywhere else in the application, and has it as its context.
    """
    name, _, offset = where.rpartition("+")
    if name.endswith("DirectCursorWrapper.close"):
        return True
    steps = list(dis.get_instructions(RecyclingCursor.close))
    stores = [
        step.offset for step in steps if step.opname == "STORE_ATTR" and step.argval == "in_flight"
    ]
    # Ctrl-C strikes where a function begins and after a call: looking has to begin before one.
    first_call = next(step.offset for step in steps if step.opname.startswith("CALL"))
    begins, ends = min(stores[0], first_call), stores[-1]
    return name.endswith("RecyclingCursor.close") and not begins < int(offset) <= ends


def reported(error: BaseException | None, where: str = "") -> int:
    if error is not None and where and is_callers(where):
        error = error.__context__
    return int(isinstance(error, SessionStateLost))


def by_statement(connection: Connection) -> None:
    run(connection, "INSERT INTO testapp_account (owner, balance) VALUES ('x', 0)")


def by_parameters(connection: Connection) -> None:
    run(connection, "SELECT %s", 1)


def by_executemany(connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO testapp_account (owner, balance) VALUES (%s, 0)", [("x",)])


def by_atomic(connection: Connection) -> None:
    with transaction.atomic(using=connection.alias):
        pass


def by_commit(connection: Connection) -> None:
    connection.commit()


def by_pinning(connection: Connection) -> None:
    with pinned(connection, "by hand"):
        pass


def by_close(connection: Connection) -> None:
    connection.close()


TELLING = (by_statement, by_parameters, by_executemany, by_atomic, by_commit, by_pinning, by_close)


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
@pytest.mark.parametrize("act", TELLING, ids=lambda act: act.__name__)
@isolated
def test_loss_of_a_lock_is_reported_once_wherever_the_interruption_strikes(
    connection: Connection, act: Callable[[Connection], None], closed: bool
) -> None:
    wrong = []

    def arrange() -> Callable[[], Any]:
        assert value(connection, LOCK) == 1
        lose(connection)
        if closed:
            connection.close()
        return lambda: act(connection)

    for where, error in each_boundary(arrange):
        if reported(error, where) + losses_reported(connection) != 1:
            wrong.append(where or "not interrupted")
        works(connection, where)
    assert wrong == [], wrong


@pytest.mark.parametrize("max_age", [0, 60])
@isolated
def test_loss_found_at_the_boundary_of_a_unit_of_work_is_reported_once(
    make_connection: ConnectionFactory, caplog: pytest.LogCaptureFixture, max_age: int
) -> None:
    # Django's check closes it: the next statement raises, or with CONN_MAX_AGE = 0 a WARNING
    # tells it.
    wrong = []
    connection = make_connection(CONN_MAX_AGE=max_age, CONN_HEALTH_CHECKS=True)

    def arrange() -> Callable[[], Any]:
        assert value(connection, LOCK) == 1
        lose(connection)
        caplog.clear()
        connection.errors_occurred = True
        return connection.close_if_unusable_or_obsolete

    with caplog.at_level(logging.WARNING, "django_mysql_recycle"):
        for where, _error in each_boundary(arrange):
            raised = losses_reported(connection)
            warned = sum("session state" in record.getMessage() for record in caplog.records)
            if raised != 1 and (raised or max_age or not warned):
                wrong.append((where, raised, warned))
            works(connection, where)
    assert wrong == [], wrong


@pytest.mark.parametrize("dropped", [False, True])
@isolated
def test_default_database_is_never_another_one_without_an_error(
    connection: Connection, admin: Admin, dropped: bool
) -> None:
    wrong = []

    def arrange() -> Callable[[], Any]:
        admin.rows("CREATE DATABASE IF NOT EXISTS selected")
        connection.close()
        run(connection, "USE selected")
        if dropped:
            admin.rows("DROP DATABASE selected")
        lose(connection)
        return lambda: run(connection, "SELECT 1")

    try:
        for where, error in each_boundary(arrange, sample=500):
            received = reported(error, where)
            for _ in range(3):
                try:
                    found = value(connection, "SELECT DATABASE()")
                except SessionStateLost:
                    received += 1
                else:
                    if not received and found != "selected":
                        wrong.append((where, found))
            if received != dropped:
                wrong.append((where, received))
            works(connection, where)
    finally:
        admin.rows("DROP DATABASE IF EXISTS selected")
    assert wrong == [], wrong


@isolated
def test_loss_in_the_middle_of_a_statement_is_reported_once(
    connection: Connection, admin: Admin
) -> None:
    wrong = []

    def arrange() -> Callable[[], Any]:
        run(connection, "BEGIN")
        number = connection.connection.thread_id()

        def act() -> None:
            with connection.cursor() as cursor:
                cursor.execute(f"KILL {number}")

        return act

    for where, error in each_boundary(arrange):
        if connection.connection is not None:
            with suppress(Exception):
                lose(connection)
        if reported(error, where) + losses_reported(connection) != 1:
            wrong.append((where, repr(error)))
        works(connection, where)
    assert wrong == [], wrong


# ##### Nothing is lost: modes, rows, answers #####


@pytest.mark.parametrize("stale", [False, True], ids=["healthy", "lost"])
@isolated
def test_write_is_there_at_most_once_and_the_next_answer_is_its_own(
    connection: Connection, admin: Admin, stale: bool
) -> None:
    wrong = []
    numbers = iter(range(100_000))
    expected: list[str] = []

    def arrange() -> Callable[[], Any]:
        connection.ensure_connection()
        if stale:
            lose(connection)
        owner = f"{next(numbers):06d}"
        expected.append(owner)
        text = f"INSERT INTO testapp_account (owner, balance) VALUES ('{owner}', 0)"
        return lambda: run(connection, text)

    for where, error in each_boundary(arrange):
        works(connection, where)
        if error is None:
            there = [owner for owner in owners(admin) if owner == expected[-1]]
            if len(there) != 1:
                wrong.append((where, there))
    assert wrong == [], wrong


@pytest.mark.parametrize("stale", [False, True], ids=["healthy", "lost"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
@isolated
def test_atomic_block_is_whole_or_not_there(
    connection: Connection, admin: Admin, stale: bool, end: str
) -> None:
    wrong = []
    numbers = iter(range(100_000))
    ran: list[str] = []
    current: list[str] = []

    class Undo(Exception):
        pass

    def arrange() -> Callable[[], Any]:
        connection.ensure_connection()
        if stale:
            lose(connection)
        number = next(numbers)
        current[:] = [f"{number} a", f"{number} b"]
        ran.clear()

        def act() -> None:
            with transaction.atomic(using=connection.alias):
                for owner in current:
                    run(
                        connection,
                        f"INSERT INTO testapp_account (owner, balance) VALUES ('{owner}', 0)",
                    )
                transaction.on_commit(lambda: ran.append("hook"), using=connection.alias)
                if end == "rollback":
                    raise Undo

        return act

    for where, error in each_boundary(arrange, sample=200):
        works(connection, where)
        there = [owner for owner in owners(admin) if owner in current]
        whole = there == current
        if there and not whole:
            wrong.append((where, "half", there))
        if end == "rollback" and there:
            wrong.append((where, "not rolled back", there))
        if error is None and not whole:
            wrong.append((where, "lost", there))
        if ran and not whole:
            wrong.append((where, "hook", there))
        with transaction.atomic(using=connection.alias):
            pass
        if len(ran) > 1 or (ran and not whole):
            wrong.append((where, "hooks", ran))
    assert wrong == [], wrong


def returns(where: str) -> bool:
    """Whether set_autocommit() had done all and was about to return: the caller's own moment."""
    name, _, offset = where.rpartition("+")
    code = dis.get_instructions(RecycleMixin.set_autocommit)
    last = {step.offset for step in code if step.opname.startswith("RETURN")}
    return name.endswith("RecycleMixin.set_autocommit") and int(offset) in last


@pytest.mark.parametrize("stale", [False, True], ids=["healthy", "lost"])
@isolated
def test_mode_is_what_the_connection_says_it_is(
    connection: Connection, admin: Admin, stale: bool
) -> None:
    wrong = []

    def arrange() -> Callable[[], Any]:
        connection.set_autocommit(True)
        if stale:
            lose(connection)
        return lambda: connection.set_autocommit(False)

    for where, error in each_boundary(arrange):
        server = value(connection, "SELECT @@SESSION.autocommit")
        if server != int(connection.autocommit):
            wrong.append((where, server, connection.autocommit))
        if error is not None and not connection.autocommit and not returns(where):
            wrong.append((where, "left off"))
        connection.rollback()
    assert wrong == [], wrong


@isolated
def test_connecting_that_was_interrupted_leaves_no_half_open_connection(
    connection: Connection, admin: Admin
) -> None:
    wrong = []

    def arrange() -> Callable[[], Any]:
        connection.close()
        return connection.ensure_connection

    kept = 0
    for where, _error in each_boundary(arrange):
        kept += "calls.py" in where  # see _end_what_is_left()
        try:
            works(connection, where)
        except AssertionError as error:
            wrong.append((where, str(error)))
    assert wrong == [], wrong
    connection.close()
    gc.collect()
    deadline = time.monotonic() + 5
    while len(admin.connection_ids()) > kept:
        assert time.monotonic() < deadline, "a connection was left open"
        time.sleep(0.02)
