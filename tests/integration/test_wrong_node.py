"""A good connection to the wrong server: it is left at the next safe point."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.db.utils import DatabaseError

from servers import FaultProxy, Server

from ..choice import VENDOR
from .acts import code_of, insert, listening, outcome, owners, soon
from .admin import Admin
from .connections import STOCK, Connection, ConnectionFactory
from .queries import connection_id, run, value

#: An application's own account: read_only does not bind administrators.
APPLICATION = {"USER": "application", "PASSWORD": "application"}
#: A refusal is raised, and waits for no other node; test_switchover.py is about that.
AT_ONCE = {"failover_timeout": None}
READ_ONLY_TRANSACTIONS = {"mariadb": "tx_read_only", "mysql": "transaction_read_only"}[VENDOR]


def make_application(admin: Admin) -> None:
    for host in ("%", "localhost", "127.0.0.1"):
        admin.rows(f"CREATE USER IF NOT EXISTS 'application'@'{host}' IDENTIFIED BY 'application'")
        admin.rows(
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE TEMPORARY TABLES ON recycle.*"
            f" TO 'application'@'{host}'"
        )


@pytest.fixture
def application(admin: Admin) -> Iterator[dict[str, str]]:
    make_application(admin)
    yield APPLICATION
    admin.set_global("read_only", 0)


def refused(act: Callable[[], Any], number: int) -> None:
    error = outcome(act)
    assert error is not None and code_of(error) == number, error


@pytest.mark.core
def test_connection_to_a_node_that_turned_read_only_is_left_at_the_next_safe_point(
    make_connection: ConnectionFactory, admin: Admin, application: dict[str, str]
) -> None:
    connection = make_connection(recycle=AT_ONCE, **application)
    before = connection_id(connection)
    admin.set_global("read_only", 1)
    refused(lambda: insert(connection, "refused"), 1290)
    admin.set_global("read_only", 0)
    with listening(connection) as received:
        insert(connection, "accepted")
    assert (received.recycled, received.repeated) == (["wrong node"], [])
    assert connection_id(connection) != before
    assert owners(admin) == ["accepted"]


def test_each_refused_write_leads_to_another_try_elsewhere(
    make_connection: ConnectionFactory, admin: Admin, application: dict[str, str]
) -> None:
    connection = make_connection(recycle=AT_ONCE, **application)
    admin.set_global("read_only", 1)
    sessions = set()
    for _ in range(3):
        refused(lambda: insert(connection, "refused"), 1290)
        sessions.add(connection_id(connection))
    assert len(sessions) == 3


@pytest.mark.core
def test_refusal_inside_a_transaction_replaces_nothing_before_its_end(
    make_connection: ConnectionFactory, admin: Admin, application: dict[str, str]
) -> None:
    connection = make_connection(recycle=AT_ONCE, **application)
    before = connection_id(connection)
    with pytest.raises(DatabaseError) as caught, transaction.atomic(using=connection.alias):
        run(connection, "SELECT * FROM testapp_account")
        admin.set_global("read_only", 1)
        insert(connection, "refused")
    assert code_of(caught.value) == 1290
    admin.set_global("read_only", 0)
    with listening(connection) as received, transaction.atomic(using=connection.alias):
        insert(connection, "accepted")
    assert received.recycled == ["wrong node"]
    assert connection_id(connection) != before
    assert owners(admin) == ["accepted"]


def test_reads_go_on_inside_the_transaction_that_was_refused_a_write(
    make_connection: ConnectionFactory, admin: Admin, application: dict[str, str]
) -> None:
    connection = make_connection(**application)
    admin.set_global("read_only", 1)
    with transaction.atomic(using=connection.alias):
        session = connection_id(connection)
        with pytest.raises(DatabaseError), transaction.atomic(using=connection.alias):
            insert(connection, "refused")
        assert connection_id(connection) == session


def test_leaving_a_read_only_node_can_be_turned_off(
    make_connection: ConnectionFactory, admin: Admin, application: dict[str, str]
) -> None:
    connection = make_connection(recycle={"recycle_read_only": False}, **application)
    before = connection_id(connection)
    admin.set_global("read_only", 1)
    refused(lambda: insert(connection, "refused"), 1290)
    assert connection_id(connection) == before


def test_pinned_connection_is_not_left(
    make_connection: ConnectionFactory, admin: Admin, application: dict[str, str]
) -> None:
    connection = make_connection(recycle=AT_ONCE, **application)
    before = connection_id(connection)
    assert value(connection, "SELECT GET_LOCK('read only', 0)") == 1
    admin.set_global("read_only", 1)
    refused(lambda: insert(connection, "refused"), 1290)
    assert connection_id(connection) == before
    run(connection, "SELECT RELEASE_LOCK('read only')")
    assert connection_id(connection) != before


@pytest.mark.core
@pytest.mark.parametrize("begin", ["START TRANSACTION READ ONLY", "SET TRANSACTION READ ONLY"])
def test_read_only_transaction_of_the_users_own_keeps_its_connection(
    connection: Connection, admin: Admin, begin: str
) -> None:
    before = connection_id(connection)
    run(connection, begin)
    if begin.startswith("SET"):
        run(connection, "START TRANSACTION")
    refused(lambda: insert(connection, "refused"), 1792)
    run(connection, "ROLLBACK")
    with listening(connection) as received:
        assert connection_id(connection) == before
    assert received.recycled == []


def test_read_only_transactions_that_the_server_imposes_are_a_wrong_node(
    make_connection: ConnectionFactory, admin: Admin, application: dict[str, str]
) -> None:
    admin.set_global(READ_ONLY_TRANSACTIONS, 1)
    connection = make_connection(**application)
    before = connection_id(connection)
    refused(lambda: insert(connection, "refused"), 1792)
    admin.set_global(READ_ONLY_TRANSACTIONS, 0)
    with listening(connection) as received:
        insert(connection, "accepted")
    assert received.recycled == ["wrong node"]
    assert connection_id(connection) != before


@pytest.mark.core
def test_writes_follow_a_switch_over_to_another_server(
    make_connection: ConnectionFactory,
    admin: Admin,
    server: Server,
    own_server: Callable[..., Server],
    proxy: Callable[..., FaultProxy],
    application: dict[str, str],
) -> None:
    spare = own_server()
    with Admin(spare) as there:
        make_application(there)
        there.rows("CREATE TABLE testapp_account (owner VARCHAR(50), balance INT)")
        between = proxy()
        ours = make_connection(via=between, recycle=AT_ONCE, CONN_MAX_AGE=None, **application)
        stock = make_connection(STOCK, via=between, CONN_MAX_AGE=None, **application)
        insert(ours, "ours 1")
        insert(stock, "stock 1")
        admin.set_global("read_only", 1)
        between.retarget(spare.host, spare.port)
        refused(lambda: insert(ours, "ours 2"), 1290)
        insert(ours, "ours 3")
        # The control: each write goes to the demoted server, health checks and all.
        for _ in range(3):
            refused(lambda: insert(stock, "stock 2"), 1290)
            assert stock.is_usable()
        assert owners(there) == ["ours 3"]
    assert owners(admin) == ["ours 1", "stock 1"]


def test_error_1290_about_another_option_is_no_wrong_node(
    make_connection: ConnectionFactory, own_server: Callable[..., Server]
) -> None:
    # Whether a server restricts files by itself depends on its version.
    connection = make_connection(server=own_server(secure_file_priv=tempfile.gettempdir()))
    before = connection_id(connection)
    refused(lambda: run(connection, "SELECT 1 INTO OUTFILE '/nowhere/at/all'"), 1290)
    assert connection_id(connection) == before


# A Galera node that has lost its cluster answers 1047. MySQL has no Galera: MariaDB is started for
# it there, too.

PROVIDER = Path("/usr/lib/galera/libgalera_smm.so")


@pytest.fixture
def node(own_server: Callable[..., Server]) -> Server:
    if not PROVIDER.exists():
        pytest.fail(f"no Galera on this machine ({PROVIDER}): apt-get install galera-4")
    return own_server(
        "mariadb",
        wsrep_on=True,
        wsrep_new_cluster=True,
        wsrep_provider=str(PROVIDER),
        wsrep_cluster_address="gcomm://",
        wsrep_provider_options="gmcast.listen_addr=tcp://127.0.0.1:0",
        wsrep_node_address="127.0.0.1",
        binlog_format="ROW",
        innodb_autoinc_lock_mode=2,
    )


@pytest.mark.galera
def test_galera_node_without_its_cluster_is_left_at_the_next_safe_point(
    make_connection: ConnectionFactory, node: Server
) -> None:
    connection, stock = (
        make_connection(server=node, recycle=AT_ONCE),
        make_connection(STOCK, server=node),
    )
    before, stocks = connection_id(connection), connection_id(stock)
    with Admin(node) as admin:
        admin.rows("CREATE TABLE testapp_account (owner VARCHAR(50), balance INT)")
        admin.rows("SET GLOBAL wsrep_reject_queries = 'ALL'")
        for one in (connection, stock):
            refused(lambda one=one: run(one, "SELECT * FROM testapp_account"), 1047)
        assert stock.is_usable()
        admin.rows("SET GLOBAL wsrep_reject_queries = 'NONE'")
    with listening(connection) as received:
        assert connection_id(connection) != before
    assert received.recycled == ["wrong node"]
    assert connection_id(stock) == stocks


@pytest.mark.galera
def test_statement_on_a_galera_node_waits_for_the_cluster(
    make_connection: ConnectionFactory, node: Server
) -> None:
    connection = make_connection(server=node)
    before = connection_id(connection)
    with Admin(node) as admin:
        admin.rows("CREATE TABLE testapp_account (owner VARCHAR(50), balance INT)")
        admin.rows("SET GLOBAL wsrep_reject_queries = 'ALL'")
        back = partial(admin.rows, "SET GLOBAL wsrep_reject_queries = 'NONE'")
        with soon(0.5, back), listening(connection) as reported:
            assert run(connection, "SELECT owner FROM testapp_account") == []
    assert (reported.recycled, reported.repeated) == (["wrong node"], ["wrong node"])
    assert connection_id(connection) != before
