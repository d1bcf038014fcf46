"""Cursors that are held across a pause, and results that are still to be read."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from django.db import (
    Error,
    IntegrityError,
    ProgrammingError,
    transaction,
)
from django.db.models import F

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
