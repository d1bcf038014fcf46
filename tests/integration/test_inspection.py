"""What inspect_connection() says of a connection, and that it does nothing to it."""

from __future__ import annotations

import pytest
from django.db import Error, transaction
from django.utils.connection import ConnectionDoesNotExist

from django_mysql_recycle import ConnectionInfo, inspect_connection

from .acts import kill, rest
from .admin import Admin
from .connections import STOCK, Connection, ConnectionFactory, Proxied
from .queries import connection_id, run


def inspected(connection: Connection) -> ConnectionInfo:
    info = inspect_connection(connection)
    assert info is not None
    return info


def test_closed_connection_has_nothing_but_its_alias(connection: Connection) -> None:
    assert inspected(connection) == ConnectionInfo(connection.alias, "closed")
    assert connection.connection is None
    run(connection, "SELECT 1")
    connection.close()
    assert inspected(connection) == ConnectionInfo(connection.alias, "closed")


def test_open_connection_has_its_clocks_and_limits(make_connection: ConnectionFactory) -> None:
    connection = make_connection(recycle={"jitter": 0.5}, CONN_MAX_AGE=600)
    number = connection_id(connection)
    info = inspected(connection)
    assert (info.alias, info.condition, info.reason) == (connection.alias, "open", "")
    assert (info.connection_id, info.state, info.replaceable) == (number, (), True)
    assert info.max_age is not None and 300 <= info.max_age <= 600
    assert info.idle_limit is None  # not asked yet
    assert info.age is not None and info.idle is not None and 0 <= info.idle <= info.age < 60
    rest(connection, 40)
    rested = inspected(connection)
    assert rested.idle is not None and 40 <= rested.idle < 100
    run(connection, "SELECT 1")
    assert inspected(connection).idle_limit == 28770


def test_alias_names_the_connection_of_the_thread(connection: Connection) -> None:
    number = connection_id(connection)
    info = inspect_connection(connection.alias)
    assert info is not None and info.connection_id == number
    with pytest.raises(ConnectionDoesNotExist):
        inspect_connection("nowhere")


def test_what_keeps_a_connection_from_being_replaced_is_shown(connection: Connection) -> None:
    run(connection, "SELECT GET_LOCK('mine', 0)")
    assert (inspected(connection).state, inspected(connection).replaceable) == (
        ("named lock",),
        False,
    )
    run(connection, "SELECT RELEASE_LOCK('mine')")
    assert (inspected(connection).state, inspected(connection).replaceable) == ((), True)
    with transaction.atomic(using=connection.alias):
        run(connection, "SELECT 1")
        assert (inspected(connection).state, inspected(connection).replaceable) == ((), False)


def test_lost_connection_has_its_reason(connection: Connection, admin: Admin) -> None:
    with pytest.raises(Error), transaction.atomic(using=connection.alias):
        run(connection, "SELECT 1")
        kill(admin, connection)
        assert inspected(connection).condition == "open"  # nothing has looked yet
        with pytest.raises(Error):
            run(connection, "SELECT 1")
        info = inspected(connection)
        assert (info.condition, info.reason, info.replaceable) == ("lost", "lost", False)
        run(connection, "SELECT 1")
    run(connection, "SELECT 1")
    assert inspected(connection).condition == "open"


def test_nothing_is_sent(proxied: Proxied) -> None:
    connection, proxy = proxied()
    run(connection, "SELECT 1")
    (transported,) = proxy.open_connections()
    before = list(transported.commands)
    rest(connection, 40)
    inspected(connection)
    assert transported.commands == before


def test_connection_of_another_backend_is_none(make_connection: ConnectionFactory) -> None:
    connection = make_connection(STOCK)
    run(connection, "SELECT 1")
    assert inspect_connection(connection) is None


def test_connection_that_was_returned_to_a_pool_is_closed(
    make_connection: ConnectionFactory,
) -> None:
    connection = make_connection(options={"pool": True})
    number = connection_id(connection)
    connection.close()
    assert inspected(connection) == ConnectionInfo(connection.alias, "closed")
    assert connection_id(connection) == number
    assert (inspected(connection).connection_id, inspected(connection).condition) == (
        number,
        "open",
    )
