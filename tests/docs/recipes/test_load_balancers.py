"""docs/recipes/load-balancers.md: HAProxy with a short patience, and what the kernel does for us."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db.utils import OperationalError

from servers import HAProxy
from tests.integration.acts import descriptor
from tests.integration.admin import Admin
from tests.integration.connections import STOCK, ConnectionFactory
from tests.integration.queries import connection_id, run

from . import pages

PATIENCE = 1.0


@pytest.fixture
def balancer(haproxy: Callable[..., HAProxy]) -> HAProxy:
    return haproxy(client_timeout=PATIENCE, server_timeout=PATIENCE)


def test_goodbye_of_the_balancer_is_noticed_without_any_setting(
    balancer: HAProxy, make_connection: ConnectionFactory, recycles: list[dict[str, Any]]
) -> None:
    ours = make_connection(via=balancer)
    stock = make_connection(STOCK, via=balancer, CONN_HEALTH_CHECKS=True)
    before = connection_id(ours)
    connection_id(stock)
    time.sleep(PATIENCE + 0.3)
    assert connection_id(ours) != before
    assert [reported["reason"] for reported in recycles] == ["closed"]
    with pytest.raises(OperationalError):
        connection_id(stock)


def test_idle_limit_of_the_page_leaves_before_the_balancer_hangs_up(
    balancer: HAProxy,
    make_connection: ConnectionFactory,
    admin: Admin,
    recycles: list[dict[str, Any]],
) -> None:
    settings: dict[str, Any] = {}
    exec(pages.files("load-balancers")["mysite/databases.py"], settings)
    ours = make_connection(via=balancer, options=settings["OPTIONS"])
    before = connection_id(ours)
    time.sleep(0.85)
    assert before in admin.connection_ids()  # no side has closed it yet
    assert connection_id(ours) != before
    assert [(reported["reason"], reported["idle_limit"]) for reported in recycles] == [
        ("idle limit", 0.8)
    ]


def test_the_kernel_probes_below_the_limits_of_the_cloud_load_balancers(
    make_connection: ConnectionFactory,
) -> None:
    ours = make_connection()
    run(ours, "DO 1")
    with socket.socket(fileno=socket.dup(descriptor(ours))) as same:
        assert same.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert same.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10 < 240
