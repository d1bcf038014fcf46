"""A statement cut short: no later one ever reads its answer.

Soft time limits, Ctrl-C, killed greenlets: an exception out of nowhere while the driver waits.
mysqlclient meets it when its C call returns, PyMySQL at once; both are left in the middle.
"""

from __future__ import annotations

import ctypes
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import time as time_of_day
from importlib import import_module
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.utils import DatabaseError, Error

from django_mysql_recycle import SessionStateLost
from servers import FaultProxy

from ..testapp.models import Account
from .acts import (
    Hooks,
    alarm,
    assert_works,
    balances,
    in_a_driver,
    insert,
    kill,
    listening,
    outcome,
    owners,
    rest,
    session_id,
    wait_for,
)
from .admin import Admin
from .connections import STOCK, Connection, ConnectionFactory, Proxied
from .queries import connection_id, run, value


class SoftTimeLimit(Exception):
    """What a worker's time limit raises."""


INTERRUPTIONS = pytest.mark.parametrize("kind", [SoftTimeLimit, KeyboardInterrupt])
ONE_KIND = pytest.mark.parametrize("kind", [SoftTimeLimit])


def destructors_may_complain(test: Any) -> Any:
    """PyMySQL's destructors complain of what an interruption left of their objects."""
    unraisable = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    return unraisable(pytest.mark.filterwarnings("ignore::ResourceWarning")(test))


#: The answer arrives after the alarm; it is not the answer to anything asked later.
SLOW = "SELECT SLEEP(0.3) + 99"


def interrupted(kind: type[BaseException], act: Callable[[], Any], after: float = 0.1) -> None:
    with pytest.raises(kind), alarm(after, kind):
        act()


@pytest.mark.core
@INTERRUPTIONS
def test_statement_after_an_interrupted_one_gets_its_own_answer(
    make_connection: ConnectionFactory, admin: Admin, transport: Any, kind: type[BaseException]
) -> None:
    connection = make_connection(transport=transport)
    before = connection_id(connection)
    with listening(connection) as told:
        interrupted(kind, lambda: run(connection, SLOW))
        assert [value(connection, "SELECT %s + 0", n) for n in (1, 2, 3)] == [1, 2, 3]
    assert told.recycled == ["interrupted"]
    assert session_id(connection) != before
    assert_works(connection, admin)


def test_control_stock_backend_is_left_in_the_middle_of_an_interrupted_statement(
    make_connection: ConnectionFactory, driver: str
) -> None:
    connection = make_connection(STOCK)
    run(connection, "SELECT 1")
    interrupted(SoftTimeLimit, lambda: run(connection, SLOW))
    time.sleep(0.4)
    answers = []
    for number in (1, 2, 3):
        try:
            answers.append(value(connection, "SELECT %s + 0", number))
        except (Error, AttributeError, TypeError, IndexError):
            answers.append("error")
    assert answers != [1, 2, 3]


@ONE_KIND
def test_interrupted_write_is_there_at_most_once(
    connection: Connection, admin: Admin, kind: type[BaseException]
) -> None:
    run(connection, "SELECT 1")
    first = session_id(connection)
    sql = "INSERT INTO testapp_account (owner, balance) SELECT 'a', SLEEP(0.3)"
    interrupted(kind, lambda: run(connection, sql))
    insert(connection, "b")
    admin.wait_until_gone(first)
    assert owners(admin) in (["a", "b"], ["b"])
    assert_works(connection, admin)


@ONE_KIND
def test_connection_of_an_interrupted_statement_is_closed_without_another_command(
    make_connection: ConnectionFactory,
    proxy: Callable[..., FaultProxy],
    kind: type[BaseException],
) -> None:
    between = proxy()
    connection = make_connection(via=between)
    run(connection, "SELECT 1")
    interrupted(kind, lambda: run(connection, SLOW))
    requests = between.connections[0].requests
    assert value(connection, "SELECT 2") == 2
    wait_for(lambda: not between.connections[0].open, "the end of the interrupted connection")
    assert between.connections[0].requests == requests


@pytest.mark.core
@INTERRUPTIONS
def test_transaction_with_an_interrupted_statement_cannot_go_on(
    connection: Connection, admin: Admin, kind: type[BaseException], hooks: Hooks
) -> None:
    errors = []
    with (
        pytest.raises(DatabaseError, match="cut short"),
        transaction.atomic(using=connection.alias),
    ):
        insert(connection, "a")
        hooks.register(connection, "a")
        interrupted(kind, lambda: run(connection, SLOW))
        errors.append(outcome(lambda: insert(connection, "b")))
        errors.append(outcome(lambda: value(connection, "SELECT 1")))
        errors.append(outcome(lambda: enter(connection)))
        # COMMIT raises as well: the block cannot pretend.
    assert [isinstance(error, DatabaseError) for error in errors] == [True] * 3
    assert (owners(admin), hooks) == ([], [])
    with transaction.atomic(using=connection.alias):
        insert(connection, "c")
    assert (owners(admin), hooks) == (["c"], [])
    assert_works(connection, admin)


def enter(connection: Connection) -> None:
    with transaction.atomic(using=connection.alias):
        pass


@ONE_KIND
def test_interruption_that_leaves_the_block_is_not_masked(
    connection: Connection, admin: Admin, kind: type[BaseException]
) -> None:

    def work() -> None:
        with transaction.atomic(using=connection.alias):
            insert(connection, "a")
            with transaction.atomic(using=connection.alias):
                run(connection, SLOW)

    interrupted(kind, work)
    insert(connection, "b")
    assert owners(admin) == ["b"]
    assert_works(connection, admin)


@ONE_KIND
def test_interrupted_savepoint_dooms_the_transaction(
    connection: Connection, admin: Admin, kind: type[BaseException]
) -> None:
    with pytest.raises(DatabaseError), transaction.atomic(using=connection.alias):
        insert(connection, "a")
        with pytest.raises(kind), transaction.atomic(using=connection.alias):
            interrupted(kind, lambda: run(connection, SLOW))
            raise kind
        insert(connection, "b")
    assert owners(admin) == []
    assert_works(connection, admin)


@pytest.mark.core
@INTERRUPTIONS
@pytest.mark.parametrize("form", ["atomic", "commit()", "sql"])
def test_interrupted_commit_is_heard_and_nothing_of_it_is_left_over(
    proxied: Proxied, admin: Admin, kind: type[BaseException], form: str, hooks: Hooks
) -> None:
    connection, between = proxied()
    run(connection, "SELECT 1")

    def work() -> None:
        if form == "atomic":
            with transaction.atomic(using=connection.alias):
                insert(connection, "a")
                hooks.register(connection, "a")
                between.latency = 0.15
        elif form == "commit()":
            connection.set_autocommit(False)
            insert(connection, "a")
            between.latency = 0.15
            connection.commit()
        else:
            run(connection, "BEGIN")
            insert(connection, "a")
            between.latency = 0.15
            run(connection, "COMMIT")

    interrupted(kind, work)
    between.latency = 0
    if form == "commit()":
        connection.rollback()
        connection.set_autocommit(True)
    elif form == "sql":
        outcome(lambda: run(connection, "SELECT 1"))
    assert connection.get_autocommit()
    with transaction.atomic(using=connection.alias):
        insert(connection, "b")
        hooks.register(connection, "b")
    # The server may or may not have committed; nobody was told that it has.
    assert owners(admin) in (["a", "b"], ["b"])
    assert hooks in (["b"], ["a", "b"])
    if "a" in hooks:
        assert "a" in owners(admin)
    assert_works(connection, admin)


@ONE_KIND
def test_interruption_between_an_acknowledged_commit_and_autocommit_costs_no_hook(
    proxied: Proxied, admin: Admin, kind: type[BaseException], hooks: Hooks
) -> None:
    connection, between = proxied()

    def work() -> None:
        with transaction.atomic(using=connection.alias):
            insert(connection, "a")
            hooks.register(connection, "a")
            # COMMIT takes 0.2 s, SET autocommit = 1 as long: the alarm rings in the second.
            between.latency = 0.1

    def commit_is_answered(_frame: Any) -> bool:
        sent = [sql for one in between.connections for sql in one.queries()]
        return "COMMIT" in sent and sent[-1] != "COMMIT"

    with pytest.raises(kind), alarm(0.05, kind, where=commit_is_answered):
        work()
    between.latency = 0
    assert (owners(admin), hooks) == (["a"], ["a"])
    assert connection.get_autocommit()
    assert (
        not connection.run_commit_hooks_on_set_autocommit_on
    )  # or an interrupted ROLLBACK runs some
    with transaction.atomic(using=connection.alias):
        insert(connection, "b")
    assert (owners(admin), hooks) == (["a", "b"], ["a"])


@pytest.mark.parametrize("method", ["commit", "rollback"])
def test_block_whose_end_an_interruption_has_kept_from_being_sent_commits_nothing(
    make_connection: ConnectionFactory,
    admin: Admin,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    connection = make_connection()

    def strike() -> None:
        raise SoftTimeLimit

    with monkeypatch.context() as patch:
        patch.setattr(connection, method, strike)
        with pytest.raises(SoftTimeLimit):
            with transaction.atomic(using=connection.alias):
                insert(connection, "a")
                if method == "rollback":
                    raise LookupError
    assert owners(admin) == []
    with transaction.atomic(using=connection.alias):
        insert(connection, "b")
    assert owners(admin) == ["b"]
    assert_works(connection, admin)


@ONE_KIND
def test_interrupted_entry_into_a_transaction_leaves_nothing_behind(
    proxied: Proxied, admin: Admin, kind: type[BaseException]
) -> None:
    connection, between = proxied()
    run(connection, "SELECT 1")
    between.latency = 0.15
    interrupted(kind, lambda: enter(connection))
    between.latency = 0
    insert(connection, "a")
    assert owners(admin) == ["a"]  # with autocommit
    with transaction.atomic(using=connection.alias):
        insert(connection, "b")
    assert_works(connection, admin)


@ONE_KIND
def test_interrupted_rollback_is_a_rollback(
    proxied: Proxied, admin: Admin, kind: type[BaseException], hooks: Hooks
) -> None:
    connection, between = proxied()

    def work() -> None:
        with transaction.atomic(using=connection.alias):
            insert(connection, "a")
            hooks.register(connection, "a")
            between.latency = 0.15
            raise RuntimeError

    interrupted(kind, work)
    between.latency = 0
    with transaction.atomic(using=connection.alias):
        insert(connection, "b")
    assert (owners(admin), hooks) == (["b"], [])
    assert_works(connection, admin)


def unbuffered(driver: str) -> Any:
    if driver == "pymysql":
        from pymysql.cursors import SSCursor
    else:
        from MySQLdb.cursors import SSCursor
    return SSCursor


NUMBERS = (
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)"
    " SELECT i, REPEAT('x', 2000), SLEEP(0.002) FROM n"
)


@destructors_may_complain
@ONE_KIND
@pytest.mark.parametrize("inside", ["plain", "atomic"])
def test_interrupted_fetch_leaves_no_row_to_a_later_statement(
    make_connection: ConnectionFactory,
    admin: Admin,
    driver: str,
    kind: type[BaseException],
    inside: str,
) -> None:
    connection = make_connection(options={"cursorclass": unbuffered(driver)})
    run(connection, "SELECT 1")

    def read() -> None:
        with connection.cursor() as cursor:
            cursor.execute(NUMBERS)
            while cursor.fetchone():
                pass

    def work() -> None:
        if inside == "atomic":
            with transaction.atomic(using=connection.alias):
                insert(connection, "a")
                read()
        else:
            read()

    interrupted(kind, work)
    assert [value(connection, "SELECT %s + 0", n) for n in (1, 2)] == [1, 2]
    assert owners(admin) == []
    assert_works(connection, admin)


@ONE_KIND
def test_interrupted_ping_of_the_backends_own_is_not_read_by_the_statement(
    proxied: Proxied, admin: Admin, kind: type[BaseException]
) -> None:
    connection, between = proxied(recycle={"ping_after": 0.1})
    run(connection, "SELECT 1")
    rest(connection)
    between.latency = 0.15
    interrupted(kind, lambda: insert(connection, "a"))
    between.latency = 0
    assert owners(admin) == []
    with listening(connection) as told:
        assert value(connection, "SELECT 5 + 0") == 5
    assert told.recycled == ["interrupted"]
    assert_works(connection, admin)


@ONE_KIND
def test_interrupted_health_check_is_not_read_by_the_next_statement(
    proxied: Proxied, admin: Admin, kind: type[BaseException]
) -> None:
    connection, between = proxied(CONN_HEALTH_CHECKS=True, CONN_MAX_AGE=None)
    run(connection, "SELECT 1")
    connection.close_if_unusable_or_obsolete()
    between.latency = 0.15
    interrupted(kind, lambda: run(connection, "SELECT 1"))
    between.latency = 0
    assert value(connection, "SELECT 5 + 0") == 5
    assert_works(connection, admin)


@ONE_KIND
def test_interrupted_connect_leaves_no_half_open_connection(
    proxied: Proxied, admin: Admin, kind: type[BaseException]
) -> None:
    connection, between = proxied()
    between.latency = 0.1
    interrupted(kind, lambda: insert(connection, "a"), after=0.15)
    between.latency = 0
    assert owners(admin) == []
    insert(connection, "b")
    assert owners(admin) == ["b"]
    # And while a lost one is being replaced.
    kill(admin, connection)
    between.latency = 0.1
    interrupted(kind, lambda: insert(connection, "c"), after=0.15)
    between.latency = 0
    insert(connection, "d")
    assert owners(admin) == ["b", "d"]
    assert_works(connection, admin)


@ONE_KIND
def test_lock_held_on_an_interrupted_connection_is_told_lost(
    connection: Connection, admin: Admin, kind: type[BaseException]
) -> None:
    from django_mysql_recycle import SessionStateLost

    run(connection, "SELECT GET_LOCK('interrupted', 0)")
    interrupted(kind, lambda: run(connection, SLOW))
    with pytest.raises(SessionStateLost, match="interrupted"):
        run(connection, "SELECT 1")
    assert_works(connection, admin)


@destructors_may_complain
@pytest.mark.parametrize("inside", ["plain", "atomic"])
def test_interruption_anywhere_in_the_driver_never_shifts_answers(
    connection: Connection, admin: Admin, inside: str
) -> None:
    seed = random.randrange(1 << 30)
    moments = random.Random(seed)
    hits = 0

    def ask(number: int) -> None:
        answer = value(connection, "SELECT %s + 0", number)
        assert answer == number, f"{answer} answers {number} (seed {seed})"

    def some(start: int) -> None:
        for number in range(start, start + 60):
            if inside == "atomic":
                with transaction.atomic(using=connection.alias):
                    ask(number)
                    ask(-number)
            else:
                ask(number)

    for round_ in range(120):
        try:
            with alarm(moments.uniform(0.0001, 0.006), SoftTimeLimit, where=in_a_driver):
                some(round_ * 1000)
        except SoftTimeLimit:
            hits += 1
        except DatabaseError:
            hits += 1  # leaving the block may be what was interrupted
    ask(7)
    assert hits > 20, f"only {hits} interruptions (seed {seed})"
    assert_works(connection, admin)


@destructors_may_complain
def test_interruption_anywhere_in_the_driver_never_doubles_or_halves_a_transaction(
    connection: Connection, admin: Admin, hooks: Hooks
) -> None:
    insert(connection, "left", 1000)
    insert(connection, "right", 1000)
    seed = random.randrange(1 << 30)
    moments = random.Random(seed)
    acknowledged = 0
    for _ in range(120):
        try:
            with alarm(moments.uniform(0.0001, 0.004), SoftTimeLimit, where=in_a_driver):
                for _ in range(20):
                    with transaction.atomic(using=connection.alias):
                        run(
                            connection,
                            "UPDATE testapp_account SET balance = balance - 1 WHERE owner = 'left'",
                        )
                        run(
                            connection,
                            "UPDATE testapp_account SET balance = balance + 1 WHERE owner = 'right'",
                        )
                        hooks.register(connection, 1)
                    acknowledged += 1
        except (SoftTimeLimit, DatabaseError):
            continue
    there = balances(admin)
    moved = there["right"] - 1000
    assert there["left"] + there["right"] == 2000, f"seed {seed}"
    assert acknowledged <= moved <= acknowledged + 120, f"seed {seed}"
    # A hook runs at most once for each COMMIT, and for each that the application was told of.
    assert acknowledged <= len(hooks) <= moved, f"seed {seed}"
    assert_works(connection, admin)


# Nothing was sent: nothing is wrong.


class Unwritable:
    def __str__(self) -> str:
        raise SoftTimeLimit

    __repr__ = __str__


def rows_that_raise() -> Iterator[tuple[str, int]]:
    yield "a", 1
    raise SoftTimeLimit


BEFORE_SENDING: dict[str, tuple[Any, Callable[[Connection], Any]]] = {
    "parameter that cannot be written": (
        Exception,
        lambda connection: run(connection, "SELECT %s", Unwritable()),
    ),
    "too few parameters": (Exception, lambda connection: run(connection, "SELECT %s, %s", 1)),
    "no text": (Exception, lambda connection: run(connection, object())),
    "rows of the application": (SoftTimeLimit, lambda connection: many(connection)),
}


def many(connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO testapp_account (owner, balance) VALUES (%s, %s)", rows_that_raise()
        )


@pytest.mark.parametrize("case", BEFORE_SENDING)
@pytest.mark.parametrize("inside", ["plain", "atomic"])
def test_exception_before_anything_was_sent_costs_no_connection(
    connection: Connection, admin: Admin, case: str, inside: str
) -> None:
    error, act = BEFORE_SENDING[case]
    before = connection_id(connection)
    with listening(connection) as told:
        if inside == "atomic":
            with transaction.atomic(using=connection.alias):
                with pytest.raises(error):
                    act(connection)
                insert(connection, "after")
        else:
            with pytest.raises(error):
                act(connection)
            insert(connection, "after")
    assert told.recycled == []
    assert connection_id(connection) == before
    assert owners(admin) == ["after"]


def test_error_of_the_orm_before_sending_costs_no_connection(
    connection: Connection, admin: Admin
) -> None:
    before = connection_id(connection)
    with transaction.atomic(using=connection.alias):
        with pytest.raises(ValueError), transaction.atomic(using=connection.alias):
            Account.objects.using(connection.alias).create(owner="a", balance="many")  # type: ignore[misc]
        Account.objects.using(connection.alias).create(owner="b")
    assert connection_id(connection) == before
    assert owners(admin) == ["b"]


# Threads.


TOO_LONG_FOR_PYTHON = "SELECT SEC_TO_TIME(100000) UNION SELECT SEC_TO_TIME(1)"


def test_value_that_cannot_be_converted_costs_a_transaction_no_more_than_on_the_stock_backend(
    make_connection: ConnectionFactory, admin: Admin, driver: str, engine: str
) -> None:
    connection = make_connection(engine)
    with suppress(Error), transaction.atomic(using=connection.alias):
        insert(connection, "a")
        with pytest.raises(ValueError, match="hour"):
            run(connection, TOO_LONG_FOR_PYTHON)
        insert(connection, "b")
    # PyMySQL gives up in the middle of the rows.
    assert owners(admin) == (["a", "b"] if driver == "mysqlclient" else [])


def test_value_of_an_unbuffered_row_that_cannot_be_converted_costs_that_row_alone(
    make_connection: ConnectionFactory, admin: Admin, driver: str, engine: str
) -> None:
    module = import_module("pymysql.cursors" if driver == "pymysql" else "MySQLdb.cursors")
    connection = make_connection(engine, options={"cursorclass": module.SSCursor})
    with transaction.atomic(using=connection.alias):
        insert(connection, "a")
        with connection.cursor() as cursor:
            cursor.execute(TOO_LONG_FOR_PYTHON)
            with pytest.raises(ValueError, match="hour"):
                cursor.fetchone()
            assert cursor.fetchone() == (time_of_day(0, 0, 1),)
            assert cursor.fetchone() is None
        insert(connection, "b")
    assert owners(admin) == ["a", "b"]


def test_value_that_cannot_be_converted_leaves_the_next_statement_its_own_answer(
    connection: Connection, admin: Admin, driver: str
) -> None:
    before = connection_id(connection)
    run(connection, "SELECT GET_LOCK('held', 0)")
    with pytest.raises(ValueError, match="hour"):
        run(connection, TOO_LONG_FOR_PYTHON)
    if driver == "pymysql":
        with pytest.raises(SessionStateLost, match="held"):
            run(connection, "SELECT 1")
    assert (connection_id(connection) == before) == (driver == "mysqlclient")
    assert_works(connection, admin)


def test_thread_that_is_told_to_stop_in_a_statement_reads_its_own_answers_afterwards(
    connection: Connection, admin: Admin
) -> None:
    begun = threading.Event()
    answers: list[Any] = []

    def work() -> None:
        mine = connections[connection.alias]
        try:
            run(mine, "SELECT 1")
            begun.set()
            run(mine, SLOW)
            while True:
                time.sleep(0.001)
        except SoftTimeLimit:
            answers.extend(value(mine, "SELECT %s + 0", n) for n in (1, 2, 3))
        finally:
            mine.close()

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    time.sleep(0.05)
    assert thread.ident is not None
    # As a thread pool's time limit or an eventlet's kill does it.
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(SoftTimeLimit)
    )
    thread.join()
    assert answers == [1, 2, 3]
