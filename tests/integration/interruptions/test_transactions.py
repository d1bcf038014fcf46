"""A transaction that was interrupted: nothing of it is committed twice, by half, or without its hooks."""

from __future__ import annotations

import random
from typing import Any

import pytest
from django.db import transaction
from django.db.utils import DatabaseError

from ..acts import (
    Hooks,
    alarm,
    assert_works,
    balances,
    in_a_driver,
    insert,
    outcome,
    owners,
)
from ..admin import Admin
from ..connections import Connection, ConnectionFactory, Proxied
from ..queries import run, value
from .conftest import (
    INTERRUPTIONS,
    ONE_KIND,
    SLOW,
    SoftTimeLimit,
    destructors_may_complain,
    enter,
    interrupted,
)


@pytest.mark.core
@INTERRUPTIONS
def test_transaction_with_an_interrupted_statement_cannot_go_on(
    connection: Connection, admin: Admin, kind: type[BaseException], hooks: Hooks
) -> None:
    errors = []
    with (
        pytest.raises(DatabaseError, match="was interrupted"),
        transaction.atomic(using=connection.alias),
    ):
        insert(connection, "a")
        hooks.register(connection, "a")
        interrupted(kind, lambda: run(connection, SLOW))
        errors.append(outcome(lambda: insert(connection, "b")))
        errors.append(outcome(lambda: value(connection, "SELECT 1")))
        errors.append(outcome(lambda: enter(connection)))
        # COMMIT raises as well: the block cannot pretend.
    assert [isinstance(error, DatabaseError) for error in errors] == [True] * 3
    assert (owners(admin), hooks) == ([], [])
    with transaction.atomic(using=connection.alias):
        insert(connection, "c")
    assert (owners(admin), hooks) == (["c"], [])
    assert_works(connection, admin)


@ONE_KIND
def test_interruption_that_leaves_the_block_is_not_masked(
    connection: Connection, admin: Admin, kind: type[BaseException]
) -> None:

    def work() -> None:
        with transaction.atomic(using=connection.alias):
            insert(connection, "a")
            with transaction.atomic(using=connection.alias):
                run(connection, SLOW)

    interrupted(kind, work)
    insert(connection, "b")
    assert owners(admin) == ["b"]
    assert_works(connection, admin)


@ONE_KIND
def test_interrupted_savepoint_dooms_the_transaction(
    connection: Connection, admin: Admin, kind: type[BaseException]
) -> None:
    with pytest.raises(DatabaseError), transaction.atomic(using=connection.alias):
        insert(connection, "a")
        with pytest.raises(kind), transaction.atomic(using=connection.alias):
            interrupted(kind, lambda: run(connection, SLOW))
            raise kind
        insert(connection, "b")
    assert owners(admin) == []
    assert_works(connection, admin)


@pytest.mark.core
@INTERRUPTIONS
@pytest.mark.parametrize("form", ["atomic", "commit()", "sql"])
def test_interruption_of_commit_is_raised_and_nothing_of_it_is_left_over(
    proxied: Proxied, admin: Admin, kind: type[BaseException], form: str, hooks: Hooks
) -> None:
    connection, between = proxied()
    run(connection, "SELECT 1")

    def work() -> None:
        if form == "atomic":
            with transaction.atomic(using=connection.alias):
                insert(connection, "a")
                hooks.register(connection, "a")
                between.latency = 0.15
        elif form == "commit()":
            connection.set_autocommit(False)
            insert(connection, "a")
            between.latency = 0.15
            connection.commit()
        else:
            run(connection, "BEGIN")
            insert(connection, "a")
            between.latency = 0.15
            run(connection, "COMMIT")

    interrupted(kind, work)
    between.latency = 0
    if form == "commit()":
        connection.rollback()
        connection.set_autocommit(True)
    elif form == "sql":
        outcome(lambda: run(connection, "SELECT 1"))
    assert connection.get_autocommit()
    with transaction.atomic(using=connection.alias):
        insert(connection, "b")
        hooks.register(connection, "b")
    # The server may or may not have committed; no one got the answer that it has.
    assert owners(admin) in (["a", "b"], ["b"])
    assert hooks in (["b"], ["a", "b"])
    if "a" in hooks:
        assert "a" in owners(admin)
    assert_works(connection, admin)


@ONE_KIND
def test_interruption_between_an_acknowledged_commit_and_autocommit_costs_no_hook(
    proxied: Proxied, admin: Admin, kind: type[BaseException], hooks: Hooks
) -> None:
    connection, between = proxied()

    def work() -> None:
        with transaction.atomic(using=connection.alias):
            insert(connection, "a")
            hooks.register(connection, "a")
            # COMMIT takes 0.2 s, SET autocommit = 1 as long: the alarm rings in the second.
            between.latency = 0.1

    def commit_is_answered(_frame: Any) -> bool:
        sent = [sql for one in between.connections for sql in one.queries()]
        return "COMMIT" in sent and sent[-1] != "COMMIT"

    with pytest.raises(kind), alarm(0.05, kind, where=commit_is_answered):
        work()
    between.latency = 0
    assert (owners(admin), hooks) == (["a"], ["a"])
    assert connection.get_autocommit()
    assert (
        not connection.run_commit_hooks_on_set_autocommit_on
    )  # or an interrupted ROLLBACK runs some
    with transaction.atomic(using=connection.alias):
        insert(connection, "b")
    assert (owners(admin), hooks) == (["a", "b"], ["a"])


@pytest.mark.parametrize("method", ["commit", "rollback"])
def test_block_whose_end_an_interruption_has_kept_from_being_sent_commits_nothing(
    make_connection: ConnectionFactory,
    admin: Admin,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    connection = make_connection()

    def strike() -> None:
        raise SoftTimeLimit

    with monkeypatch.context() as patch:
        patch.setattr(connection, method, strike)
        with pytest.raises(SoftTimeLimit):
            with transaction.atomic(using=connection.alias):
                insert(connection, "a")
                if method == "rollback":
                    raise LookupError
    assert owners(admin) == []
    with transaction.atomic(using=connection.alias):
        insert(connection, "b")
    assert owners(admin) == ["b"]
    assert_works(connection, admin)


@ONE_KIND
def test_interrupted_entry_into_a_transaction_leaves_nothing_behind(
    proxied: Proxied, admin: Admin, kind: type[BaseException]
) -> None:
    connection, between = proxied()
    run(connection, "SELECT 1")
    between.latency = 0.15
    interrupted(kind, lambda: enter(connection))
    between.latency = 0
    insert(connection, "a")
    assert owners(admin) == ["a"]  # with autocommit
    with transaction.atomic(using=connection.alias):
        insert(connection, "b")
    assert_works(connection, admin)


@ONE_KIND
def test_interrupted_rollback_is_a_rollback(
    proxied: Proxied, admin: Admin, kind: type[BaseException], hooks: Hooks
) -> None:
    connection, between = proxied()

    def work() -> None:
        with transaction.atomic(using=connection.alias):
            insert(connection, "a")
            hooks.register(connection, "a")
            between.latency = 0.15
            raise RuntimeError

    interrupted(kind, work)
    between.latency = 0
    with transaction.atomic(using=connection.alias):
        insert(connection, "b")
    assert (owners(admin), hooks) == (["b"], [])
    assert_works(connection, admin)


@destructors_may_complain
def test_interruption_anywhere_in_the_driver_never_doubles_or_halves_a_transaction(
    connection: Connection, admin: Admin, hooks: Hooks
) -> None:
    insert(connection, "left", 1000)
    insert(connection, "right", 1000)
    seed = random.randrange(1 << 30)
    moments = random.Random(seed)
    acknowledged = 0
    for _ in range(120):
        try:
            with alarm(moments.uniform(0.0001, 0.004), SoftTimeLimit, where=in_a_driver):
                for _ in range(20):
                    with transaction.atomic(using=connection.alias):
                        run(
                            connection,
                            "UPDATE testapp_account SET balance = balance - 1 WHERE owner = 'left'",
                        )
                        run(
                            connection,
                            "UPDATE testapp_account SET balance = balance + 1 WHERE owner = 'right'",
                        )
                        hooks.register(connection, 1)
                    acknowledged += 1
        except (SoftTimeLimit, DatabaseError):
            continue
    there = balances(admin)
    moved = there["right"] - 1000
    assert there["left"] + there["right"] == 2000, f"seed {seed}"
    assert acknowledged <= moved <= acknowledged + 120, f"seed {seed}"
    # A hook runs at most once for each COMMIT, and for each whose success the application has seen.
    assert acknowledged <= len(hooks) <= moved, f"seed {seed}"
    assert_works(connection, admin)
