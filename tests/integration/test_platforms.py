"""Windows: no poll(), and sockets that os.dup() does not take. Linux stands in for it."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from django.db import Error

from django_mysql_recycle import liveness, network_path

from .acts import assert_works, descriptor, insert, kill, outcome, owners
from .admin import Admin
from .connections import STOCK, Connection, ConnectionFactory, Proxied
from .queries import run
from .test_ping import no_answers


@pytest.fixture
def _windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "_look", liveness.Select)
    monkeypatch.setattr(liveness, "_poll", liveness.Select)
    monkeypatch.setattr(network_path, "WINDOWS", True)


@pytest.mark.usefixtures("_windows")
@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_connection_that_was_killed_is_replaced_before_the_statement(
    make_connection: ConnectionFactory, admin: Admin, recycles: list[dict[str, Any]], transport: Any
) -> None:
    connection = make_connection(transport=transport)
    insert(connection, "a first")
    kill(admin, connection)
    insert(connection, "b second")
    assert owners(admin) == ["a first", "b second"]
    assert [reported["reason"] for reported in recycles] == ["closed"]
    assert_works(connection, admin)


def test_control_stock_backend_fails(make_connection: ConnectionFactory, admin: Admin) -> None:
    connection = make_connection(STOCK)
    insert(connection, "a first")
    kill(admin, connection)
    assert isinstance(outcome(lambda: insert(connection, "b second")), Error)
    assert owners(admin) == ["a first"]


@pytest.mark.usefixtures("_windows")
def test_ping_without_an_answer_in_time_recycles(
    proxied: Proxied, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    connection, between = proxied(
        recycle={"ping_after": 0.1, "ping_timeout": 0.3, "connect_retries": 0}
    )
    run(connection, "SELECT 0")
    time.sleep(0.2)
    with no_answers(between.stall, between.resume, 0.8):
        insert(connection, "once")
    assert owners(admin) == ["once"]
    assert [reported["reason"] for reported in recycles] == ["no answer"]


@pytest.mark.usefixtures("_windows")
def test_kernel_watches_the_connection_and_the_driver_keeps_its_socket(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection: Connection = make_connection(recycle={"keepalive": 7})
    insert(connection, "once")
    options = network_path.options_of(descriptor(connection))
    assert options is not None
    assert (options.SO_KEEPALIVE, options.TCP_KEEPIDLE) == (1, 7)
    # As the driver has made it. Connector/C 3.4 has non-blocking sockets.
    stock = make_connection(STOCK)
    stock.ensure_connection()
    assert os.get_blocking(descriptor(connection)) == os.get_blocking(descriptor(stock))
    assert_works(connection, admin)
