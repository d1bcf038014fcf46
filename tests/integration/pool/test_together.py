"""A pool together with everything else: transactions, locks, aliases, forks, Django's own tools.

After each test every slot is free, and no alias has more connections than `max_size`.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.signals import request_finished
from django.db import Error, OperationalError, connections, transaction
from django.db.transaction import TransactionManagementError

from django_mysql_recycle import SessionStateLost, pinned
from django_mysql_recycle.pool import Lease
from servers import Server

from ..acts import Hooks, insert, owners, rest, wait_for
from ..admin import Admin
from ..connections import STOCK, ConnectionFactory
from ..forking import fork, fork_without_hooks, in_child, output_of_program
from ..queries import connection_id, kill, run, settle, value
from .borrowers import in_thread
from .conftest import Pooled

Ends = Callable[[Any], None]

ENDS = pytest.mark.parametrize(
    "end",
    [lambda c: c.close(), lambda c: c.close_if_unusable_or_obsolete()],
    ids=["close()", "end of a request"],
)


def is_free(connection: Any) -> bool:
    """Every slot of the alias is free."""
    statistics = connection.pool_stats()
    return bool(statistics["pool_size"] == statistics["pool_available"])


# ##### Transactions #####


@ENDS
def test_a_committed_block_goes_back(pooled: Pooled, admin: Admin, end: Ends) -> None:
    connection = pooled(max_size=1)
    with transaction.atomic(using=connection.alias):
        insert(connection, "a")
        with transaction.atomic(using=connection.alias):
            insert(connection, "b")
    with transaction.atomic(using=connection.alias, durable=True):
        insert(connection, "c")
        first = connection_id(connection)
    end(connection)
    assert connection_id(connection) == first
    assert owners(admin) == ["a", "b", "c"]


@ENDS
def test_a_rolled_back_block_goes_back(pooled: Pooled, admin: Admin, end: Ends) -> None:
    connection = pooled(max_size=1)
    with pytest.raises(ValueError, match="x"), transaction.atomic(using=connection.alias):
        insert(connection, "a")
        first = connection_id(connection)
        raise ValueError("x")
    end(connection)
    assert connection_id(connection) == first
    assert owners(admin) == []


def closes_inside(connection: Any) -> None:
    with transaction.atomic(using=connection.alias):
        insert(connection, "lost")
        connection.close()


@pytest.mark.parametrize("nested", [False, True])
def test_close_inside_of_a_block_loses_no_slot(
    pooled: Pooled, admin: Admin, make_connection: ConnectionFactory, nested: bool
) -> None:
    stock: Any = make_connection(STOCK)
    connection = pooled(max_size=1, timeout=3)
    for each in (stock, connection):
        for _ in range(3):
            outer = transaction.atomic(using=each.alias) if nested else contextlib.nullcontext()
            with contextlib.suppress(Error, TransactionManagementError), outer:
                closes_inside(each)
        assert owners(admin) == []
        assert value(each, "SELECT 1") == 1
    connection.close()
    assert is_free(connection)
    assert connection.pool_stats()["pool_size"] <= 1


def test_a_statement_after_close_inside_of_a_block_raises_as_on_stock(
    pooled: Pooled, make_connection: ConnectionFactory
) -> None:
    errors = []
    for connection in (make_connection(STOCK), pooled(max_size=1)):
        with (
            pytest.raises((Error, TransactionManagementError)) as caught,
            transaction.atomic(using=connection.alias),
        ):
            insert(connection, "lost")
            connection.close()
            run(connection, "SELECT 1")
        errors.append(type(caught.value))
    assert errors[0] is errors[1]
    assert is_free(connection)


@ENDS
def test_without_autocommit_the_transaction_is_rolled_back_and_the_connection_kept(
    pooled: Pooled, admin: Admin, end: Ends
) -> None:
    connection = pooled(max_size=1, AUTOCOMMIT=False)
    insert(connection, "never committed")
    first = connection_id(connection)
    end(connection)
    assert owners(admin) == []
    assert connection_id(connection) == first
    assert value(connection, "SELECT @@autocommit") == 0
    insert(connection, "committed")
    connection.commit()
    end(connection)
    assert owners(admin) == ["committed"]


@ENDS
def test_a_connection_with_autocommit_switched_off_is_closed(
    pooled: Pooled, admin: Admin, end: Ends
) -> None:
    connection = pooled(max_size=1)
    first = connection_id(connection)
    connection.set_autocommit(False)
    insert(connection, "never committed")
    end(connection)
    assert connection_id(connection) != first
    assert connection.get_autocommit()
    assert value(connection, "SELECT @@autocommit") == 1
    assert owners(admin) == []


def test_hooks_of_one_borrower_do_not_run_for_the_next(pooled: Pooled, hooks: Hooks) -> None:
    connection = pooled(max_size=1)
    with (
        contextlib.suppress(Error, TransactionManagementError),
        transaction.atomic(using=connection.alias),
    ):
        run(connection, "SELECT 1")
        hooks.register(connection, "of the first")
        connection.close()
    with transaction.atomic(using=connection.alias):
        hooks.register(connection, "of the second")
        run(connection, "SELECT 1")
    assert hooks == ["of the second"]

    def other(mine: Any) -> None:
        with transaction.atomic(using=mine.alias):
            run(mine, "SELECT 1")

    in_thread(connection.alias, other, closes=True)
    assert hooks == ["of the second"]


def test_a_hook_may_borrow_and_return(pooled: Pooled) -> None:
    connection = pooled(max_size=1, timeout=3)
    answers: list[int] = []

    def hook() -> None:
        answers.append(value(connection, "SELECT 5"))
        connection.close()
        answers.append(in_thread(connection.alias, lambda c: value(c, "SELECT 6"), closes=True))

    with transaction.atomic(using=connection.alias):
        run(connection, "SELECT 1")
        transaction.on_commit(hook, using=connection.alias)
    assert answers == [5, 6]
    assert value(connection, "SELECT 7") == 7


# ##### What is kept at a boundary #####


def test_a_pinned_connection_is_kept_at_a_boundary(pooled: Pooled) -> None:
    connection = pooled(max_size=1, timeout=0.2)
    with pinned(using=connection.alias):
        first = connection_id(connection)
        connection.close_if_unusable_or_obsolete()
        rest(connection, 5)
        with pytest.raises(OperationalError):
            in_thread(connection.alias, connection_id)
        assert connection_id(connection) == first
    connection.close_if_unusable_or_obsolete()
    assert is_free(connection)
    assert in_thread(connection.alias, connection_id, closes=True) == first


def test_a_named_lock_ends_with_the_request(pooled: Pooled, admin: Admin) -> None:
    connection = pooled(max_size=1)
    assert value(connection, "SELECT GET_LOCK('order', 0)") == 1
    first = connection_id(connection)
    with contextlib.suppress(SessionStateLost):
        connection.close_if_unusable_or_obsolete()
    assert is_free(connection)
    admin.wait_until_closed(first)
    assert admin.value("SELECT IS_FREE_LOCK('order')") == 1


@ENDS
def test_the_default_database_ends_with_the_lease(pooled: Pooled, end: Ends) -> None:
    connection = pooled(max_size=1)
    here = value(connection, "SELECT DATABASE()")
    run(connection, "USE information_schema")
    end(connection)
    assert value(connection, "SELECT DATABASE()") == here
    assert in_thread(connection.alias, lambda c: value(c, "SELECT DATABASE()")) == here


def test_django_keeps_the_connection_of_an_open_block_at_a_boundary(pooled: Pooled) -> None:
    connection = pooled(max_size=1)
    with transaction.atomic(using=connection.alias):
        first = connection_id(connection)
        connection.close_if_unusable_or_obsolete()
        request_finished.send(None)
        assert connection_id(connection) == first


# ##### Aliases, copies, settings #####


def test_each_alias_has_slots_of_its_own(pooled: Pooled) -> None:
    one, other = pooled(max_size=1, timeout=1), pooled(max_size=1, timeout=1)
    with transaction.atomic(using=one.alias), transaction.atomic(using=other.alias):
        assert connection_id(one) != connection_id(other)
    one.close()
    other.close()
    assert one.pool_stats()["pool_size"] == other.pool_stats()["pool_size"] == 1


def test_a_copy_borrows_a_connection_of_its_own(pooled: Pooled) -> None:
    connection = pooled(max_size=2)
    copy = connection.copy()
    with transaction.atomic(using=connection.alias):
        assert connection_id(connection) != connection_id(copy)
    copy.close()
    connection.close()
    assert connection.pool_stats()["pool_size"] == connection.pool_stats()["pool_available"] == 2
    with connection.temporary_connection() as cursor:
        cursor.execute("SELECT 1")
    assert is_free(connection)


def test_a_database_of_another_name_is_another_list_of_the_same_account(
    pooled: Pooled, admin: Admin
) -> None:
    admin.rows("CREATE DATABASE IF NOT EXISTS tenant")
    connection = pooled(max_size=1)
    here, first = value(connection, "SELECT DATABASE()"), connection_id(connection)
    connection.close()
    connection.settings_dict["NAME"] = "tenant"
    assert value(connection, "SELECT DATABASE()") == "tenant"
    assert connection_id(connection) != first
    connection.close()
    assert connection.pool_stats()["pool_size"] == 1
    connection.settings_dict["NAME"] = here
    assert value(connection, "SELECT DATABASE()") == here
    connection.close()
    admin.rows("DROP DATABASE tenant")


def test_a_password_that_changes_with_each_connect_keeps_the_list(pooled: Pooled) -> None:
    connection = pooled(max_size=1)
    first, right = connection_id(connection), connection.settings_dict["PASSWORD"]
    connection.close()
    connection.settings_dict["PASSWORD"] = "a token of another minute"
    assert connection_id(connection) == first
    connection.close()
    connection.close_pool()
    with pytest.raises(OperationalError):
        connection_id(connection)
    assert connection.pool_stats()["pool_size"] == 0
    connection.settings_dict["PASSWORD"] = right
    assert connection_id(connection)


def test_the_connection_without_a_database_is_not_pooled(pooled: Pooled, admin: Admin) -> None:
    connection = pooled(max_size=1)
    with transaction.atomic(using=connection.alias):
        connection_id(connection)
        with connection._nodb_cursor() as cursor:
            cursor.execute("SELECT CONNECTION_ID(), DATABASE()")
            number, database = cursor.fetchone()
        assert database is None
        admin.wait_until_closed(number)


@pytest.mark.parametrize("name", ["instrumented", "proxied", "subclassed", "guarded", "audited"])
def test_composed_backends_borrow_and_return(pooled: Pooled, admin: Admin, name: str) -> None:
    connection = pooled(engine=f"tests.backends.{name}", max_size=1, timeout=3)
    for owner in "abc":
        with transaction.atomic(using=connection.alias):
            insert(connection, owner)
        assert value(connection, "SELECT COUNT(*) FROM testapp_account") == ord(owner) - 96
        connection.close()
        assert is_free(connection)
    assert owners(admin) == ["a", "b", "c"]
    assert in_thread(connection.alias, lambda c: value(c, "SELECT 3"), closes=True) == 3


def test_health_checks_debug_cursors_and_execute_wrappers_work(pooled: Pooled) -> None:
    connection = pooled(max_size=1, CONN_HEALTH_CHECKS=True)
    seen: list[str] = []

    def wrapper(execute: Any, sql: Any, *arguments: Any) -> Any:
        seen.append(sql)
        return execute(sql, *arguments)

    first = connection_id(connection)
    connection.force_debug_cursor = True
    with connection.execute_wrapper(wrapper):
        assert value(connection, "SELECT 4") == 4
        connection.close_if_unusable_or_obsolete()
        assert connection_id(connection) == first
    assert seen == ["SELECT 4", "SELECT CONNECTION_ID()"]
    assert [q["sql"] for q in connection.queries_log] == ["SELECT 4", "SELECT CONNECTION_ID()"]


# ##### Losses #####


@pytest.mark.parametrize("where", ["idle", "out", "in a block"])
def test_a_killed_connection_keeps_its_slot(pooled: Pooled, admin: Admin, where: str) -> None:
    connection = pooled(max_size=1, timeout=3)
    first = connection_id(connection)
    if where == "idle":
        connection.close()
        admin.kill(first)
        settle()
    elif where == "out":
        kill(admin, connection)
    else:
        with pytest.raises(OperationalError), transaction.atomic(using=connection.alias):
            insert(connection, "half")
            admin.kill(first)
            insert(connection, "other half")
        connection.close()
    assert connection_id(connection) != first
    connection.close()
    assert connection.pool_stats()["pool_size"] == 1
    assert is_free(connection)
    assert owners(admin) == []


def test_a_restart_of_the_server_loses_no_slot(pooled: Pooled, server: Server) -> None:
    connection = pooled(max_size=2, timeout=3)
    copy = connection.copy()
    for each in (connection, copy):
        connection_id(each)
    connection.close()
    server.stop()
    with pytest.raises(Error):
        value(connection, "SELECT 1")
    server.start()
    wait_for(lambda: value(connection, "SELECT 1") == 1, "a connection")
    assert value(copy, "SELECT 1") == 1
    connection.close()
    copy.close()
    assert is_free(connection)
    assert connection.pool_stats()["pool_size"] <= 2


def test_max_lifetime_replaces_an_idle_connection(pooled: Pooled) -> None:
    connection = pooled(max_size=1, max_lifetime=60)
    first = connection_id(connection)
    connection.guard.connection.expires_at = 0.0
    connection.guard.connection.opened_at -= 100
    connection.close()
    assert connection_id(connection) != first
    assert connection.pool_stats()["pool_size"] == 1


# ##### Calling in #####


def test_what_a_holder_left_is_not_answered_wrongly_after_calling_in(pooled: Pooled) -> None:
    connection = pooled(max_size=1, timeout=10)
    insert(connection, "a")
    rest(connection, 5)
    in_thread(connection.alias, lambda c: insert(c, "b"), closes=True)
    assert connection.pool_stats()["called_in"] == 1
    with pytest.raises(SessionStateLost, match="LAST_INSERT_ID"):
        value(connection, "SELECT LAST_INSERT_ID()")
    assert value(connection, "SELECT LAST_INSERT_ID()") == 0


@pytest.mark.parametrize(
    "act",
    [
        lambda c: run(c, "SELECT GET_LOCK('a', 0)"),
        lambda c: run(c, "SET @tenant = 'alice'"),
        lambda c: run(c, "BEGIN"),
        lambda c: run(c, "CREATE TEMPORARY TABLE a (c INT)"),
        lambda c: run(c, "USE information_schema"),
        lambda c: run(c, "LOCK TABLES testapp_account READ"),
        lambda c: c.set_autocommit(False),
        lambda c: c.connection.query("SET @tenant = 'alice'"),
        lambda c: c.inc_thread_sharing(),
    ],
)
def test_a_holder_with_something_to_lose_is_not_called_in(
    pooled: Pooled, act: Callable[[Any], object]
) -> None:
    connection = pooled(max_size=1, timeout=0.4)
    first = connection_id(connection)
    act(connection)
    rest(connection, 5)
    with pytest.raises(OperationalError):
        in_thread(connection.alias, connection_id)
    assert connection.pool_stats()["called_in"] == 0
    assert connection_id(connection) == first
    if connection._thread_sharing_count:
        connection.dec_thread_sharing()


# ##### Processes #####


@pytest.mark.parametrize("forks", [fork, fork_without_hooks], ids=["os.fork", "without hooks"])
def test_a_child_touches_none_of_its_parents_connections(
    pooled: Pooled, admin: Admin, forks: Callable[[], int]
) -> None:
    connection = pooled(max_size=3)
    copy = connection.copy()
    idle = connection.copy()
    connection_id(idle)
    number, other = connection_id(connection), connection_id(copy)
    held = connection_id(idle)
    idle.close()

    def child() -> Any:
        mine = connection_id(connection)
        insert(connection, "child")
        connection.close()
        copy.close()
        again = connection_id(connection)
        statistics = connection.pool_stats()
        connection.close_pool()
        connections.close_all()
        return mine, again, statistics

    mine, again, statistics = in_child(child, forks)
    assert mine == again not in (number, other, held)
    assert statistics["pool_size"] == 1
    assert {number, other, held} <= admin.connection_ids()
    assert connection_id(connection) == number
    assert connection_id(copy) == other
    assert connection_id(idle) == held
    for each in (connection, copy, idle):
        each.close()
    assert connection.pool_stats()["pool_size"] == connection.pool_stats()["pool_available"] == 3


def test_a_child_leaves_a_connection_alone_that_was_just_being_borrowed(
    pooled: Pooled, admin: Admin
) -> None:
    connection = pooled(max_size=1)
    number = connection_id(connection)
    key = connection.guard.lease.key
    account = connection.guard.lease.account
    connection.close()
    leases = [Lease(account, key, sys._getframe())]
    account.borrow(leases[0])

    def child() -> None:
        leases.clear()  # as the frames of the other threads of the parent are
        account.leases.clear()
        gc.collect()

    in_child(child)
    assert leases[0].connection.ask(b"SELECT CONNECTION_ID()")[0][0] in (number, str(number))
    assert number in admin.connection_ids()
    account.give_back(leases[0], leases[0].connection)


def test_a_child_of_a_busy_pool_ends_without_harm(pooled: Pooled, admin: Admin) -> None:
    connection = pooled(max_size=2, timeout=20)
    stop = threading.Event()
    wrong: list[Any] = []

    def work() -> None:
        mine = connections[connection.alias]
        while not stop.is_set():
            try:
                with transaction.atomic(using=mine.alias):
                    if value(mine, "SELECT 7") != 7:
                        wrong.append("answer")
            except BaseException as error:
                wrong.append(error)
            mine.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(15):
            context = multiprocessing.get_context("fork")
            process = context.Process(target=connection_id, args=[connection])
            process.start()
            process.join(20)
            assert process.exitcode == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert wrong == []
    assert is_free(connection)


def test_at_exit_idle_connections_are_closed_politely(
    pooled: Pooled, admin: Admin, driver: str
) -> None:
    connection = pooled(max_size=2)
    asked = "SHOW GLOBAL STATUS LIKE 'Aborted_clients'"
    before = admin.rows(asked)[0][1]
    code = """
other = connection.copy()
with other.cursor() as cursor:
    cursor.execute("SELECT CONNECTION_ID()")
    number = cursor.fetchone()[0]
other.close()
connection.close()
print(before, number)
"""
    numbers = output_of_program(connection, driver, code).split()
    assert len(numbers) == 2, numbers
    for number in numbers:
        admin.wait_until_closed(int(number))
    assert admin.rows(asked)[0][1] == before


def test_close_pool_closes_idle_connections_now_and_the_others_when_they_return(
    pooled: Pooled, admin: Admin
) -> None:
    connection = pooled(max_size=2)
    copy = connection.copy()
    idle, out = connection_id(copy), connection_id(connection)
    copy.close()
    connection.close_pool()
    admin.wait_until_closed(idle)
    assert connection_id(connection) == out
    connection.close()
    admin.wait_until_closed(out)
    assert connection.pool_stats()["pool_size"] == 0


# ##### Django's tools #####


def test_test_databases_are_made_cloned_and_destroyed_without_idle_connections(
    pooled: Pooled, admin: Admin
) -> None:
    connection = pooled(max_size=2)
    here = connection.settings_dict["NAME"]
    connection.settings_dict["TEST"]["NAME"] = "pool_test"
    idle = connection_id(connection)
    creation = connection.creation
    name = creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        assert name == "pool_test"
        admin.wait_until_closed(idle)
        in_test = connection_id(connection)
        connection.close()
        creation.clone_test_db("1", verbosity=0, autoclobber=True)
        admin.wait_until_closed(in_test)
        creation.destroy_test_db(suffix="1", verbosity=0)
        last = connection_id(connection)
    finally:
        creation.destroy_test_db(here, verbosity=0)
    admin.wait_until_closed(last)
    connection.settings_dict["NAME"] = here
    assert value(connection, "SELECT DATABASE()") == here


@pytest.fixture
def project(pooled: Pooled, tmp_path: Path, driver: str) -> tuple[Path, dict[str, str]]:
    """A project with a pool and tests of each kind."""
    connection = pooled(max_size=2, timeout=5)
    database = {k: v for k, v in connection.settings_dict.items() if k != "TEST"}
    database["TEST"] = {"NAME": f"project_{os.getpid()}"}
    (tmp_path / "settings.py").write_text(
        f"DATABASES = {{'default': {database!r}}}\n"
        "INSTALLED_APPS = ['tests.testapp']\nROOT_URLCONF = 'tests_of_project'\n"
        "DEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'\nSECRET_KEY = 'x'\n"
        "ALLOWED_HOSTS = ['*']\nSTATIC_URL = 'static/'\n"
    )
    (tmp_path / "tests_of_project.py").write_text(
        Path(__file__).with_name("project_tests.txt").read_text()
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    return tmp_path, {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONPATH": path,
        "DJANGO_MYSQL_RECYCLE_DRIVER": driver,
    }


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "django", "test", "tests_of_project"],
        ["-m", "django", "test", "tests_of_project", "--parallel=2", "--keepdb"],
        ["-m", "pytest", "-q", "tests_of_project.py", "-p", "no:randomly"],
    ],
    ids=["runner", "parallel", "pytest-django"],
)
def test_test_cases_of_each_kind_pass(
    project: tuple[Path, dict[str, str]], command: list[str], admin: Admin
) -> None:
    folder, environment = project
    ran = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for (name,) in admin.rows("SHOW DATABASES LIKE 'project\\_%%'"):
        admin.rows(f"DROP DATABASE {name}")
