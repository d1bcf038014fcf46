"""Whatever ended an idle connection, and whatever comes first after it: it works at the first try.

The control is beside it: on the stock backend each of these first things raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
from asgiref.sync import async_to_sync
from django.db import Error, connections, transaction

from servers import FaultProxy, HAProxy, Server

from ..testapp.models import Account, Item
from .admin import Admin
from .connections import OURS, STOCK, Connection, ConnectionFactory, Proxied
from .queries import connection_id, idle_out, kill, run, settle, value

Transport = Literal["tcp", "tls", "socket"]


def orm_read(alias: str, name: str) -> None:
    assert Account.objects.using(alias).get().owner == "there before"


def orm_write(alias: str, name: str) -> None:
    Item.objects.using(alias).create(name=name)


def atomic(alias: str, name: str) -> None:
    with transaction.atomic(using=alias):
        Item.objects.using(alias).create(name=name)
        Item.objects.using(alias).create(name=name)


def bulk_create(alias: str, name: str) -> None:
    Item.objects.using(alias).bulk_create([Item(name=name) for _ in range(3)])


def executemany(alias: str, name: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.executemany(
            "INSERT INTO testapp_item (name, created) VALUES (%s, NOW())", [(name,)] * 3
        )


def callproc(alias: str, name: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.callproc("testapp_add_item", [name])


def iterator(alias: str, name: str) -> None:
    owners = [account.owner for account in Account.objects.using(alias).iterator(chunk_size=1)]
    assert owners == ["there before"]


def get_or_create(alias: str, name: str) -> None:
    assert Item.objects.using(alias).get_or_create(name=name)[1]


def aget(alias: str, name: str) -> None:
    assert async_to_sync(Account.objects.using(alias).aget)().owner == "there before"


FIRST_THINGS: dict[Callable[[str, str], None], int] = {
    orm_read: 0,
    orm_write: 1,
    atomic: 2,
    bulk_create: 3,
    executemany: 3,
    callproc: 1,
    iterator: 0,
    get_or_create: 1,
    aget: 0,
}
"""What may come first, and how many rows it writes."""

SUCCESS = {thing.__name__: rows for thing, rows in FIRST_THINGS.items()}


class Fleet:
    """A connection for each first thing, all of them open."""

    def __init__(self, make: Callable[[], Connection], prefix: str) -> None:
        self.prefix = prefix
        self.connections = [make() for _ in FIRST_THINGS]
        self.ids = [connection_id(connection) for connection in self.connections]

    def outcomes(self, admin: Admin) -> dict[str, object]:
        """Do each first thing once: the rows that it wrote, or the error that it raised."""
        outcomes: dict[str, object] = {}
        for connection, thing in zip(self.connections, FIRST_THINGS, strict=True):
            name = f"{self.prefix} {thing.__name__}"
            error: Exception | None = None
            try:
                thing(connection.alias, name)
            except Error as caught:
                error = caught
            rows = admin.value("SELECT COUNT(*) FROM testapp_item WHERE name = %s", name)
            outcomes[thing.__name__] = rows if error is None else (type(error), rows)
        return outcomes


def assert_ours_succeeds_where_stock_raises(admin: Admin, ours: Fleet, stock: Fleet) -> None:
    assert ours.outcomes(admin) == SUCCESS
    failed = stock.outcomes(admin)
    for thing, outcome in failed.items():
        assert isinstance(outcome, tuple), f"{thing} on the stock backend did not raise: {outcome}"
        assert issubclass(outcome[0], Error) and outcome[1] == 0


@pytest.fixture(autouse=True)
def _account_and_procedure(admin: Admin) -> None:
    admin.rows("INSERT INTO testapp_account (owner, balance) VALUES ('there before', 7)")
    admin.create_procedure(
        "testapp_add_item(wanted VARCHAR(50))"
        " INSERT INTO testapp_item (name, created) VALUES (wanted, NOW())"
    )


@pytest.fixture
def fleet(make_connection: ConnectionFactory) -> Callable[..., Fleet]:
    def start(engine: str, **settings: object) -> Fleet:
        def make() -> Connection:
            return make_connection(engine, CONN_MAX_AGE=None, **settings)  # type: ignore[arg-type]

        return Fleet(make, engine.partition(".")[0])

    return start


@pytest.mark.core
def test_idle_kill(fleet: Callable[..., Fleet], admin: Admin, transport: Transport) -> None:
    ours, stock = fleet(OURS, transport=transport), fleet(STOCK, transport=transport)
    idle_out(admin, *ours.connections, *stock.connections)
    assert_ours_succeeds_where_stock_raises(admin, ours, stock)


@pytest.mark.core
def test_kill(fleet: Callable[..., Fleet], admin: Admin, transport: Transport) -> None:
    ours, stock = fleet(OURS, transport=transport), fleet(STOCK, transport=transport)
    kill(admin, *ours.connections, *stock.connections)
    assert_ours_succeeds_where_stock_raises(admin, ours, stock)


def test_idle_kill_under_a_global_wait_timeout(fleet: Callable[..., Fleet], admin: Admin) -> None:
    admin.set_global("wait_timeout", 1)
    ours, stock = fleet(OURS), fleet(STOCK)
    for number in ours.ids + stock.ids:
        admin.wait_until_closed(number)
    settle()
    assert_ours_succeeds_where_stock_raises(admin, ours, stock)


def test_restart(fleet: Callable[..., Fleet], admin: Admin, server: Server) -> None:
    ours, stock = fleet(OURS), fleet(STOCK)
    server.restart()
    assert_ours_succeeds_where_stock_raises(admin, ours, stock)


def test_crash_and_restart(fleet: Callable[..., Fleet], admin: Admin, server: Server) -> None:
    ours, stock = fleet(OURS), fleet(STOCK)
    server.kill()
    server.start()
    assert_ours_succeeds_where_stock_raises(admin, ours, stock)


def test_idle_timeout_of_haproxy(
    fleet: Callable[..., Fleet], admin: Admin, haproxy: Callable[..., HAProxy]
) -> None:
    balancer = haproxy(client_timeout=1, server_timeout=1)
    ours, stock = fleet(OURS, via=balancer), fleet(STOCK, via=balancer)
    for number in ours.ids + stock.ids:
        admin.wait_until_closed(number)
    settle()
    assert_ours_succeeds_where_stock_raises(admin, ours, stock)


def test_connection_reset_by_something_on_the_way(
    fleet: Callable[..., Fleet], admin: Admin, proxy: Callable[..., FaultProxy]
) -> None:
    between = proxy()
    ours, stock = fleet(OURS, via=between), fleet(STOCK, via=between)
    between.cut("rst")
    settle()
    assert_ours_succeeds_where_stock_raises(admin, ours, stock)


@pytest.mark.core
def test_loss_in_the_middle_of_a_statement_is_raised_and_the_next_one_works(
    proxied: Proxied, admin: Admin
) -> None:
    connection, between = proxied()
    run(connection, "SELECT 1")
    fault = between.cut_at(b"INSERT INTO testapp_account", when="after")
    with pytest.raises(Error):
        run(connection, "INSERT INTO testapp_account (owner, balance) VALUES ('once', 1)")
    fault.wait()
    assert value(connection, "SELECT COUNT(*) FROM testapp_account WHERE owner = 'once'") == 1


def test_stock_backend_stays_lost_after_a_loss_in_the_middle_of_a_statement(
    proxied: Proxied,
) -> None:
    connection, between = proxied(STOCK)
    run(connection, "SELECT 1")
    between.swallow_next_reply()
    for _ in range(3):
        with pytest.raises(Error):
            run(connection, "SELECT 1")


def test_server_that_is_down_raises_and_serves_again_once_it_is_back(
    make_connection: ConnectionFactory, server: Server
) -> None:
    connection = make_connection(recycle={"connect_retries": 0})
    run(connection, "SELECT 1")
    server.kill()
    for _ in range(2):
        with pytest.raises(Error):
            run(connection, "SELECT 1")
    server.start()
    assert value(connection, "SELECT 1") == 1
