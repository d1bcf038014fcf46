"""The original report: a process without requests, idle for longer than `wait_timeout`."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import Error

from .admin import Admin
from .connections import STOCK, Connection, ConnectionFactory
from .queries import connection_id, idle_out, run, value


@pytest.mark.core
def test_loop_with_pauses_longer_than_wait_timeout_goes_on(
    connection: Connection, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    used = set()
    for _ in range(2):
        assert value(connection, "SELECT now()")
        used.add(connection_id(connection))
        idle_out(admin, connection)
    assert value(connection, "SELECT now()")
    assert len(used) == 2
    assert [reported["reason"] for reported in recycles] == ["closed"] * 2


@pytest.mark.core
def test_stock_backend_fails_after_the_first_pause_and_for_good(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    plain = make_connection(STOCK)
    # Without requests the checks do not run.
    checked = make_connection(STOCK, CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
    idle_out(admin, plain, checked)
    for connection in (plain, checked):
        for _ in range(3):
            with pytest.raises(Error):
                value(connection, "SELECT now()")


def test_report_as_it_stands_with_3_seconds_and_a_pause_of_5(
    make_connection: ConnectionFactory,
) -> None:
    ours, stock = make_connection(CONN_MAX_AGE=None), make_connection(STOCK, CONN_MAX_AGE=None)
    for connection in (ours, stock):
        assert value(connection, "SELECT now()")
        run(connection, "SET wait_timeout=3")
    before = value(ours, "SELECT now()")
    time.sleep(5)
    assert (value(ours, "SELECT now()") - before).total_seconds() >= 5
    with pytest.raises(Error):
        value(stock, "SELECT now()")
