"""`OPTIONS["pool"]`: borrowing, returning and waiting, on real servers."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from typing import Any

import pytest
from django.db import transaction
from django.db.utils import OperationalError

from django_mysql_recycle import PoolClosed, PoolTimeout, TooManyRequests, pinned

from ..admin import Admin
from ..queries import connection_id, kill, value
from .borrowers import in_thread
from .conftest import Pooled


def test_a_closed_connection_goes_to_the_next_thread(pooled: Pooled) -> None:
    connection = pooled()
    first = connection_id(connection)
    connection.close()

    def use(other: Any) -> int:
        number = connection_id(other)
        other.close()
        return number

    assert in_thread(connection.alias, use) == first
    assert connection_id(connection) == first


def test_the_end_of_a_request_returns_it(pooled: Pooled) -> None:
    connection = pooled()
    first = connection_id(connection)
    connection.close_if_unusable_or_obsolete()
    assert connection.connection is None
    assert connection.pool_stats()["pool_available"] == 1
    assert connection_id(connection) == first


def test_borrowing_sends_nothing(pooled: Pooled, admin: Admin) -> None:
    connection = pooled()
    connection_id(connection)
    connection.close()
    # The question is a statement itself.
    asked = "SHOW GLOBAL STATUS LIKE 'Questions'"
    before = int(admin.rows(asked)[0][1])
    connection.ensure_connection()
    connection.close()
    assert int(admin.rows(asked)[0][1]) == before + 1


def test_a_session_variable_is_not_handed_on(pooled: Pooled) -> None:
    connection = pooled()
    with connection.cursor() as cursor:
        cursor.execute("SET @tenant = 'alice'")
    first = connection_id(connection)
    connection.close()
    assert value(connection, "SELECT @tenant") is None
    assert connection_id(connection) != first


def test_no_more_than_max_size_are_open(pooled: Pooled) -> None:
    connection = pooled(max_size=1, timeout=0.3)
    with transaction.atomic(using=connection.alias):
        connection_id(connection)
        with pytest.raises(PoolTimeout, match=r"within OPTIONS\['pool'\]\['timeout'\] \(0.3 s\)"):
            in_thread(connection.alias, connection_id)


def test_the_queue_is_limited(pooled: Pooled) -> None:
    connection = pooled(max_size=1, timeout=5, max_waiting=1)
    waiting = threading.Thread(
        target=in_thread,
        args=(connection.alias, lambda other: (connection_id(other), other.close())),
    )
    with transaction.atomic(using=connection.alias):
        connection_id(connection)
        waiting.start()
        while not connection.pool_stats()["requests_waiting"]:
            pass
        with pytest.raises(TooManyRequests):
            in_thread(connection.alias, connection_id)
    connection.close()
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_thread_that_holds_all_of_them_does_not_wait_for_itself(pooled: Pooled) -> None:
    connection = pooled(max_size=1, timeout=30)
    copy: Any = connection.copy()
    with transaction.atomic(using=connection.alias):
        connection_id(connection)
        with pytest.raises(PoolTimeout, match="holds all of them itself"):
            connection_id(copy)


def test_a_connection_that_rests_is_called_in(pooled: Pooled) -> None:
    connection = pooled(max_size=1, timeout=10)
    first = connection_id(connection)

    def use(other: Any) -> int:
        number = connection_id(other)
        other.close()
        return number

    assert in_thread(connection.alias, use) == first
    assert connection.pool_stats()["called_in"] == 1
    assert connection_id(connection) == first


def test_no_connection_is_called_in_out_of_a_transaction(pooled: Pooled) -> None:
    connection = pooled(max_size=1, timeout=2)
    with transaction.atomic(using=connection.alias):
        connection_id(connection)
        with pytest.raises(PoolTimeout):
            in_thread(connection.alias, connection_id)
        connection_id(connection)


def test_a_waiting_thread_learns_that_the_pool_was_closed(pooled: Pooled) -> None:
    connection: Any = pooled(max_size=1, timeout=20)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            in_thread(connection.alias, connection_id)
        except OperationalError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    with transaction.atomic(using=connection.alias):
        connection_id(connection)
        waiting.start()
        while not connection.pool_stats()["requests_waiting"]:
            pass
        connection.close_pool()
        waiting.join(10)
    assert [type(error) for error in errors] == [PoolClosed]


def test_the_connection_of_a_thread_that_has_ended_frees_its_slot(pooled: Pooled) -> None:
    connection = pooled(max_size=1, timeout=5)
    in_thread(connection.alias, connection_id)
    connection_id(connection)
    assert connection.pool_stats()["pool_size"] == 1


def test_a_killed_idle_connection_is_replaced(pooled: Pooled, admin: Admin) -> None:
    connection = pooled(max_size=1)
    first = connection_id(connection)
    kill(admin, connection)
    connection.close()
    assert connection_id(connection) != first
    assert connection.pool_stats()["pool_size"] == 1


def test_two_threads_take_turns_on_one_connection(pooled: Pooled) -> None:
    connection = pooled(max_size=1, timeout=10)
    first = connection_id(connection)
    turn = threading.Event()
    done = threading.Event()

    def use(other: Any) -> int:
        number = connection_id(other)
        turn.set()
        done.wait(10)
        return number

    threads: list[threading.Thread] = []
    numbers: list[int] = []
    for _ in range(2):
        turn.clear()
        thread = threading.Thread(target=lambda: numbers.append(in_thread(connection.alias, use)))
        thread.start()
        threads.append(thread)
        assert turn.wait(10)
        # Its former holder, whose cursor and connection are still there, takes it back.
        assert connection_id(connection) == first
    done.set()
    for thread in threads:
        thread.join(10)
    assert numbers == [first, first]
    assert connection.pool_stats()["called_in"] == 4


def test_a_connection_that_is_called_in_brings_no_session_state(pooled: Pooled) -> None:
    connection = pooled(max_size=1, timeout=10)
    with connection.cursor() as cursor:
        cursor.execute("SET @tenant = 'alice'")
    connection.guard.unit_of_work_ended()  # the variable does not pin any more
    connection.ensure_connection()
    value(connection, "SELECT 1")

    def use(other: Any) -> Any:
        tenant = value(other, "SELECT @tenant")
        other.close()
        return tenant

    assert in_thread(connection.alias, use) is None


def test_a_connection_whose_statement_has_failed_is_called_in(pooled: Pooled) -> None:
    connection = pooled(max_size=1, timeout=10)
    connection_id(connection)
    for _ in range(2):
        with pytest.raises(OperationalError, match="Unknown column"):
            value(connection, "SELECT no_such_column")

    def use(other: Any) -> int:
        number = connection_id(other)
        other.close()
        return number

    assert in_thread(connection.alias, use)


def test_a_cursor_that_was_kept_reaches_nothing_of_the_next_borrower(pooled: Pooled) -> None:
    connection: Any = pooled(max_size=1)
    kept = connection.cursor()
    kept.execute("SELECT 1 UNION SELECT 2")
    former = connection.guard.connection
    connection.close()

    def use(other: Any) -> list[Any]:
        assert other.guard.connection is not former
        with other.cursor() as cursor:
            cursor.execute("SELECT 3 UNION SELECT 4")
            first = cursor.fetchone()
            assert kept.fetchone() == (1,)  # was read before
            kept.close()
            return [first, cursor.fetchone()]

    assert in_thread(connection.alias, use) == [(3,), (4,)]


def test_without_anything_kept_the_next_borrower_has_the_same_object(pooled: Pooled) -> None:
    connection: Any = pooled(max_size=1)
    value(connection, "SELECT 1")
    former = id(connection.guard.connection)
    connection.close()
    assert (
        in_thread(
            connection.alias,
            lambda other: (other.ensure_connection(), id(other.guard.connection))[1],
        )
        == former
    )


@pytest.mark.parametrize("how", ["atomic", "pinned", "shared"])
def test_what_others_rely_on_is_kept_at_the_end_of_a_request(pooled: Pooled, how: str) -> None:
    connection: Any = pooled(max_size=1)
    first = connection_id(connection)
    with ExitStack() as stack:
        if how == "atomic":
            stack.enter_context(transaction.atomic(using=connection.alias))
        elif how == "pinned":
            stack.enter_context(pinned(connection))
        else:
            connection.inc_thread_sharing()
            stack.callback(connection.dec_thread_sharing)
        connection.close_if_unusable_or_obsolete()
        assert connection_id(connection) == first
    connection.close_if_unusable_or_obsolete()
    assert connection.connection is None


def test_a_connection_past_its_idle_limit_is_not_kept_in_the_pool(
    pooled: Pooled, admin: Admin
) -> None:
    connection: Any = pooled(options={"recycle": {"idle_limit": 0.5}})
    other: Any = connection.copy()
    unused, used = connection_id(other), connection_id(connection)
    other.close()
    connection.close()
    deadline = time.monotonic() + 10
    # The pool looks once a second, when a connection is borrowed or returned.
    while unused in admin.connection_ids():
        assert time.monotonic() < deadline
        assert connection_id(connection) == used
        connection.close()
    assert connection.pool_stats()["pool_size"] == 1
