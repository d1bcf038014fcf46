"""docs/recipes/migrating-*.md: the code before and after, on the stock backend and on ours."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, transaction
from django.db.transaction import TransactionManagementError

from django_mysql_recycle import SessionStateLost
from servers import FaultProxy
from tests.integration.admin import Admin
from tests.integration.connections import OURS, STOCK, ConnectionFactory
from tests.integration.queries import idle_out, kill, run, settle

from . import pages
from .conftest import PAUSE, balances
from .projects import Project


def code(page: str, name: str) -> dict[str, Any]:
    """What a file of a page defines."""
    defined: dict[str, Any] = {}
    exec(pages.files(f"migrating-from-{page}")[name], defined)
    return defined


def test_health_check_tricks_can_go_and_save_their_round_trips(
    make_connection: ConnectionFactory, admin: Admin, proxy: Callable[..., FaultProxy]
) -> None:
    before, after = (code("health-checks", name)["query"] for name in ("before.py", "after.py"))
    between = proxy()
    stock, bare = (make_connection(STOCK, via=between) for _ in "12")
    ours, tricked = (make_connection(OURS, via=between) for _ in "12")
    commands = []
    for act, connection in ((before, stock), (after, ours), (before, tricked)):
        run(connection, "DO 0")
        sent = between.connections[-1]
        began = len(sent.commands)
        for _ in range(3):
            act(connection.alias, "SELECT 1")
        commands.append(len(sent.commands) - began)
        idle_out(admin, connection)
        assert act(connection.alias, "SELECT 1") == ((1,),)
    assert commands == [6, 3, 6]
    idle_out(admin, bare)
    with pytest.raises(OperationalError):  # the control: the trick was needed
        after(bare.alias, "SELECT 1")


def test_close_old_connections_can_go(make_connection: ConnectionFactory, admin: Admin) -> None:
    before, after = (
        code("close-old-connections", name)["work"] for name in ("before.py", "after.py")
    )
    each_time, kept = make_connection(STOCK), make_connection(STOCK, CONN_MAX_AGE=None)
    assert before(each_time.alias) != before(each_time.alias)  # a connection for each
    before(kept.alias)
    idle_out(admin, kept)
    with pytest.raises(OperationalError):  # which no check had noticed
        before(kept.alias)
    for work in (before, after):
        ours = make_connection(OURS, CONN_MAX_AGE=None)
        first = work(ours.alias)
        assert work(ours.alias) == first
        idle_out(admin, ours)
        assert work(ours.alias) != first
        with pytest.raises(TransactionManagementError):  # Django closes it there
            with transaction.atomic(using=ours.alias):
                before(ours.alias)


def test_retry_wrapper_pays_twice_where_ours_raises(
    make_connection: ConnectionFactory, bank: Admin, proxy: Callable[..., FaultProxy]
) -> None:
    before, after = (code("retry-wrappers", name)["pay_in"] for name in ("before.py", "after.py"))
    between = proxy()
    stock, ours = (make_connection(engine, via=between) for engine in (STOCK, OURS))
    for connection in (stock, ours):
        run(connection, "DO 0")
        settle()
        between.swallow_next_reply()
        if connection is stock:
            before(connection.alias, "bob")
        else:
            with pytest.raises(OperationalError):
                after(connection.alias, "ann")
            after(connection.alias, "ann")  # and goes on
    assert balances(bank) == {"ann": 2, "bob": 2}  # Ann paid twice, Bob once


def test_wrapper_that_stays_hides_a_lost_lock(
    make_connection: ConnectionFactory, bank: Admin
) -> None:
    before, after = (code("retry-wrappers", name)["pay_in"] for name in ("before.py", "after.py"))
    ours = make_connection(OURS)
    for act in (before, after):
        run(ours, "SELECT GET_LOCK('payments', 0)")
        kill(bank, ours)
        if act is after:
            with pytest.raises(SessionStateLost):
                act(ours.alias, "ann")
        else:
            act(ours.alias, "ann")
    assert balances(bank) == {"ann": 1, "bob": 0}


def test_pause_while_the_connection_is_held_is_nothing_a_pool_sees(
    make_project: Callable[[str], Project],
) -> None:
    project = make_project("commands")
    command = pages.command("commands", "python manage.py consume")
    pool, ours = (code("dj-db-conn-pool", name)["DATABASE"] for name in ("before.py", "after.py"))
    with (
        project.start(pool["ENGINE"], *command, database=pool) as pooled,
        project.start(ours["ENGINE"], *command, database=ours) as single,
    ):
        for program, owner in ((pooled, "bob"), (single, "ann")):
            program.wait_for("2 accounts")
            program.type(f"{owner}\n")
            program.wait_for(f"{owner} has 1")
        time.sleep(PAUSE)
        pooled.type("bob\n")
        single.type("ann\n")
        single.wait_for("ann has 2")
        assert "OperationalError" in pooled.wait()
