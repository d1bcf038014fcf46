"""The end of a transaction: COMMIT is never repeated, an acknowledged one never denied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django.db.utils import DatabaseError, Error, OperationalError

from servers import FaultProxy

from .acts import (
    Hooks,
    assert_works,
    insert,
    kill,
    listening,
    owners,
    session_id,
    wait_until_hung_up,
)
from .admin import Admin
from .connections import STOCK, Connection, ConnectionFactory, Proxied
from .queries import run, value

HOWS: Any = pytest.mark.parametrize("how", ["fin", "rst"])


class Boom(Exception):
    """The application's own."""


def refuse(between: FaultProxy) -> None:
    """From now on no client can connect through the proxy."""
    between.retarget("127.0.0.1", 1)


def accept(between: FaultProxy, target: tuple[str, int]) -> None:
    between.retarget(*target)


# COMMIT itself is lost.


@pytest.mark.core
@HOWS
def test_commit_lost_on_its_way_raises_and_nothing_is_there(
    proxied: Proxied, admin: Admin, how: Any, hooks: Hooks
) -> None:
    connection, between = proxied()
    with pytest.raises(OperationalError), transaction.atomic(using=connection.alias):
        insert(connection, "a")
        hooks.register(connection, "a")
        between.cut_at(b"COMMIT", how=how)
    assert (owners(admin), hooks) == ([], [])
    assert len(between.connections) == 1
    with transaction.atomic(using=connection.alias):
        insert(connection, "b")
        hooks.register(connection, "b")
    assert (owners(admin), hooks) == (["b"], ["b"])


@pytest.mark.core
@HOWS
def test_commit_whose_answer_is_lost_raises_once_and_the_server_has_the_rows(
    proxied: Proxied, admin: Admin, how: Any, hooks: Hooks
) -> None:
    connection, between = proxied()
    with pytest.raises(OperationalError), transaction.atomic(using=connection.alias):
        insert(connection, "a")
        hooks.register(connection, "a")
        between.cut_at(b"COMMIT", when="after", how=how)
    # It cannot be known here: the error is the truth about that, and no hook may run.
    assert (owners(admin), hooks) == (["a"], [])
    assert [sql for sql in between.connections[0].queries() if sql == "COMMIT"] == ["COMMIT"]
    assert len(between.connections) == 1
    assert_works(connection, admin)
    assert hooks == []


@pytest.mark.parametrize("moment", ["killed before", "cut before"])
def test_commit_on_a_lost_connection_raises_and_its_hooks_never_run(
    proxied: Proxied, admin: Admin, moment: str, hooks: Hooks
) -> None:
    connection, between = proxied()
    with pytest.raises(OperationalError), transaction.atomic(using=connection.alias):
        insert(connection, "a")
        hooks.register(connection, "a")
        if moment == "killed before":
            kill(admin, connection)
        else:
            between.cut("rst")
            wait_until_hung_up(connection)
    with transaction.atomic(using=connection.alias):
        insert(connection, "b")
    assert (owners(admin), hooks) == (["b"], [])


def test_commit_after_an_error_that_the_application_swallowed_raises_and_its_hooks_never_run(
    connection: Connection, admin: Admin, hooks: Hooks
) -> None:
    with (
        pytest.raises(DatabaseError, match="lost before COMMIT"),
        transaction.atomic(using=connection.alias),
    ):
        insert(connection, "a")
        hooks.register(connection, "a")
        kill(admin, connection)
        with pytest.raises(Error):
            insert(connection, "b")
    assert connection.get_autocommit()
    with transaction.atomic(using=connection.alias):
        insert(connection, "c")
    assert (owners(admin), hooks) == (["c"], [])


def test_commit_by_sql_is_not_repeated(proxied: Proxied, admin: Admin) -> None:
    connection, between = proxied()
    run(connection, "BEGIN")
    insert(connection, "a")
    between.cut_at(b"COMMIT", when="after")
    with pytest.raises(OperationalError):
        run(connection, "COMMIT")
    assert owners(admin) == ["a"]
    assert len(between.connections) == 1
    assert_works(connection, admin)


# COMMIT has been acknowledged.


@pytest.mark.core
@HOWS
@pytest.mark.parametrize("reachable", [True, False], ids=["reachable", "unreachable"])
def test_acknowledged_commit_is_a_success_whatever_dies_afterwards(
    proxied: Proxied, admin: Admin, how: Any, reachable: bool, hooks: Hooks
) -> None:
    connection, between = proxied(recycle={"connect_retries": 0})
    target = between.target
    with transaction.atomic(using=connection.alias):
        insert(connection, "a")
        for name in "xy":
            hooks.register(connection, name)
        fault = between.cut_at(b"COMMIT", when="answered", how=how)
        if not reachable:
            refuse(between)
    assert fault.fired
    assert (owners(admin), hooks) == (["a"], ["x", "y"])
    assert connection.get_autocommit()
    if not reachable:
        with pytest.raises(OperationalError):
            insert(connection, "b")
        accept(between, target)
    insert(connection, "c")
    with transaction.atomic(using=connection.alias):
        insert(connection, "d")
    assert (owners(admin), hooks) == (["a", "c", "d"], ["x", "y"])
    assert_works(connection, admin)


def test_control_stock_backend_denies_an_acknowledged_commit(
    proxied: Proxied, admin: Admin, hooks: Hooks
) -> None:
    connection, between = proxied(STOCK)
    with pytest.raises(OperationalError), transaction.atomic(using=connection.alias):
        insert(connection, "a")
        hooks.register(connection, "a")
        between.cut_at(b"COMMIT", when="answered")
    assert (owners(admin), hooks) == (["a"], [])


def test_hook_that_uses_the_database_gets_a_new_connection(
    proxied: Proxied, admin: Admin, hooks: Hooks
) -> None:
    connection, between = proxied()

    def hook() -> None:
        insert(connection, "by the hook")
        with transaction.atomic(using=connection.alias):
            insert(connection, "in its own transaction")
            hooks.register(connection, "inner")
        hooks.append("hook")

    with transaction.atomic(using=connection.alias):
        insert(connection, "a")
        transaction.on_commit(hook, using=connection.alias)
        hooks.register(connection, "second")
        between.cut_at(b"COMMIT", when="answered")
    assert owners(admin) == ["a", "by the hook", "in its own transaction"]
    assert sorted(hooks) == ["hook", "inner", "second"]


def test_error_of_a_hook_is_raised_and_the_connection_works(proxied: Proxied, admin: Admin) -> None:
    connection, between = proxied()

    def hook() -> None:
        raise Boom

    with pytest.raises(Boom), transaction.atomic(using=connection.alias):
        insert(connection, "a")
        transaction.on_commit(hook, using=connection.alias)
        between.cut_at(b"COMMIT", when="answered")
    assert owners(admin) == ["a"]
    assert_works(connection, admin)


def test_hook_that_raises_costs_no_session_state(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection()
    run(connection, "SET @mine = 7")

    def hook() -> None:
        raise Boom

    with pytest.raises(Boom):
        with transaction.atomic(using=connection.alias):
            insert(connection, "a")
            transaction.on_commit(hook, using=connection.alias)
    assert value(connection, "SELECT @mine") == 7
    assert owners(admin) == ["a"]


# SET autocommit = 1 is a COMMIT of its own where something has run.


@HOWS
@pytest.mark.parametrize("when", ["before", "after"])
def test_autocommit_on_after_uncommitted_work_raises_on_a_lost_connection(
    proxied: Proxied, admin: Admin, how: Any, when: Any
) -> None:
    connection, between = proxied()
    connection.set_autocommit(False)
    insert(connection, "a")
    between.cut_at(b"SET ", when=when, how=how)
    with pytest.raises(OperationalError):
        connection.set_autocommit(True)
    assert owners(admin) == (["a"] if when == "after" else [])
    assert len(between.connections) == 1
    connection.rollback()
    connection.set_autocommit(True)
    insert(connection, "b")
    assert "b" in owners(admin)


def test_autocommit_on_after_uncommitted_work_raises_on_a_killed_connection(
    connection: Connection, admin: Admin
) -> None:
    connection.set_autocommit(False)
    insert(connection, "a")
    kill(admin, connection)
    with pytest.raises(Error):
        connection.set_autocommit(True)
    assert owners(admin) == []
    connection.rollback()
    connection.set_autocommit(True)
    assert_works(connection, admin)


@pytest.mark.parametrize("end", ["commit", "rollback", "nothing"])
def test_autocommit_on_with_nothing_run_since_is_no_error_on_a_lost_connection(
    connection: Connection, admin: Admin, end: str
) -> None:
    connection.set_autocommit(False)
    if end != "nothing":
        insert(connection, "a")
        getattr(connection, end)()
    kill(admin, connection)
    connection.set_autocommit(True)
    assert connection.get_autocommit()
    insert(connection, "b")
    assert owners(admin) == (["a", "b"] if end == "commit" else ["b"])


# ROLLBACK on a lost connection.


@pytest.mark.core
@pytest.mark.parametrize("loss", ["killed", "rollback cut", "rollback swallowed"])
@pytest.mark.parametrize("reachable", [True, False], ids=["reachable", "unreachable"])
@pytest.mark.parametrize("depth", ["atomic", "nested"])
def test_exception_of_the_application_is_not_masked_by_a_lost_connection(
    proxied: Proxied, admin: Admin, loss: str, reachable: bool, depth: str, hooks: Hooks
) -> None:
    connection, between = proxied(recycle={"connect_retries": 0})
    target = between.target

    def work() -> None:
        insert(connection, "a")
        hooks.register(connection, "a")
        if not reachable:
            refuse(between)
        if loss == "killed":
            kill(admin, connection)
        else:
            between.cut_at(b"ROLLBACK", when="before" if loss == "rollback cut" else "after")
        raise Boom

    with pytest.raises(Boom), transaction.atomic(using=connection.alias):
        if depth == "nested":
            with transaction.atomic(using=connection.alias):
                work()
        else:
            work()
    assert connection.autocommit
    if not reachable:
        with pytest.raises(OperationalError):
            insert(connection, "b")
        accept(between, target)
    with transaction.atomic(using=connection.alias):
        insert(connection, "c")
    assert (owners(admin), hooks) == (["c"], [])
    assert_works(connection, admin)


def test_control_stock_backend_masks_the_exception_where_it_cannot_reconnect(
    proxied: Proxied, admin: Admin
) -> None:
    connection, between = proxied(STOCK)
    with pytest.raises(OperationalError), transaction.atomic(using=connection.alias):
        insert(connection, "a")
        refuse(between)
        kill(admin, connection)
        raise Boom


def test_rollback_by_hand_keeps_the_connection_and_its_session_state(
    connection: Connection, admin: Admin
) -> None:
    connection.set_autocommit(False)
    run(connection, "SET @mine = 7")
    insert(connection, "a")
    connection.rollback()
    assert value(connection, "SELECT @mine") == 7
    assert owners(admin) == []


@pytest.mark.parametrize("loss", ["killed", "rollback cut"])
def test_rollback_by_hand_on_a_lost_connection_is_a_rollback(
    proxied: Proxied, admin: Admin, loss: str
) -> None:
    connection, between = proxied()
    connection.set_autocommit(False)
    insert(connection, "a")
    if loss == "killed":
        kill(admin, connection)
    else:
        between.cut_at(b"ROLLBACK")
    connection.rollback()
    insert(connection, "b")
    connection.commit()
    assert owners(admin) == ["b"]
    assert not connection.get_autocommit()


# Autocommit off.


def off(make_connection: ConnectionFactory, kind: str, **settings: Any) -> Connection:
    if kind == "setting":
        return make_connection(AUTOCOMMIT=False, **settings)
    connection = make_connection(**settings)
    connection.set_autocommit(False)
    return connection


OFF = pytest.mark.parametrize("kind", ["setting", "method"])


@pytest.mark.core
@OFF
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_with_autocommit_off_the_moment_after_commit_or_rollback_is_a_safe_point(
    make_connection: ConnectionFactory, admin: Admin, kind: str, end: str
) -> None:
    connection = off(make_connection, kind)
    insert(connection, "a")
    getattr(connection, end)()
    kill(admin, connection)
    with listening(connection) as received:
        insert(connection, "b")
    assert received.recycled == ["closed"]
    # The mode has survived: the row is not there before commit().
    assert not connection.get_autocommit()
    expected = ["a"] if end == "commit" else []
    assert owners(admin) == expected
    connection.commit()
    assert owners(admin) == [*expected, "b"]


@OFF
def test_with_autocommit_off_nothing_is_replaced_while_work_is_uncommitted(
    make_connection: ConnectionFactory, admin: Admin, kind: str
) -> None:
    connection = off(make_connection, kind)
    insert(connection, "a")
    kill(admin, connection)
    with listening(connection) as received:
        for owner in "bc":
            with pytest.raises(Error):
                insert(connection, owner)
        with pytest.raises(Error):
            connection.commit()
    assert received.recycled == []
    connection.rollback()
    insert(connection, "d")
    connection.commit()
    assert owners(admin) == ["d"]


@OFF
def test_read_with_autocommit_off_begins_a_transaction_too(
    make_connection: ConnectionFactory, admin: Admin, kind: str
) -> None:
    connection = off(make_connection, kind)
    run(connection, "SELECT * FROM testapp_account")
    kill(admin, connection)
    with pytest.raises(Error):
        insert(connection, "a")
    connection.rollback()
    assert_works(connection, admin)


@OFF
def test_mode_survives_a_replacement_that_failed_at_first(
    make_connection: ConnectionFactory,
    admin: Admin,
    proxy: Callable[..., FaultProxy],
    kind: str,
) -> None:
    between = proxy()
    target = between.target
    connection = off(make_connection, kind, via=between, recycle={"connect_retries": 0})
    insert(connection, "a")
    connection.commit()
    refuse(between)
    between.cut()
    wait_until_hung_up(connection)
    for _ in range(2):
        with pytest.raises(OperationalError):
            insert(connection, "b")
    accept(between, target)
    insert(connection, "c")
    assert owners(admin) == ["a"]
    assert not connection.get_autocommit()
    connection.commit()
    assert owners(admin) == ["a", "c"]


@OFF
def test_atomic_with_autocommit_off_works_on_a_lost_connection_after_commit(
    make_connection: ConnectionFactory, admin: Admin, kind: str
) -> None:
    connection = off(make_connection, kind)
    insert(connection, "a")
    connection.commit()
    kill(admin, connection)
    with transaction.atomic(using=connection.alias):
        insert(connection, "b")
    assert owners(admin) == ["a"]
    connection.commit()
    assert owners(admin) == ["a", "b"]


@OFF
def test_atomic_with_autocommit_off_raises_on_a_connection_lost_with_uncommitted_work(
    make_connection: ConnectionFactory, admin: Admin, kind: str
) -> None:
    connection = off(make_connection, kind)
    insert(connection, "a")
    kill(admin, connection)
    with pytest.raises(Error), transaction.atomic(using=connection.alias):
        insert(connection, "b")
    connection.rollback()
    insert(connection, "c")
    connection.commit()
    assert owners(admin) == ["c"]


def test_hooks_survive_a_replacement_before_their_transaction(
    make_connection: ConnectionFactory, admin: Admin, hooks: Hooks
) -> None:
    # With autocommit off a hook may be registered before the first statement has run.
    connection = make_connection(AUTOCOMMIT=False)
    insert(connection, "a")
    connection.commit()
    kill(admin, connection)
    with transaction.atomic(using=connection.alias):
        hooks.register(connection, "b")
        insert(connection, "b")
    connection.commit()
    assert owners(admin) == ["a", "b"]
    connection.set_autocommit(True)
    assert hooks == ["b"]


def test_hook_registered_before_a_replacement_runs_once(
    make_connection: ConnectionFactory, admin: Admin, hooks: Hooks
) -> None:
    connection = make_connection(AUTOCOMMIT=False)
    run(connection, "SELECT 1")
    connection.rollback()
    kill(admin, connection)
    with transaction.atomic(using=connection.alias):
        hooks.register(connection, "a")
        with listening(connection) as received:
            insert(connection, "a")
        assert received.recycled == []  # entering the block has replaced it already
    connection.commit()
    connection.set_autocommit(True)
    connection.set_autocommit(False)
    connection.set_autocommit(True)
    assert hooks == ["a"]


# Savepoints.


def test_savepoint_released_on_a_lost_connection_raises_and_nothing_is_there(
    connection: Connection, admin: Admin
) -> None:
    with pytest.raises(Error), transaction.atomic(using=connection.alias):
        insert(connection, "a")
        with transaction.atomic(using=connection.alias):
            insert(connection, "b")
            kill(admin, connection)
    assert owners(admin) == []
    assert_works(connection, admin)


def test_savepoint_given_up_on_a_lost_connection_dooms_the_whole_transaction(
    connection: Connection, admin: Admin, hooks: Hooks
) -> None:
    with pytest.raises(Error), transaction.atomic(using=connection.alias):
        insert(connection, "a")
        hooks.register(connection, "a")
        with pytest.raises(Boom), transaction.atomic(using=connection.alias):
            kill(admin, connection)
            raise Boom
        insert(connection, "b")
    assert (owners(admin), hooks) == ([], [])
    assert_works(connection, admin)


def test_connection_lost_between_two_transactions_costs_neither(
    connection: Connection, admin: Admin
) -> None:
    for owner in "abc":
        with transaction.atomic(using=connection.alias):
            insert(connection, owner)
        kill(admin, connection)
    assert owners(admin) == ["a", "b", "c"]
    # Closing is no decision: what is lost is only closed.
    connection.close()
    assert value(connection, "SELECT 1") == 1
    assert session_id(connection) in admin.connection_ids()
