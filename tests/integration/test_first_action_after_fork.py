"""Whatever a child of `fork()` does first, it does with a connection of its own.

A fork from C runs none of Python's hooks, which is uWSGI's default. The child then behaves as
one of `os.fork()`, for which the hook has already discarded the parent's connection.
"""

from __future__ import annotations

import inspect
import os
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest
from django.db import close_old_connections, connections, transaction
from django.db.utils import DatabaseError

from django_mysql_recycle import pinned

from ..testapp.models import Account
from .acts import insert, outcome, owners, session_id
from .admin import Admin
from .connections import STOCK, Connection, ConnectionFactory, unbuffered
from .forking import fork, fork_without_hooks, in_child, output_of_program
from .handlers import serve_wsgi
from .queries import connection_id, run, value
from .test_composition import NAMES

ONE = "SELECT 1"

_numbers = count()


def unique(owner: str) -> str:
    return f"{owner} {os.getpid()} {next(_numbers)}"


def add(connection: Connection, owner: str) -> None:
    insert(connection, unique(owner))


def written(admin: Admin) -> Counter[str]:
    """How many rows there are of each kind."""
    return Counter(owner.rsplit(" ", 2)[0] for owner in owners(admin))


class Held:
    """Cursors that the parent has opened, and the block that it is in."""

    def __init__(self, connection: Connection, state: str) -> None:
        self.connection = connection
        self.cursor = connection.cursor()
        self.cursor.execute("SELECT 1 UNION SELECT 2")
        self.block = ExitStack()
        if state != "idle":
            self.block.enter_context(transaction.atomic(using=connection.alias))
            add(connection, "by the parent")
        if state == "nested":
            self.block.enter_context(transaction.atomic(using=connection.alias))

    def leave(self) -> None:
        """Leave the block as its end does, after which the child is on its own."""
        self.block.close()


def atomic(held: Held) -> None:
    with transaction.atomic(using=held.connection.alias):
        add(held.connection, "by the child")


def atomic_durable(held: Held) -> None:
    with transaction.atomic(using=held.connection.alias, durable=True):
        add(held.connection, "by the child")


def atomic_without_savepoint(held: Held) -> None:
    with transaction.atomic(using=held.connection.alias, savepoint=False):
        add(held.connection, "by the child")


def atomic_with_nothing_in_it(held: Held) -> None:
    with transaction.atomic(using=held.connection.alias):
        pass


def atomic_that_raises(held: Held) -> None:
    try:
        with transaction.atomic(using=held.connection.alias):
            raise KeyError("the application's own")
    except KeyError:
        pass


def set_autocommit_off(held: Held) -> None:
    held.connection.set_autocommit(False)


def set_autocommit_on(held: Held) -> None:
    held.connection.set_autocommit(True)


def get_autocommit(held: Held) -> bool:
    return held.connection.get_autocommit()


def savepoint(held: Held) -> bool:
    return held.connection.savepoint() is None


def savepoint_commit(held: Held) -> None:
    held.connection.savepoint_commit("nowhere")


def savepoint_rollback(held: Held) -> None:
    held.connection.savepoint_rollback("nowhere")


def on_commit(held: Held) -> list[int]:
    ran: list[int] = []
    held.connection.on_commit(lambda: ran.append(1))
    return ran


def commit(held: Held) -> None:
    held.connection.commit()


def rollback(held: Held) -> None:
    held.connection.rollback()


def leave_the_block(held: Held) -> None:
    held.leave()


def leave_the_block_by_an_exception(held: Held) -> None:
    error = KeyError("the application's own")
    held.block.pop_all().__exit__(KeyError, error, None)


def execute_on_a_held_cursor(held: Held) -> Any:
    held.cursor.execute(ONE)
    return held.cursor.fetchall()


def executemany_on_a_held_cursor(held: Held) -> None:
    held.cursor.executemany(
        "INSERT INTO testapp_account (owner, balance) VALUES (%s, 0)", [(unique("by the child"),)]
    )


def callproc_on_a_held_cursor(held: Held) -> None:
    held.cursor.callproc("nowhere")


def fetch_from_a_held_cursor(held: Held) -> Any:
    return tuple(held.cursor.fetchall())


def nextset_of_a_held_cursor(held: Held) -> Any:
    return held.cursor.nextset()


def close_a_held_cursor(held: Held) -> None:
    held.cursor.close()


def cursor(held: Held) -> None:
    held.connection.cursor()


def cursor_of_the_driver(held: Held) -> bool:
    with held.connection.cursor() as cursor:
        return cursor.cursor.cursor.connection is PARENTS[0]


def statement(held: Held) -> None:
    run(held.connection, ONE)


def chunked_cursor(held: Held) -> None:
    with held.connection.chunked_cursor() as cursor:
        cursor.execute(ONE)


def ensure_connection(held: Held) -> None:
    held.connection.ensure_connection()
    assert held.connection.connection is not PARENTS[0]
    cursor = held.connection.connection.cursor()
    cursor.execute(ONE)
    cursor.close()


def connect(held: Held) -> None:
    held.connection.connect()


def close(held: Held) -> None:
    held.connection.close()


def close_all(held: Held) -> None:
    connections.close_all()


def close_old(held: Held) -> None:
    close_old_connections()


def close_if_unusable_or_obsolete(held: Held) -> None:
    held.connection.close_if_unusable_or_obsolete()


def close_if_unusable_after_an_error(held: Held) -> None:
    held.connection.errors_occurred = True
    held.connection.close_if_unusable_or_obsolete()


def close_if_health_check_failed(held: Held) -> None:
    held.connection.health_check_enabled = True
    held.connection.health_check_done = False
    held.connection.close_if_health_check_failed()


def is_usable(held: Held) -> Any:
    return held.connection.is_usable()


def init_connection_state(held: Held) -> None:
    held.connection.init_connection_state()


def temporary_connection(held: Held) -> None:
    with held.connection.temporary_connection() as cursor:
        cursor.execute(ONE)


def validate_thread_sharing(held: Held) -> None:
    held.connection.validate_thread_sharing()


def share_between_threads(held: Held) -> None:
    held.connection.inc_thread_sharing()
    run(held.connection, ONE)
    held.connection.dec_thread_sharing()


def constraint_checks_disabled(held: Held) -> None:
    with held.connection.constraint_checks_disabled():
        run(held.connection, ONE)


def check_constraints(held: Held) -> None:
    held.connection.check_constraints()


def schema_editor(held: Held) -> None:
    with held.connection.schema_editor() as editor:
        editor.execute("CREATE TEMPORARY TABLE testapp_made (id INT)")


def pin_by_hand(held: Held) -> None:
    with pinned(held.connection, "in the child"):
        run(held.connection, ONE)


def server_data(held: Held) -> None:
    held.connection.__dict__.pop("mysql_server_data", None)
    assert held.connection.mysql_version >= (8,)


def orm_write(held: Held) -> None:
    Account.objects.using(held.connection.alias).create(owner=unique("by the child"))


def orm_bulk_write(held: Held) -> None:
    Account.objects.using(held.connection.alias).bulk_create(
        [Account(owner=unique("by the child"))]
    )


def orm_iterator(held: Held) -> list[Any]:
    return list(Account.objects.using(held.connection.alias).filter(owner="nobody").iterator())


ACTIONS: dict[str, Callable[[Held], Any]] = {
    action.__name__.replace("_", " "): action
    for action in (
        *(atomic, atomic_durable, atomic_without_savepoint, atomic_with_nothing_in_it),
        *(atomic_that_raises, set_autocommit_off, set_autocommit_on, get_autocommit),
        *(savepoint, savepoint_commit, savepoint_rollback, on_commit, commit, rollback),
        *(leave_the_block, leave_the_block_by_an_exception, execute_on_a_held_cursor),
        *(executemany_on_a_held_cursor, callproc_on_a_held_cursor, fetch_from_a_held_cursor),
        *(nextset_of_a_held_cursor, close_a_held_cursor, cursor, cursor_of_the_driver),
        *(statement, chunked_cursor, ensure_connection, connect, close, close_all, close_old),
        *(close_if_unusable_or_obsolete, close_if_unusable_after_an_error),
        *(close_if_health_check_failed, is_usable, init_connection_state),
        *(temporary_connection, validate_thread_sharing, share_between_threads),
        *(constraint_checks_disabled, check_constraints, schema_editor, pin_by_hand),
        *(server_data, orm_write, orm_bulk_write, orm_iterator),
    )
}

#: The driver's connection that the parent uses; the child keeps it alive by this list.
PARENTS: list[Any] = []


def act_and_go_on(held: Held, action: Callable[[Held], Any]) -> list[Any]:
    """What the first action makes of itself, and how the child goes on afterwards."""
    connection = held.connection
    answers: list[Any] = []
    try:
        answers.append(action(held))
    except (DatabaseError, RuntimeError) as error:
        answers.append(f"raises {isinstance(error, DatabaseError)}")
    held.leave()
    assert connection_id(connection) not in PARENTS
    assert connection.connection is not PARENTS[0]
    answers += [connection.autocommit, value(connection, "SELECT @@SESSION.autocommit")]
    with transaction.atomic(using=connection.alias):
        add(connection, "at last")
    if not connection.get_autocommit():
        connection.commit()
    return answers


@pytest.mark.core
@pytest.mark.parametrize("state", ["idle", "atomic", "nested"])
@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "autocommit off"])
@pytest.mark.parametrize("name", ACTIONS)
def test_first_action_of_a_child_forked_without_hooks_is_as_with_hooks(
    make_connection: ConnectionFactory, admin: Admin, name: str, autocommit: bool, state: str
) -> None:
    connection = make_connection(AUTOCOMMIT=autocommit)
    held = Held(connection, state)
    mine = session_id(connection)
    PARENTS[:] = [connection.connection, mine]
    found = [
        in_child(lambda: act_and_go_on(held, ACTIONS[name]), forks)
        for forks in (fork, fork_without_hooks)
    ]
    assert found[1] == found[0]
    refused = "nowhere" in inspect.getsource(ACTIONS[name]) or "nextset" in name
    if state == "idle" and not (refused or (name == "on commit" and not autocommit)):
        assert not str(found[1][0]).startswith("raises")
    if state == "idle" and "close" not in name:
        expected = {"set autocommit off": False, "set autocommit on": True}.get(name, autocommit)
        assert found[1][-2:] == [expected, int(expected)]
    # The parent has the same session, and its transaction is still open.
    assert connection_id(connection) == mine
    assert written(admin)["by the parent"] == 0
    add(connection, "by the parent")
    held.leave()
    if not autocommit:
        connection.commit()
    assert written(admin)["by the parent"] == (1 if state == "idle" else 2)
    assert written(admin)["at last"] == 2
    PARENTS.clear()


@pytest.mark.parametrize("deed", ["fetchone", "fetchall", "nextset", "close", "execute"])
def test_child_forked_without_hooks_reads_nothing_of_its_parents_rows(
    make_connection: ConnectionFactory, admin: Admin, driver: str, deed: str
) -> None:
    connection = make_connection(options=unbuffered(driver))
    for owner in "abc":
        insert(connection, owner)
    with connection.cursor() as cursor:
        cursor.execute("SELECT owner FROM testapp_account ORDER BY owner")
        assert cursor.fetchone() == ("a",)

        def act() -> Any:
            if deed == "execute":
                cursor.execute(ONE)
                assert list(cursor.fetchall()) == [(1,)]
            else:
                outcome(getattr(cursor, deed))
            return connection_id(connection)

        assert in_child(act, fork_without_hooks) != session_id(connection)
        assert [tuple(row) for row in cursor.fetchall()] == [("b",), ("c",)]
    assert value(connection, "SELECT COUNT(*) FROM testapp_account") == 3


@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.parametrize("state", ["idle", "atomic"])
@pytest.mark.parametrize("name", ["atomic", "statement", "ensure connection", "commit"])
def test_first_action_on_a_composed_backend_is_as_with_hooks(
    make_connection: ConnectionFactory, admin: Admin, backend: str, state: str, name: str
) -> None:
    connection = make_connection(f"tests.backends.{backend}")
    held = Held(connection, state)
    mine = value(connection, "SELECT CONNECTION_ID()")
    PARENTS[:] = [connection.connection, mine]
    found = [
        in_child(lambda: act_and_go_on(held, ACTIONS[name]), forks)
        for forks in (fork, fork_without_hooks)
    ]
    assert found[1] == found[0]
    assert connection_id(connection) == mine
    held.leave()
    PARENTS.clear()


@pytest.mark.core
@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "autocommit off"])
def test_first_request_of_each_worker_succeeds_with_atomic_requests(
    make_connection: ConnectionFactory, admin: Admin, autocommit: bool
) -> None:
    from django.http import HttpResponse
    from django.urls import path

    connection = make_connection(AUTOCOMMIT=autocommit, ATOMIC_REQUESTS=True, CONN_MAX_AGE=None)
    mine = connection_id(connection)

    def view(request: Any) -> HttpResponse:
        add(connection, "by a worker")
        transaction.on_commit(lambda: None, using=connection.alias)
        return HttpResponse()

    def serve() -> list[int]:
        return [serve_wsgi((path("", view),), "/") for _ in range(2)]

    for _ in range(2):
        assert in_child(serve, fork_without_hooks) == [200, 200]
    assert connection_id(connection) == mine
    assert len(owners(admin)) == (4 if autocommit else 0)


def test_connection_put_in_place_by_hand_stays_with_the_parent(
    connection: Connection, admin: Admin
) -> None:
    connection.connection = connection.get_new_connection(connection.get_connection_params())
    connection.connection.autocommit(True)
    mine = session_id(connection)
    for forks in (fork, fork_without_hooks):
        assert in_child(lambda: connection_id(connection), forks) != mine
        assert connection_id(connection) == mine


def test_control_stock_backend_shares_one_session_with_a_child_forked_without_hooks(
    make_connection: ConnectionFactory,
) -> None:
    connection = make_connection(STOCK)
    mine = connection_id(connection)
    assert in_child(lambda: connection_id(connection), fork_without_hooks) == mine


CHILD_THAT_ENDS = """
child = ctypes.PyDLL(None).fork()
if child == 0:
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert ask() == before, "replaced"
print("kept")
"""


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_child_forked_without_hooks_that_ends_at_once_leaves_the_parents_session_alone(
    make_connection: ConnectionFactory, driver: str, transport: Any
) -> None:
    connection = make_connection(transport=transport, CONN_MAX_AGE=None)
    assert "kept" in output_of_program(connection, driver, CHILD_THAT_ENDS)
