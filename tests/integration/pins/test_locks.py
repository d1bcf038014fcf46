"""Named locks: who holds one learns of its loss before it writes."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
from django.db import close_old_connections, transaction
from django.db.utils import DatabaseError

from django_mysql_recycle import SessionStateLost

from ..acts import (
    assert_works,
    insert,
    kill,
    listening,
    owners,
)
from ..admin import Admin
from ..connections import STOCK, Connection, ConnectionFactory
from ..queries import run, value

PATIENT: dict[str, Any] = {"CONN_MAX_AGE": None}


def test_control_stock_backend_goes_on_without_the_lock(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(STOCK, CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
    run(connection, "SELECT GET_LOCK('control', 0)")
    kill(admin, connection)
    connection.close_if_unusable_or_obsolete()
    assert value(connection, "SELECT IS_FREE_LOCK('control')") == 1


def test_parameters_name_the_lock(connection: Connection, admin: Admin) -> None:
    run(connection, "SELECT GET_LOCK(%s, %s)", "by parameter", 0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(%(name)s, 0)", {"name": "by name"})
    run(connection, "SELECT RELEASE_LOCK(%s)", "by parameter")
    kill(admin, connection)
    with pytest.raises(SessionStateLost) as caught:
        run(connection, "SELECT 1")
    assert "by name" in str(caught.value) and "by parameter" not in str(caught.value)


def test_executemany_takes_a_lock_for_each_row(connection: Connection, admin: Admin) -> None:
    with connection.cursor() as cursor:
        cursor.executemany("DO GET_LOCK(%s, 0)", [("m1",), ("m2",)])
    kill(admin, connection)
    with pytest.raises(SessionStateLost):
        run(connection, "SELECT 1")
    assert_works(connection, admin)


def test_lock_taken_twice_pins_until_it_is_released_twice(
    connection: Connection, admin: Admin
) -> None:
    for _ in range(2):
        run(connection, "SELECT GET_LOCK('counted', 0)")
    assert value(connection, "SELECT RELEASE_LOCK('counted')") == 1
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match="counted"):
        run(connection, "SELECT 1")
    for _ in range(2):
        run(connection, "SELECT GET_LOCK('counted', 0)")
    for _ in range(2):
        run(connection, "SELECT RELEASE_LOCK('counted')")
    kill(admin, connection)
    assert_works(connection, admin)


def test_lock_that_was_not_given_does_not_pin(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    holder, other = make_connection(), make_connection()
    assert value(holder, "SELECT GET_LOCK('taken', 0)") == 1
    assert value(other, "SELECT GET_LOCK('taken', 0)") == 0
    kill(admin, other)
    assert_works(other, admin)


@pytest.mark.parametrize("form", ["COALESCE({}, 0)", "IFNULL({}, 0)", "IF({}, 1, 0)", "({} = 1)"])
def test_answer_counts_in_the_forms_that_keep_it(
    make_connection: ConnectionFactory, admin: Admin, form: str
) -> None:
    take = f"SELECT {form.format('GET_LOCK(%s, 0)')}"
    free = f"SELECT {form.format('RELEASE_LOCK(%s)')}"
    holder, other = make_connection(), make_connection()
    assert value(holder, take, "asked for") == 1
    assert not value(other, take, "asked for")
    assert not value(other, free, "asked for")
    kill(admin, other)
    assert_works(other, admin)
    assert value(holder, take, "asked for") == value(holder, free, "asked for") == 1
    kill(admin, holder)
    with pytest.raises(SessionStateLost, match="asked for"):
        run(holder, "SELECT 1")
    assert value(holder, take, "asked for") == value(holder, free, "asked for") == 1
    kill(admin, holder)
    assert_works(holder, admin)


def test_health_check_that_finds_a_lock_lost_makes_the_next_statement_raise(
    make_connection: ConnectionFactory, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    connection = make_connection(CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
    run(connection, "SELECT GET_LOCK('leader', 0)")
    kill(admin, connection)
    with caplog.at_level(logging.INFO, "django_mysql_recycle"), listening(connection) as received:
        close_old_connections()
        with pytest.raises(SessionStateLost, match="'leader'"):
            insert(connection, "by the deposed")
        insert(connection, "after")
    assert owners(admin) == ["after"]
    assert [facts["raised"] for facts in received.lost] == [True]
    assert "'leader'" in received.lost[0]["description"]
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    # The name may have been a parameter, which is not for logs.
    assert "named lock" in warning.getMessage() and "leader" not in warning.getMessage()


def test_health_check_keeps_a_living_connection_with_its_lock(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
    run(connection, "SELECT GET_LOCK('leader', 0)")
    for _ in range(3):
        close_old_connections()
        assert value(connection, "SELECT IS_USED_LOCK('leader') = CONNECTION_ID()") == 1


def test_two_leaders_never_write_at_once(make_connection: ConnectionFactory, admin: Admin) -> None:
    first, second = make_connection(**PATIENT), make_connection(**PATIENT)
    assert value(first, "SELECT GET_LOCK('leader', 0)") == 1
    insert(first, "by the first")
    close_old_connections()
    kill(admin, first)
    assert value(second, "SELECT GET_LOCK('leader', 5)") == 1
    insert(second, "by the second")
    # The first one still believes to be the leader, and gets the error before it writes.
    with pytest.raises(SessionStateLost, match="leader"):
        insert(first, "by the deposed")
    assert owners(admin) == ["by the first", "by the second"]
    assert value(first, "SELECT GET_LOCK('leader', 0)") == 0


def test_control_stock_backend_with_health_checks_makes_two_leaders(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    settings: dict[str, Any] = {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
    first, second = make_connection(STOCK, **settings), make_connection(STOCK, **settings)
    assert value(first, "SELECT GET_LOCK('leader', 0)") == 1
    kill(admin, first)
    assert value(second, "SELECT GET_LOCK('leader', 5)") == 1
    close_old_connections()
    insert(first, "by the deposed")
    assert owners(admin) == ["by the deposed"]


def test_lock_lost_in_a_failed_rollback_is_reported_by_the_next_statement(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    class Boom(Exception):
        pass

    connection = make_connection()
    run(connection, "SELECT GET_LOCK('held', 0)")
    with pytest.raises(Boom), transaction.atomic(using=connection.alias):
        insert(connection, "a")
        kill(admin, connection)
        raise Boom
    with pytest.raises(SessionStateLost, match="held"):
        insert(connection, "b")
    insert(connection, "c")
    assert owners(admin) == ["c"]


def test_lock_lost_by_an_error_inside_a_transaction_is_reported_after_it(
    connection: Connection, admin: Admin
) -> None:
    run(connection, "SELECT GET_LOCK('held', 0)")
    with pytest.raises(DatabaseError) as caught, transaction.atomic(using=connection.alias):
        kill(admin, connection)
        insert(connection, "a")
    if not isinstance(caught.value, SessionStateLost):
        with pytest.raises(SessionStateLost, match="held"):
            insert(connection, "b")
    insert(connection, "c")
    assert owners(admin) == ["c"]


def test_lock_lost_is_reported_by_the_next_transaction_too(
    connection: Connection, admin: Admin
) -> None:
    run(connection, "SELECT GET_LOCK('held', 0)")
    with pytest.raises(DatabaseError), transaction.atomic(using=connection.alias):
        kill(admin, connection)
        insert(connection, "a")
    with pytest.raises(SessionStateLost, match="held"):
        with transaction.atomic(using=connection.alias):
            insert(connection, "b")
    with transaction.atomic(using=connection.alias):
        insert(connection, "c")
    assert owners(admin) == ["c"]


def test_closing_a_connection_ends_its_pins(connection: Connection, admin: Admin) -> None:
    run(connection, "SELECT GET_LOCK('closed', 0)")
    connection.close()
    assert_works(connection, admin)
    assert admin.value("SELECT IS_FREE_LOCK('closed')") == 1


def test_closing_a_lost_connection_does_not_hide_the_loss(
    connection: Connection, admin: Admin
) -> None:
    run(connection, "SELECT GET_LOCK('closed', 0)")
    kill(admin, connection)
    connection.close()
    with pytest.raises(SessionStateLost, match="closed"):
        insert(connection, "a")
    insert(connection, "b")
    assert owners(admin) == ["b"]


def test_message_says_since_when_and_how_long_idle(connection: Connection, admin: Admin) -> None:
    run(connection, "SET SESSION wait_timeout = 1")
    run(connection, "SELECT GET_LOCK('dated', 0)")
    time.sleep(1.3)
    with pytest.raises(SessionStateLost, match=r"idle 1\.\d s.*'dated' taken 1 s ago"):
        run(connection, "SELECT 1")
