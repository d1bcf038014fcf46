"""docs/recipes/galera.md: three nodes, of which one dies, or is cut off, or the majority is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import Error, OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from servers import HAProxy, Server
from tests.integration.admin import Admin
from tests.integration.connections import STOCK, ConnectionFactory
from tests.integration.queries import run

from . import pages
from .cluster import cluster, wait_for_state
from .conftest import TABLE, balances

pytestmark = [pytest.mark.galera, pytest.mark.cluster]

ACCOUNT = {"USER": "application", "PASSWORD": "application"}  # the nodes' own differ
NO_PRIMARY = 1047


@pytest.fixture
def nodes() -> Iterator[list[Server]]:
    with cluster() as nodes:
        with Admin(nodes[0]) as admin:
            admin.rows(TABLE)
            admin.rows("INSERT INTO bank_account (owner, balance) VALUES ('ann', 0), ('bob', 0)")
            for host in ("%", "localhost", "127.0.0.1"):
                admin.rows(f"CREATE USER 'application'@'{host}' IDENTIFIED BY 'application'")
                admin.rows(
                    f"GRANT SELECT, INSERT, UPDATE, DELETE ON recycle.* TO 'application'@'{host}'"
                )
        yield nodes


def pay_in(connection: BaseDatabaseWrapper, owner: str) -> None:
    run(connection, "UPDATE bank_account SET balance = balance + 1 WHERE owner = %s", owner)


def code(act: Callable[..., Any], *arguments: Any) -> int | None:
    """The number of the error, if there is one."""
    try:
        act(*arguments)
    except Error as error:
        return int(error.args[0])
    return None


def test_death_of_the_node_and_then_of_the_majority(
    nodes: list[Server], haproxy: Callable[..., HAProxy], make_connection: ConnectionFactory
) -> None:
    address = haproxy(*nodes)
    ours = make_connection(via=address, recycle={"failover_timeout": 1}, **ACCOUNT)
    stock = make_connection(STOCK, via=address, **ACCOUNT)
    pay_in(ours, "ann")
    pay_in(stock, "bob")

    nodes[0].kill()
    address.disable("db1")
    pay_in(ours, "ann")  # waits until the two others have agreed that they are the cluster
    for _ in range(2):
        assert code(pay_in, stock, "bob") in (2006, 2013, 0)  # PyMySQL's second
    stock.close()
    pay_in(stock, "bob")

    with pytest.raises(OperationalError) as refused:
        with transaction.atomic(using=ours.alias):
            pay_in(ours, "ann")
            nodes[2].kill()  # one of two is no majority
    assert refused.value.args[0] in (1047, 1180, 1213)
    wait_for_state(nodes[1], "wsrep_cluster_status", "non-Primary")
    for _ in range(2):
        assert code(pay_in, ours, "ann") == NO_PRIMARY
    with Admin(nodes[1]) as admin:
        admin.rows("SET GLOBAL wsrep_provider_options = 'pc.bootstrap=1'")  # a person decides
        wait_for_state(nodes[1], "wsrep_local_state_comment", "Synced")
        pay_in(ours, "ann")
        assert balances(admin) == {"ann": 3, "bob": 2}


def test_node_that_is_cut_off_is_left_where_stock_stays(
    nodes: list[Server], haproxy: Callable[..., HAProxy], make_connection: ConnectionFactory
) -> None:
    address = haproxy(*nodes)
    ours, page = (make_connection(via=address, **ACCOUNT) for _ in "12")
    stock = make_connection(STOCK, via=address, **ACCOUNT, CONN_HEALTH_CHECKS=True)
    for connection in (ours, page, stock):
        pay_in(connection, "ann")
    with Admin(nodes[0]) as admin:
        admin.rows("SET GLOBAL wsrep_provider_options = 'gmcast.isolate=1'")
    wait_for_state(nodes[0], "wsrep_cluster_status", "non-Primary")
    wait_for_state(nodes[1], "wsrep_cluster_size", "2")
    address.disable("db1")
    assert [code(pay_in, ours, "bob") for _ in range(3)] == [None] * 3
    assert [code(pay_in, stock, "bob") for _ in range(3)] == [NO_PRIMARY] * 3
    assert stock.is_usable()
    defined: dict[str, Any] = {}
    exec(pages.files("galera")["bank/writes.py"], defined)
    assert defined["transfer"]("ann", "bob", using=page.alias) == 2  # at the second try
    with Admin(nodes[1]) as admin:
        assert balances(admin) == {"ann": 2, "bob": 4}
