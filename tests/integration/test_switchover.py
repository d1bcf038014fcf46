"""A primary that turns read-only: writes wait for the new one, and are repeated there once."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from django.db import connections, transaction

from django_mysql_recycle import failover, may_have_run, run_transaction
from servers import FaultProxy, Server

from .acts import Hooks, alarm, code_of, insert, listening, outcome, owners, soon, wait_for
from .admin import Admin
from .connections import OURS, STOCK, Connection, ConnectionFactory
from .queries import connection_id, run, value
from .test_what_ran import trigger  # noqa: F401 - a fixture
from .test_wrong_node import APPLICATION, make_application, refused

TABLE = "CREATE TABLE testapp_account (owner VARCHAR(50) UNIQUE, balance INT)"
READ_ONLY = "The server is running with the --read-only option"


class Pair:
    """A primary, the server that takes over, and the address that leads to one of them."""

    def __init__(
        self, old: Admin, new: Admin, between: FaultProxy, spare: Server, make: ConnectionFactory
    ) -> None:
        self.old, self.new, self.between, self.spare, self.make = old, new, between, spare, make

    def connection(self, engine: str = OURS, **recycle: Any) -> Connection:
        given = recycle if engine == OURS else None
        connection = self.make(
            engine, via=self.between, recycle=given, CONN_MAX_AGE=None, **APPLICATION
        )
        connection.ensure_connection()
        return connection

    def demote(self) -> None:
        self.old.set_global("read_only", 1)

    def move(self) -> None:
        self.between.retarget(self.spare.host, self.spare.port)


@pytest.fixture(scope="module")
def spare(vendor: str) -> Iterator[Server]:
    with Server(vendor) as server:
        with Admin(server) as there:
            make_application(there)
            there.rows(TABLE)
        yield server


@pytest.fixture
def pair(
    admin: Admin,
    spare: Server,
    proxy: Callable[..., FaultProxy],
    make_connection: ConnectionFactory,
) -> Iterator[Pair]:
    make_application(admin)
    with Admin(spare) as there:
        yield Pair(admin, there, proxy(), spare, make_connection)
        there.rows("DELETE FROM testapp_account")


def seconds(act: Callable[[], Any]) -> float:
    begun = time.monotonic()
    act()
    return time.monotonic() - begun


# ##### What is never repeated, and waits for nothing #####


@pytest.mark.core
@pytest.mark.parametrize("number", [1290, 1836, 1874, 1047])
def test_refusal_that_a_trigger_has_made_up_is_raised_and_replaces_nothing(
    connection: Connection,
    admin: Admin,
    trigger: Callable[[int, str], None],  # noqa: F811
    number: int,
) -> None:
    before = connection_id(connection)
    trigger(number, READ_ONLY)
    with listening(connection) as said:
        for _ in range(2):
            assert seconds(lambda: refused(lambda: insert(connection, "no"), number)) < 2
            assert connection_id(connection) == before
    assert (said.recycled, said.repeated, owners(admin)) == ([], [], [])
    assert failover.suspect_since(connection.alias) == 0


@pytest.mark.parametrize("number", [1180, 1205, 1213, 3032, 3100, 3101])
def test_error_that_may_come_out_of_a_commit_is_raised_once_and_not_repeated(
    connection: Connection,
    admin: Admin,
    trigger: Callable[[int, str], None],  # noqa: F811
    number: int,
) -> None:
    before = connection_id(connection)
    trigger(number, READ_ONLY)
    with listening(connection) as said:
        assert seconds(lambda: refused(lambda: insert(connection, "no"), number)) < 2
        admin.rows("DROP TRIGGER refuse")
        insert(connection, "later")  # its node says that it takes writes
    assert (said.recycled, said.repeated) == ([], [])
    assert connection_id(connection) == before


def in_a_block(connection: Connection) -> None:
    with transaction.atomic(using=connection.alias):
        insert(connection, "no")


def several_rows(connection: Connection) -> None:
    with connection.cursor() as cursor:
        rows = [("no", 1), ("never", 2)]
        cursor.executemany("INSERT INTO testapp_account (owner, balance) VALUES (%s, %s)", rows)


def with_a_lock(connection: Connection) -> None:
    assert value(connection, "SELECT GET_LOCK('switchover', 0)") == 1
    insert(connection, "no")


def what_was_left(connection: Connection) -> None:
    run(connection, "SET @balance = 3")
    run(connection, "INSERT INTO testapp_account (owner, balance) VALUES ('no', @balance)")


@pytest.mark.core
@pytest.mark.parametrize("act", [in_a_block, several_rows, with_a_lock, what_was_left])
def test_refused_write_that_is_more_than_one_statement_is_raised_at_once(
    pair: Pair, act: Callable[[Connection], None]
) -> None:
    connection = pair.connection()
    pair.demote()
    pair.move()
    with listening(connection) as said:
        assert seconds(lambda: refused(lambda: act(connection), 1290)) < 2
    assert (said.repeated, owners(pair.old), owners(pair.new)) == ([], [], [])


def test_refused_procedure_is_raised_at_once_with_what_it_has_committed(pair: Pair) -> None:
    for admin in (pair.old, pair.new):
        admin.rows("DROP PROCEDURE IF EXISTS pay")
        admin.rows(
            "CREATE PROCEDURE pay() SQL SECURITY INVOKER"
            " INSERT INTO testapp_account (owner, balance) VALUES ('by a procedure', 1)"
        )
        for host in ("%", "localhost", "127.0.0.1"):
            admin.rows(f"GRANT EXECUTE ON recycle.* TO 'application'@'{host}'")
    connection = pair.connection()
    pair.demote()
    pair.move()
    with listening(connection) as said:
        assert seconds(lambda: refused(lambda: run(connection, "CALL pay()"), 1290)) < 2
    assert (said.repeated, owners(pair.old), owners(pair.new)) == ([], [], [])
    for admin in (pair.old, pair.new):
        admin.rows("DROP PROCEDURE pay")


@pytest.mark.parametrize(
    "recycle", [{"recycle_read_only": False}, {"failover_timeout": None}], ids=str
)
def test_without_the_settings_a_refusal_is_raised_at_once(
    pair: Pair, recycle: dict[str, Any]
) -> None:
    connection = pair.connection(**recycle)
    pair.demote()
    pair.move()
    assert seconds(lambda: refused(lambda: insert(connection, "no"), 1290)) < 2
    assert owners(pair.new) == []


# ##### A switch-over #####


@pytest.mark.core
def test_write_outside_of_a_transaction_waits_for_the_new_primary_and_runs_there_once(
    pair: Pair,
) -> None:
    connection, stock = pair.connection(), pair.connection(STOCK)
    pair.demote()
    begun = time.monotonic()
    with listening(connection) as said, soon(0.7, pair.move):
        insert(connection, "ours")
        assert time.monotonic() - begun > 0.6
        refused(lambda: insert(stock, "stock"), 1290)
    insert(connection, "ours 2")
    assert (said.repeated, said.recycled) == (["wrong node"], ["wrong node"])
    assert (owners(pair.old), owners(pair.new)) == ([], ["ours", "ours 2"])
    refused(lambda: insert(stock, "stock"), 1290)  # the control: it never ends
    assert failover.suspect_since(connection.alias) > begun


@pytest.mark.core
def test_all_threads_wait_for_one_of_them_that_asks(pair: Pair) -> None:
    alias = pair.connection().alias
    ready, failures = threading.Barrier(9, timeout=20), []

    def work(number: int) -> None:
        with closing(connections[alias]) as connection:
            connection.ensure_connection()
            ready.wait()
            ready.wait()
            failures.append(outcome(lambda: insert(connection, f"thread {number}")))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    ready.wait()
    pair.demote()
    before = len(pair.between.connections)
    with soon(1.5, pair.move):
        ready.wait()
        for thread in threads:
            thread.join()
    assert failures == [None] * 8
    assert owners(pair.new) == [f"thread {number}" for number in range(8)]
    # One new connection for each thread; the others asked whether the node takes writes.
    assert len(pair.between.connections) - before - 8 <= 6


@pytest.mark.core
def test_transaction_is_refused_once_and_the_next_one_waits(pair: Pair, hooks: Hooks) -> None:
    connection = pair.connection()

    def pay(owner: str) -> None:
        with transaction.atomic(using=connection.alias):
            hooks.register(connection, owner)
            insert(connection, owner)

    pair.demote()
    with soon(0.7, pair.move):
        refused(lambda: pay("refused"), 1290)
        pay("accepted")
    assert (owners(pair.new), hooks) == (["accepted"], ["accepted"])


def test_transaction_that_may_run_again_costs_no_error(pair: Pair, hooks: Hooks) -> None:
    connection = pair.connection()

    def pay() -> None:
        hooks.register(connection, "paid")
        insert(connection, "paid")

    pair.demote()
    with soon(0.7, pair.move):
        run_transaction(pay, using=connection.alias)
    assert (owners(pair.old), owners(pair.new), hooks) == ([], ["paid"], ["paid"])


def test_transaction_that_a_trigger_has_refused_does_not_run_again(
    connection: Connection,
    trigger: Callable[[int, str], None],  # noqa: F811
) -> None:
    trigger(1290, READ_ONLY)
    runs: list[int] = []

    def pay() -> None:
        runs.append(1)
        insert(connection, "no")

    refused(lambda: run_transaction(pay, using=connection.alias), 1290)
    assert runs == [1]


def test_node_that_takes_writes_again_ends_the_waiting(pair: Pair) -> None:
    connection = pair.connection()
    pair.demote()
    with soon(0.5, lambda: pair.old.set_global("read_only", 0)):
        insert(connection, "later")
    assert owners(pair.old) == ["later"]


def test_another_switch_over_is_another_episode(pair: Pair) -> None:
    connection = pair.connection()
    home = pair.between.target
    pair.demote()
    pair.move()
    insert(connection, "there")
    pair.old.set_global("read_only", 0)
    pair.new.set_global("read_only", 1)
    try:
        with soon(0.5, lambda: pair.between.retarget(*home)):
            insert(connection, "back")
    finally:
        pair.new.set_global("read_only", 0)
    assert (owners(pair.old), owners(pair.new)) == (["back"], ["there"])


def test_connection_from_before_the_last_switch_over_waits_for_the_next_one(pair: Pair) -> None:
    first, second = pair.connection(), pair.connection()
    # As if they were of one alias, in two threads.
    failover._aliases.states[second.alias] = failover.of(first.alias)
    home = pair.between.target
    pair.demote()
    pair.move()
    insert(first, "first")
    pair.old.set_global("read_only", 0)
    insert(second, "second")  # it has stayed with the old server, which takes writes again
    pair.between.retarget(*home)
    pair.demote()
    with soon(0.5, pair.move):
        insert(second, "third")
    assert (owners(pair.old), owners(pair.new)) == (["second"], ["first", "third"])


@pytest.mark.core
def test_interruption_of_the_waiting_leaves_a_sound_connection_and_no_prober(pair: Pair) -> None:
    connection = pair.connection()
    pair.demote()
    with pytest.raises(KeyboardInterrupt), alarm(0.6, KeyboardInterrupt):
        insert(connection, "interrupted")
    pair.move()
    assert seconds(lambda: insert(connection, "later")) < 3
    assert owners(pair.new) == ["later"]


def test_signal_handler_that_is_refused_does_not_wait_for_its_own_thread(pair: Pair) -> None:
    state = failover.of(pair.connection().alias)
    with state.lock:
        episode = state.begin(time.monotonic(), 10)
        assert state.claim(episode, time.monotonic())


# ##### A server that stays read-only #####


@pytest.mark.core
def test_after_the_time_refusals_are_raised_at_once_and_reads_stay_where_they_are(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    connection = pair.connection(failover_timeout=1)
    before = connection_id(connection)
    pair.demote()
    with caplog.at_level(logging.INFO, "django_mysql_recycle"), listening(connection) as said:
        assert 0.9 < seconds(lambda: refused(lambda: insert(connection, "no"), 1290)) < 3
        for _ in range(20):
            assert seconds(lambda: refused(lambda: insert(connection, "no"), 1290)) < 0.9
            assert seconds(lambda: refused(lambda: in_a_block(connection), 1290)) < 0.9
            assert connection_id(connection) == before
    assert (said.recycled, said.repeated) == ([], [])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no node of" in caplog.text
    pair.move()

    def written() -> bool:
        return outcome(lambda: insert(connection, "at last")) is None

    wait_for(written, "a probe", timeout=5)
    assert owners(pair.new) == ["at last"]


def test_reads_go_on_while_a_write_waits(pair: Pair) -> None:
    reader = pair.connection()
    pair.demote()
    refused(lambda: in_a_block(reader), 1290)  # its connection is known to lead to a wrong node
    before = connection_id(reader)
    alias, waiting = reader.alias, threading.Event()

    def write() -> None:
        with closing(connections[alias]) as connection:
            connection.ensure_connection()
            waiting.set()
            insert(connection, "later")

    with soon(0, write):
        waiting.wait(10)
        for _ in range(20):
            assert seconds(lambda: run(reader, "SELECT * FROM testapp_account")) < 0.5
        assert connection_id(reader) == before
        pair.move()
    assert owners(pair.new) == ["later"]
    assert connection_id(reader) != before  # there is a better node by now


def test_refusal_closes_the_idle_connections_of_the_pool(pair: Pair) -> None:
    connection: Any = pair.make(via=pair.between, options={"pool": True}, **APPLICATION)
    numbers: list[int] = []

    def borrow() -> None:
        with closing(connections[connection.alias]) as another:
            numbers.append(connection_id(another))

    connection.ensure_connection()
    thread = threading.Thread(target=borrow)
    thread.start()
    thread.join()
    assert connection.pool_stats()["pool_available"] == 1
    pair.demote()
    pair.move()
    insert(connection, "there")
    wait_for(lambda: numbers[0] not in pair.old.connection_ids(), "the idle connection to close")
    assert owners(pair.new) == ["there"]
    connection.close()
    connection.close_pool()


# ##### require_primary #####


@pytest.mark.core
def test_connection_to_a_read_only_server_can_be_refused(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    admin.set_global("read_only", 1)
    strict, ordinary = make_connection(recycle={"require_primary": True}), make_connection()
    insert(ordinary, "by an administrator")  # to whom nothing is refused
    error = outcome(strict.ensure_connection)
    assert error is not None and code_of(error) == 1836
    assert "'require_primary' is set" in str(error)
    assert may_have_run(error) is False
    admin.set_global("read_only", 0)
    insert(strict, "by another one")
    assert owners(admin) == ["by an administrator", "by another one"]


def test_connecting_waits_for_a_server_that_takes_writes(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(recycle={"require_primary": True})
    insert(connection, "before")
    connection.close()
    admin.set_global("read_only", 1)
    with soon(0.5, lambda: admin.set_global("read_only", 0)):
        insert(connection, "after")
    assert owners(admin) == ["after", "before"]


def test_child_of_a_fork_begins_without_an_episode(connection: Connection) -> None:
    state = failover.of(connection.alias)
    state.begin(time.monotonic(), 100)
    reads, writes = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writes, b"%d" % (failover.of(connection.alias).episode is None))
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reads, 1) == b"1"
    os.close(reads)
    os.close(writes)
