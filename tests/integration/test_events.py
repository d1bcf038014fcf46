"""Receivers that misbehave with the very connection that the event is about."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, transaction

from django_mysql_recycle import SessionStateLost, counters
from django_mysql_recycle.signals import (
    connection_recycled,
    session_state_lost,
    statement_repeated,
)
from servers import Server

from .acts import (
    assert_works,
    insert,
    kill,
    listening,
    owners,
    receiving,
    rest,
    session_id,
    soon,
)
from .admin import Admin
from .connections import Connection, ConnectionFactory
from .queries import run, value


def ask(connection: Any, **facts: Any) -> None:
    """Run SQL on the connection that the event is about."""
    assert value(connection, "SELECT 5") == 5


def close(connection: Any, **facts: Any) -> None:
    connection.close()


def reopen(connection: Any, **facts: Any) -> None:
    connection.close()
    connection.connect()


def write_in_a_block(connection: Any, **facts: Any) -> None:
    with transaction.atomic(using=connection.alias):
        insert(connection, "receiver")


MISDEEDS = [ask, close, reopen, write_in_a_block]


@pytest.mark.core
@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_recycled(
    connection: Connection,
    admin: Admin,
    misdeed: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    value(connection, "SELECT 1")
    kill(admin, connection)
    with listening(connection) as received, receiving(connection_recycled, misdeed):
        insert(connection, "application")
    assert received.recycled == ["closed"] and not received.repeated and not received.lost
    assert owners(admin).count("application") == 1
    assert_works(connection, admin)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_recycled_on_entering_a_block(
    connection: Connection, admin: Admin, misdeed: Callable[..., Any]
) -> None:
    value(connection, "SELECT 1")
    kill(admin, connection)
    with listening(connection) as received, receiving(connection_recycled, misdeed):
        with transaction.atomic(using=connection.alias):
            insert(connection, "application")
            assert "application" not in owners(admin)
    assert received.recycled == ["closed"]
    assert owners(admin).count("application") == 1
    assert_works(connection, admin)


@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_repeated(
    make_connection: ConnectionFactory, admin: Admin, misdeed: Callable[..., Any]
) -> None:
    # Over a unix socket the write itself fails after a KILL: 2006, which proves that it never ran.
    connection = make_connection(
        transport="socket", recycle={"liveness_check": False, "ping_after": None}
    )
    run(connection, "SELECT 1")
    rest(connection)
    run(connection, "SELECT 1")  # the first rest has read wait_timeout
    kill(admin, connection)
    rest(connection)
    with listening(connection) as received, receiving(statement_repeated, misdeed):
        insert(connection, "application")
    assert received.repeated == ["lost"]
    # One connection for the two of them, whoever has opened it.
    assert received.recycled == ([] if misdeed in (close, reopen) else ["lost"])
    assert owners(admin).count("application") == 1
    assert_works(connection, admin)


@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_repeated_on_entering_a_block(
    make_connection: ConnectionFactory,
    admin: Admin,
    misdeed: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    connection = make_connection(recycle={"liveness_check": False, "ping_after": None})
    run(connection, "SELECT 1")
    kill(admin, connection)
    with listening(connection) as received, receiving(statement_repeated, misdeed):
        with transaction.atomic(using=connection.alias):
            insert(connection, "application")
            assert "application" not in owners(admin)
    assert received.repeated == ["lost"]
    assert "the beginning of a transaction on" in caplog.text
    assert "never ran" not in caplog.text  # it may have run
    assert owners(admin).count("application") == 1
    assert_works(connection, admin)


@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_state_lost(connection: Connection, admin: Admin, misdeed: Callable[..., Any]) -> None:
    run(connection, "SELECT GET_LOCK('events', 5)")
    kill(admin, connection)
    with listening(connection) as received, receiving(session_state_lost, misdeed):
        with pytest.raises(SessionStateLost):
            insert(connection, "application")
        assert "application" not in owners(admin)
        assert [facts["raised"] for facts in received.lost] == [True]
        insert(connection, "application")
    assert len(received.lost) == 1
    assert_works(connection, admin)


@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_state_lost_while_closing(
    connection: Connection, admin: Admin, misdeed: Callable[..., Any]
) -> None:
    run(connection, "SELECT GET_LOCK('events', 5)")
    kill(admin, connection)
    with listening(connection) as received, receiving(session_state_lost, misdeed):
        connection.close()
        with pytest.raises(SessionStateLost):
            run(connection, "SELECT 1")
        run(connection, "SELECT 1")
    assert len(received.lost) == 1
    assert_works(connection, admin)


def test_loss_of_what_was_left_in_a_replaced_connection_is_reported_once(
    connection: Connection, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    insert(connection, "first")
    kill(admin, connection)
    with listening(connection) as received:
        run(connection, "SELECT 1")
        assert (received.recycled, received.lost) == (["closed"], [])
        with pytest.raises(SessionStateLost, match="LAST_INSERT_ID"):
            run(connection, "SELECT LAST_INSERT_ID()")
        assert value(connection, "SELECT LAST_INSERT_ID()") == 0
    (lost,) = received.lost
    assert (lost["state"], lost["reason"]) == (("LAST_INSERT_ID()",), "closed")
    assert 0 <= lost["idle"] <= lost["age"] < 10 and lost["raised"]
    assert counters()[connection.alias]["state_lost"] == {"closed": 1}
    insert(connection, "second")
    assert value(connection, "SELECT LAST_INSERT_ID()") == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_in_a_receiver_passes_and_leaves_a_sound_connection(
    connection: Connection, admin: Admin, error: type[BaseException]
) -> None:
    def leave(**facts: Any) -> None:
        raise error

    value(connection, "SELECT 1")
    kill(admin, connection)
    with receiving(connection_recycled, leave), pytest.raises(error):
        insert(connection, "application")
    assert owners(admin) == []
    assert_works(connection, admin)


def test_ctrl_c_in_a_receiver_does_not_hush_up_the_loss(
    connection: Connection, admin: Admin
) -> None:
    def leave(**facts: Any) -> None:
        raise KeyboardInterrupt

    run(connection, "SELECT GET_LOCK('events', 5)")
    kill(admin, connection)
    with listening(connection) as received:
        with receiving(session_state_lost, leave), pytest.raises(KeyboardInterrupt):
            run(connection, "SELECT 1")
        with pytest.raises(SessionStateLost):
            run(connection, "SELECT 1")
    assert len(received.lost) == 1
    assert_works(connection, admin)


def test_receiver_that_takes_longer_than_wait_timeout_costs_no_statement(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(options={"init_command": "SET SESSION wait_timeout = 1"})
    slow = [1.5]

    def dawdle(**facts: Any) -> None:
        if slow:
            time.sleep(slow.pop())

    value(connection, "SELECT 1")
    kill(admin, connection)
    with listening(connection) as received, receiving(connection_recycled, dawdle):
        insert(connection, "application")
    assert owners(admin) == ["application"]
    assert received.recycled == ["closed", "closed"]


def test_event_is_reported_in_the_thread_that_met_it(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    where: list[threading.Thread] = []
    alias = make_connection().alias

    def listen(**facts: Any) -> None:
        where.append(threading.current_thread())

    def work() -> None:
        from django.db import connections

        connection = connections[alias]
        try:
            value(connection, "SELECT 1")
            kill(admin, connection)
            assert value(connection, "SELECT 7") == 7
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    with receiving(connection_recycled, listen):
        thread.start()
        thread.join()
    assert where == [thread]


def test_recycling_that_takes_more_than_one_try_is_reported_once_when_it_succeeds(
    make_connection: ConnectionFactory, server: Server
) -> None:
    connection = make_connection(recycle={"connect_retries": 0})
    run(connection, "SELECT 1")
    server.stop()
    with listening(connection) as received:
        for _ in range(2):
            with pytest.raises(OperationalError):
                run(connection, "SELECT 1")
        assert not received.recycled
        server.start()
        run(connection, "SELECT 1")
        assert received.recycled == ["closed"]
        run(connection, "SELECT 1")
    assert received.recycled == ["closed"]
    assert counters()[connection.alias]["recycled"] == {"closed": 1}


def test_time_for_which_the_lost_statement_waited_is_no_idle_time(
    connection: Connection, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    value(connection, "SELECT 1")
    number = session_id(connection)
    with soon(1, lambda: admin.kill(number)), pytest.raises(OperationalError):
        run(connection, "SELECT SLEEP(30)")
    assert value(connection, "SELECT 1") == 1
    (facts,) = recycles
    assert facts["idle"] < 0.5
    assert facts["age"] >= 1


def test_limits_in_force_are_reported(
    make_connection: ConnectionFactory, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    connection = make_connection(
        recycle={"idle_limit": 50, "jitter": None},
        options={"init_command": "SET SESSION wait_timeout = 40"},
        CONN_MAX_AGE=600,
    )
    run(connection, "SELECT 1")
    rest(connection)
    run(connection, "SELECT 1")  # the first rest has read wait_timeout
    kill(admin, connection)
    run(connection, "SELECT 1")
    (received,) = recycles
    assert (received["idle_limit"], received["max_age"]) == (36, 600)
    assert received["alias"] == connection.alias and received["connection"] is connection
    assert received["sender"] is type(connection)
    assert 0 <= received["idle"] <= received["age"] < 60


def test_log_never_shows_sql_parameters_or_credentials(
    connection: Connection, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = ("geheim", "verborgen", connection.settings_dict["PASSWORD"])
    with caplog.at_level("DEBUG", "django_mysql_recycle"):
        for sql in ("SELECT %s, 'verborgen'", "SELECT GET_LOCK(%s, 5), 'verborgen'"):
            run(connection, sql, "geheim")
            kill(admin, connection)
            with pytest.raises(SessionStateLost) if "LOCK" in sql else _nothing():
                run(connection, "SELECT %s, 'verborgen'", "geheim")
    received = [record for record in caplog.records if record.name == "django_mysql_recycle"]
    assert len(received) == 2
    for record in received:
        text = logging.Formatter().format(record)
        assert not any(secret in text for secret in secrets), text
    assert counters()[connection.alias] == {
        "recycled": {"closed": 1},
        "repeated": {},
        "state_lost": {"closed": 1},
    }


@contextmanager
def _nothing() -> Iterator[None]:
    yield
