"""After a fork the parent's connection lives on untouched, whatever the child does."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.backends.signals import connection_created
from django.db.utils import DatabaseError, Error
from django.dispatch import Signal

from django_mysql_recycle.signals import connection_recycled

from ..testapp.models import Account
from .acts import Hooks, assert_works, insert, outcome, owners, session_id, wait_until_hung_up
from .admin import Admin
from .connections import STOCK, Connection, ConnectionFactory, unbuffered
from .forking import (
    Child,
    fork,
    fork_without_hooks,
    in_child,
    output_of_program,
    send_result,
    start,
)
from .queries import connection_id, kill, run, value
from .test_events import receiving

TRANSPORTS = pytest.mark.parametrize("transport", ["tcp", "tls"])
FORKS = pytest.mark.parametrize(
    "forks", [fork, fork_without_hooks], ids=["os.fork", "without hooks"]
)


def use(connection: Connection) -> int:
    insert(connection, "by the child")
    return connection_id(connection)


def use_and_close(connection: Connection) -> int:
    mine = use(connection)
    connection.close()
    return mine


def close(connection: Connection) -> None:
    connection.close()


def close_all(connection: Connection) -> None:
    connections.close_all()


def drop_everything(connection: Connection) -> None:
    """Let every object go that might say goodbye to the server."""
    alias = connection.alias
    del connections[alias]
    del connection
    gc.collect()


def nothing(connection: Connection) -> None:
    pass


DEEDS: dict[str, Callable[[Connection], Any]] = {
    deed.__name__.replace("_", " "): deed
    for deed in (use, use_and_close, close, close_all, drop_everything, nothing)
}


@pytest.mark.core
@TRANSPORTS
@FORKS
@pytest.mark.parametrize("deed", DEEDS)
def test_connection_of_the_parent_outlives_its_child(
    make_connection: ConnectionFactory,
    admin: Admin,
    transport: Any,
    forks: Callable[[], int],
    deed: str,
) -> None:
    connection = make_connection(transport=transport)
    before = connection_id(connection)
    child = in_child(lambda: DEEDS[deed](connection), forks)
    assert child != before
    assert connection_id(connection) == before
    insert(connection, "by the parent")
    used = ["by the child"] if deed.startswith("use") else []
    assert owners(admin) == [*used, "by the parent"]


@pytest.mark.core
@TRANSPORTS
@FORKS
@pytest.mark.parametrize("deed", ["close", "close all", "drop everything", "nothing"])
def test_open_transaction_of_the_parent_outlives_its_child(
    make_connection: ConnectionFactory,
    admin: Admin,
    transport: Any,
    forks: Callable[[], int],
    deed: str,
    hooks: Hooks,
) -> None:
    connection = make_connection(transport=transport)
    with transaction.atomic(using=connection.alias):
        insert(connection, "before the fork")
        before = session_id(connection)
        hooks.register(connection, 1)
        in_child(lambda: DEEDS[deed](connection), forks)
        assert connection_id(connection) == before
        insert(connection, "after the fork")
        assert owners(admin) == []
    assert owners(admin) == ["after the fork", "before the fork"]
    assert hooks == [1]


def test_control_stock_backend_shares_one_session_between_parent_and_child(
    make_connection: ConnectionFactory,
) -> None:
    connection = make_connection(STOCK)
    before = connection_id(connection)
    assert in_child(lambda: connection_id(connection)) == before


def test_control_stock_backend_loses_the_parents_connection_when_its_child_closes(
    make_connection: ConnectionFactory,
) -> None:
    connection = make_connection(STOCK)
    run(connection, "SELECT 1")
    in_child(connection.close)
    wait_until_hung_up(connection)
    with pytest.raises(Error):
        run(connection, "SELECT 1")


@pytest.mark.core
@FORKS
@pytest.mark.parametrize("depth", ["atomic", "nested"])
def test_child_forked_inside_atomic_gets_errors_until_it_leaves_the_block(
    make_connection: ConnectionFactory,
    admin: Admin,
    forks: Callable[[], int],
    depth: str,
    hooks: Hooks,
) -> None:
    class Leave(Exception):
        pass

    connection = make_connection()
    reported: list[Any] = []
    reading, writing = os.pipe()
    pid = -1
    try:
        with transaction.atomic(using=connection.alias):
            insert(connection, "before")
            before = session_id(connection)
            hooks.register(connection, "hook")
            with transaction.atomic(using=connection.alias, savepoint=depth == "nested"):
                pid = forks()
                if pid == 0:
                    for _ in range(2):
                        error = outcome(lambda: insert(connection, "by the child"))
                        reported.append(type(error).__name__)
                    error = outcome(lambda: value(connection, "SELECT 1"))
                    reported.append(type(error).__name__)
                    raise Leave
                os.close(writing)
                os.waitpid(pid, 0)
                assert connection_id(connection) == before
            insert(connection, "after")
    except Leave:

        def go_on() -> Any:
            insert(connection, "by the child, outside")
            with transaction.atomic(using=connection.alias):
                insert(connection, "in its own transaction")
            return reported, hooks, connection_id(connection)

        send_result(writing, go_on)
    with os.fdopen(reading, "rb") as pipe:
        kind, answer = pickle.loads(pipe.read())
    assert kind == "result", answer
    errors, hooks_of_the_child, session_of_the_child = answer
    assert len(errors) == 3 and "NoneType" not in errors
    assert hooks_of_the_child == []
    assert session_of_the_child != before
    assert hooks == ["hook"]
    assert owners(admin) == ["after", "before", "by the child, outside", "in its own transaction"]


def test_errors_of_a_child_inside_the_block_are_those_of_a_closed_connection(
    connection: Connection,
) -> None:
    with transaction.atomic(using=connection.alias):
        run(connection, "SELECT 1")

        def probe() -> list[bool]:
            error = outcome(lambda: run(connection, "SELECT 1"))
            return [
                isinstance(error, DatabaseError),
                connection.needs_rollback,
                connection.closed_in_transaction,
                connection.run_on_commit == [],
            ]

        assert all(in_child(probe))


@FORKS
def test_pins_stay_with_the_parent(
    connection: Connection, admin: Admin, forks: Callable[[], int]
) -> None:
    assert value(connection, "SELECT GET_LOCK('parent', 0)") == 1
    assert in_child(lambda: value(connection, "SELECT GET_LOCK('parent', 0)"), forks) == 0
    assert value(connection, "SELECT IS_USED_LOCK('parent') = CONNECTION_ID()") == 1


def test_rows_that_the_parent_has_not_read_are_not_the_childs_to_read(
    make_connection: ConnectionFactory, admin: Admin, driver: str
) -> None:
    connection = make_connection(options=unbuffered(driver))
    for owner in "abc":
        insert(connection, owner)
    with connection.cursor() as cursor:
        cursor.execute("SELECT owner FROM testapp_account ORDER BY owner")
        assert cursor.fetchone() == ("a",)
        child = in_child(lambda: connection_id(connection))
        assert child != session_id(connection)
        assert cursor.fetchall() in ((("b",), ("c",)), [("b",), ("c",)])
    assert_works(connection, admin)


@pytest.mark.parametrize("by", ["settings", "call"])
def test_autocommit_off_survives_into_the_child(
    make_connection: ConnectionFactory, admin: Admin, by: str
) -> None:
    connection = make_connection(AUTOCOMMIT=by != "settings")
    if by == "call":
        connection.set_autocommit(False)
    insert(connection, "a")

    def uncommitted() -> bool:
        insert(connection, "by the child")
        return bool(connection.get_autocommit())

    assert in_child(uncommitted) is False
    connection.commit()
    assert owners(admin) == ["a"]


def test_child_of_a_child_has_a_connection_of_its_own(connection: Connection, admin: Admin) -> None:
    mine = connection_id(connection)

    def generation() -> list[int]:
        childs = connection_id(connection)
        return [childs, in_child(lambda: connection_id(connection)), connection_id(connection)]

    child, grandchild, child_again = in_child(generation)
    assert child == child_again
    assert len({mine, child, grandchild}) == 3
    assert connection_id(connection) == mine


def test_signal_that_kills_the_child_leaves_the_parent_alone(
    connection: Connection, admin: Admin
) -> None:
    before = connection_id(connection)
    for number in (signal.SIGKILL, signal.SIGTERM):
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            connection_id(connection)
            os.kill(os.getpid(), number)
            os._exit(1)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == number
        assert connection_id(connection) == before


@pytest.mark.core
@TRANSPORTS
def test_multiprocessing_children_work_beside_their_parent(
    make_connection: ConnectionFactory, admin: Admin, transport: Any
) -> None:
    connection = make_connection(transport=transport)
    before = connection_id(connection)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def work(number: int) -> None:
        wrong = sum(value(connection, "SELECT %s + 0", n) != n for n in range(number, number + 50))
        answers.put((connection_id(connection), wrong))

    processes = [context.Process(target=work, args=(1000 * number,)) for number in range(4)]
    for process in processes:
        process.start()
    wrong = sum(value(connection, "SELECT %s + 0", n) != n for n in range(50))
    reported = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    assert wrong == 0 and all(count == 0 for _, count in reported)
    assert len({before, *(session for session, _ in reported)}) == 5
    assert connection_id(connection) == before


@pytest.mark.core
def test_prefork_workers_serve_from_sessions_of_their_own(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    # gunicorn --preload, Celery: the master has used the database before it forks.
    connection = make_connection(CONN_MAX_AGE=None)
    insert(connection, "by the master")
    master = connection_id(connection)

    def serve() -> list[int]:
        sessions = set()
        for number in range(30):
            account = Account.objects.using(connection.alias).create(
                owner=f"{os.getpid()} {number}"
            )
            again = Account.objects.using(connection.alias).get(pk=account.pk)
            assert again.owner == account.owner
            sessions.add(connection_id(connection))
        return sorted(sessions)

    workers = [start(serve) for _ in range(4)]
    sessions = [worker.result() for worker in workers]
    assert all(len(own) == 1 for own in sessions)
    assert len({master, *(own[0] for own in sessions)}) == 5
    assert connection_id(connection) == master
    assert len(owners(admin)) == 1 + 4 * 30


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_statement_of_another_thread_is_not_disturbed_by_a_fork(
    connection: Connection, admin: Admin
) -> None:
    alias = connection.alias
    begun, answers = threading.Event(), []

    def slow() -> None:
        mine = connections[alias]
        first = connection_id(mine)
        begun.set()
        answers.append(value(mine, "SELECT SLEEP(0.4) + 5"))
        answers.append(connection_id(mine) == first)
        mine.close()

    thread = threading.Thread(target=slow)
    thread.start()
    begun.wait()
    for _ in range(3):
        in_child(lambda: (gc.collect(), connection_id(connection), connections.close_all())[1])
    thread.join()
    assert answers == [5, True]


def divided(
    sender: Signal, act: Callable[[], Any], forks: Callable[[], int] = fork
) -> tuple[Any, Any]:
    """What `act` returns in the parent, and in a child that a receiver forks in the middle of it."""
    parent = os.getpid()
    reading, writing = os.pipe()
    children: list[int] = []

    def divide(**facts: Any) -> None:
        if not children:
            children.append(forks())

    def answer() -> Any:
        if error is not None:
            raise error
        return result

    result = error = None
    with receiving(sender, divide):
        try:
            result = act()
        except BaseException as raised:
            error = raised
    if os.getpid() != parent:
        send_result(writing, answer)
    os.close(writing)
    return answer(), Child(children[0], reading).result()


@FORKS
@pytest.mark.parametrize("entering", [False, True], ids=["statement", "atomic"])
@pytest.mark.parametrize(
    "sender", [connection_created, connection_recycled], ids=["created", "recycled"]
)
def test_child_that_a_receiver_forks_goes_on_with_a_connection_of_its_own(
    connection: Connection,
    admin: Admin,
    sender: Signal,
    entering: bool,
    forks: Callable[[], int],
) -> None:
    parent = os.getpid()

    def work() -> int:
        if entering:
            with transaction.atomic(using=connection.alias):
                insert(connection, "parent" if os.getpid() == parent else "child")
        return connection_id(connection)

    run(connection, "SELECT 1")
    kill(admin, connection)
    parents, childs = divided(sender, work, forks)
    assert parents != childs
    assert owners(admin) == (["child", "parent"] if entering else [])
    assert connection_id(connection) == parents


@pytest.mark.parametrize("asks", [False, True], ids=["", "child asks in the receiver"])
@pytest.mark.parametrize(
    "sender", [connection_created, connection_recycled], ids=["created", "recycled"]
)
def test_hooks_stay_with_the_parent_where_a_receiver_forks(
    connection: Connection, admin: Admin, sender: Signal, asks: bool, hooks: Hooks
) -> None:

    def forks() -> int:
        pid = fork()
        if not pid and asks:
            run(connection, "SELECT 1")
        return pid

    def work() -> list[str]:
        run(connection, "SELECT 1")
        connection.set_autocommit(True)
        return hooks

    connection.set_autocommit(False)
    with transaction.atomic(using=connection.alias):
        insert(connection, "parent")
        hooks.register(connection, "hook")
    connection.commit()
    admin.kill(session_id(connection))
    wait_until_hung_up(connection)
    assert divided(sender, work, forks) == (["hook"], [])


TRANSACTION = """
with transaction.atomic():
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO testapp_account (owner, balance) VALUES ('a', 0)")
    child = os.fork()
    if child == 0:
        {deed}
    os.waitpid(child, 0)
    assert ask() == before
print("committed")
"""


@TRANSPORTS
@pytest.mark.parametrize(
    "deed", ["sys.exit(0)", "raise RuntimeError('crash')", "connection.close(); sys.exit(3)"]
)
def test_child_that_ends_as_programs_do_leaves_the_parents_transaction_alone(
    make_connection: ConnectionFactory, admin: Admin, driver: str, transport: Any, deed: str
) -> None:
    # The interpreter takes everything down at the end, connections included.
    connection = make_connection(transport=transport, CONN_MAX_AGE=None)
    assert "committed" in output_of_program(connection, driver, TRANSACTION.format(deed=deed))
    assert owners(admin) == ["a"]
