"""`ping_after` and `ping_timeout`: what an unresponsive network swallows is the backend's own ping."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import transaction

from servers import Server

from .admin import Admin
from .connections import STOCK, ConnectionFactory, Proxied
from .queries import connection_id, run

PING = "DO 0"
INSERT = "INSERT INTO testapp_item (name, created) VALUES ('once', NOW())"


@contextmanager
def no_answers(
    stop: Callable[[], None], resume: Callable[[], None], seconds: float
) -> Iterator[None]:
    """No answers for a while: a server that is paused, a proxy that forwards nothing."""
    stop()
    timer = threading.Timer(seconds, resume)
    timer.start()
    try:
        yield
    finally:
        timer.join()
        resume()


@pytest.mark.core
def test_statement_after_a_rest_is_preceded_by_a_ping(proxied: Proxied) -> None:
    connection, between = proxied(recycle={"ping_after": 0.2})
    for number, rest in enumerate((0, 0.1, 0.3)):
        time.sleep(rest)
        run(connection, f"SELECT {number}")
    assert between.connections[0].queries()[-4:] == ["SELECT 0", "SELECT 1", PING, "SELECT 2"]


def test_ping_can_be_turned_off(proxied: Proxied) -> None:
    connection, between = proxied(recycle={"ping_after": None})
    run(connection, "SELECT 0")
    time.sleep(0.3)
    run(connection, "SELECT 1")
    assert between.connections[0].queries()[-2:] == ["SELECT 0", "SELECT 1"]


@pytest.mark.core
def test_ping_without_an_answer_in_time_recycles_and_the_write_runs_once(
    proxied: Proxied, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    connection, between = proxied(
        recycle={"ping_after": 0.1, "ping_timeout": 0.3, "connect_retries": 0}
    )
    run(connection, "SELECT 0")
    time.sleep(0.2)
    with no_answers(between.stall, between.resume, 0.8):
        run(connection, INSERT)
    assert not any("INSERT" in sql for sql in between.connections[0].queries())
    assert admin.value("SELECT COUNT(*) FROM testapp_item") == 1
    assert [reported["reason"] for reported in recycles] == ["no answer"]


def test_stock_backend_sends_the_write_where_it_gets_no_answer(proxied: Proxied) -> None:
    connection, between = proxied(STOCK)
    run(connection, "SELECT 0")
    began = time.monotonic()
    with no_answers(between.stall, between.resume, 0.8):
        run(connection, INSERT)
        assert time.monotonic() - began > 0.7
    assert between.connections[0].queries()[-1] == INSERT


def test_reading_wait_timeout_is_bounded_as_a_ping_is(
    proxied: Proxied, recycles: list[dict[str, Any]]
) -> None:
    connection, between = proxied(recycle={"ping_after": None, "ping_timeout": 0.2})
    run(connection, "SELECT 0")
    time.sleep(0.6)
    with no_answers(between.stall, between.resume, 0.6):
        run(connection, INSERT)
    assert not any("INSERT" in sql for sql in between.connections[0].queries())
    assert [reported["reason"] for reported in recycles] == ["no answer"]


def test_server_process_that_does_not_answer_behind_a_living_kernel_is_left(
    make_connection: ConnectionFactory,
    server: Server,
    admin: Admin,
    transport: str,
    recycles: list[dict[str, Any]],
) -> None:
    connection = make_connection(
        transport=transport,  # type: ignore[arg-type]
        recycle={"ping_after": 0.1, "ping_timeout": 0.2},
    )
    first = connection_id(connection)
    time.sleep(0.2)
    with no_answers(server.pause, server.resume, 0.4):
        assert connection_id(connection) != first
    assert [reported["reason"] for reported in recycles] == ["no answer"]


def test_health_check_without_an_answer_leaves_the_next_transaction_as_it_was(
    make_connection: ConnectionFactory, server: Server
) -> None:
    connection = make_connection(AUTOCOMMIT=False, recycle={"ping_timeout": 0.2})
    run(connection, "SELECT 0")
    connection.commit()
    with no_answers(server.pause, server.resume, 0.4):
        assert not connection.is_usable()
    assert run(connection, "SELECT 1") == [(1,)]


def test_health_check_of_django_comes_once_in_a_unit_of_work_and_never_inside_a_block(
    make_connection: ConnectionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = make_connection(CONN_MAX_AGE=60, CONN_HEALTH_CHECKS=True)
    assert not connection.is_usable()
    run(connection, "SELECT 0")
    asked: list[bool] = []
    monkeypatch.setattr(
        connection, "is_usable", lambda: asked.append(connection.in_atomic_block) or True
    )
    for _ in range(2):
        connection.close_if_unusable_or_obsolete()
        run(connection, "SELECT 1")
        run(connection, "SELECT 2")
    with transaction.atomic(using=connection.alias):
        connection.health_check_done = False
        run(connection, "SELECT 3")
    assert asked == [False, False]


def test_health_check_of_django_is_bounded_by_ping_timeout(
    make_connection: ConnectionFactory, server: Server
) -> None:
    connection = make_connection(recycle={"ping_timeout": 0.2})
    run(connection, "SELECT 0")
    assert connection.is_usable()
    began = time.monotonic()
    with no_answers(server.pause, server.resume, 0.7):
        assert not connection.is_usable()
        assert time.monotonic() - began < 0.6
