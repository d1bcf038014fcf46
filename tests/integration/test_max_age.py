"""`CONN_MAX_AGE` as a limit at every safe point, and not only at the ends of a request."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from django.db import close_old_connections, transaction

from django_mysql_recycle import base
from django_mysql_recycle.options import MaxAge

from .admin import Admin
from .connections import STOCK, ConnectionFactory
from .queries import connection_id, kill, run

PAUSE = 1.05
"""A bit over the second without a statement that makes a pause."""


@pytest.mark.core
def test_connection_past_its_max_age_is_recycled_after_a_pause(
    make_connection: ConnectionFactory, recycles: list[dict[str, Any]]
) -> None:
    aging, stock = (
        make_connection(CONN_MAX_AGE=1, recycle={"jitter": None}),
        make_connection(STOCK, CONN_MAX_AGE=1),
    )
    ids = [connection_id(aging), connection_id(stock)]
    time.sleep(PAUSE)
    assert connection_id(aging) != ids[0]
    assert connection_id(stock) == ids[1]  # for want of a request it never ends
    assert [(reported["reason"], reported["max_age"]) for reported in recycles] == [("max age", 1)]
    assert recycles[0]["age"] >= 1


def test_statements_that_belong_together_stay_on_one_connection_until_the_overrun(
    make_connection: ConnectionFactory, recycles: list[dict[str, Any]]
) -> None:
    random.seed(0)  # a max age of 0.16 s; the overrun is 5 s
    connection = make_connection(CONN_MAX_AGE=1, recycle={"jitter": 1})
    first = connection_id(connection)
    deadline = time.monotonic() + 10
    while connection_id(connection) == first:
        assert time.monotonic() < deadline, "a loop that never pauses is never served"
    assert recycles[0]["reason"] == "max age"
    assert 5 <= recycles[0]["age"] - recycles[0]["max_age"] < 5.5


@pytest.mark.parametrize("begins", [True, False], ids=["unit begins", "within a unit"])
def test_ping_does_not_change_whether_a_unit_of_work_begins(
    make_connection: ConnectionFactory, begins: bool
) -> None:
    connection = make_connection(CONN_MAX_AGE=600, recycle={"jitter": None})
    first = connection_id(connection)
    if begins:
        connection.close_if_unusable_or_obsolete()
    assert connection.is_usable()
    record = connection.guard.connection  # type: ignore[attr-defined]
    record.opened_at -= 601  # within the overrun
    record.expires_at -= 601
    assert (connection_id(connection) != first) is begins


@pytest.mark.core
def test_loop_of_atomic_blocks_alone_is_recycled_at_the_max_age(
    make_connection: ConnectionFactory, recycles: list[dict[str, Any]]
) -> None:
    # The blocks follow one another within a millisecond: the check of the socket and everything
    # else that would decide about the connection is left out.
    random.seed(0)
    connection = make_connection(CONN_MAX_AGE=1, recycle={"jitter": 1})
    with transaction.atomic(using=connection.alias):
        first = connection_id(connection)
    current = first
    deadline = time.monotonic() + 10
    while current == first:
        assert time.monotonic() < deadline, "the connection was never recycled"
        with transaction.atomic(using=connection.alias):
            current = connection_id(connection)
    assert [reported["reason"] for reported in recycles] == ["max age"]
    assert 5 <= recycles[0]["age"] - recycles[0]["max_age"] < 6


@pytest.mark.core
def test_unit_of_work_that_begins_is_a_pause(
    make_connection: ConnectionFactory, recycles: list[dict[str, Any]]
) -> None:
    # Jitter puts our max age before Django's own, which would close the connection itself.
    random.seed(0)
    connection = make_connection(CONN_MAX_AGE=2, recycle={"jitter": 1})
    first = connection_id(connection)
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        assert connection_id(connection) == first
        time.sleep(0.02)
    close_old_connections()
    assert connection_id(connection) != first
    assert [reported["reason"] for reported in recycles] == ["max age"]
    assert recycles[0]["max_age"] < 0.5 < recycles[0]["age"] < 2


def test_jitter_only_shortens_the_max_age_and_by_its_share_at_most(
    make_connection: ConnectionFactory, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    connection = make_connection(CONN_MAX_AGE=100, recycle={"jitter": 0.5})
    for _ in range(20):
        kill(admin, connection)
        run(connection, "DO 0")
    ages = {reported["max_age"] for reported in recycles}
    assert len(ages) == 20
    assert all(50 <= age <= 100 for age in ages)


def test_every_connection_is_jittered_by_five_percent_unless_set_otherwise(
    make_connection: ConnectionFactory, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    connection = make_connection(CONN_MAX_AGE=100)
    for _ in range(5):
        kill(admin, connection)
        run(connection, "DO 0")
    ages = {reported["max_age"] for reported in recycles}
    assert len(ages) == 5
    assert all(95 <= age <= 100 for age in ages)


@pytest.mark.core
def test_zero_and_none_never_replace_between_statements(
    make_connection: ConnectionFactory, recycles: list[dict[str, Any]]
) -> None:
    connections = [make_connection(CONN_MAX_AGE=max_age) for max_age in (0, None)]
    first = [connection_id(connection) for connection in connections]
    time.sleep(PAUSE)
    assert [connection_id(connection) for connection in connections] == first
    assert recycles == []


@pytest.mark.parametrize("engine_and_age", [("ours", 0), ("ours", None), ("stock", 0)])
def test_zero_closes_at_the_end_of_a_unit_of_work_and_none_does_not(
    make_connection: ConnectionFactory, engine_and_age: tuple[str, int | None]
) -> None:
    kind, max_age = engine_and_age
    engine = STOCK if kind == "stock" else "django_mysql_recycle"
    connection = make_connection(engine, CONN_MAX_AGE=max_age)
    run(connection, "DO 0")
    close_old_connections()
    assert (connection.connection is None) is (max_age == 0)


@pytest.mark.parametrize("conn_max_age", [None, 0, 600])
def test_limit_at_boundaries_comes_from_the_same_place_as_the_one_between_statements(
    make_connection: ConnectionFactory, monkeypatch: pytest.MonkeyPatch, conn_max_age: int | None
) -> None:
    # Whatever setting decides on the max age, Django's own check at a boundary has to follow it.
    limit = MaxAge(0.2, 0.2, "another setting")
    monkeypatch.setattr(base, "max_age_of", lambda *_: limit)
    connection = make_connection(CONN_MAX_AGE=conn_max_age, recycle={"jitter": None})
    first = connection_id(connection)
    close_old_connections()
    assert connection_id(connection) == first
    time.sleep(0.25)
    close_old_connections()
    assert connection.connection is None
