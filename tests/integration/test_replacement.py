"""A replacement goes through Django's `connect()`, and the application sees nothing else of it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.db import Error, OperationalError, close_old_connections, transaction
from django.db.backends.signals import connection_created
from django.test.utils import CaptureQueriesContext

from django_mysql_recycle import counters, pinned
from django_mysql_recycle.signals import connection_recycled

from ..testapp.models import Account, Item
from .acts import Hooks, insert, owners, receiving, rest, wait_for, wait_until_hung_up
from .admin import Admin
from .connections import OURS, STOCK, Connection, ConnectionFactory, Proxied
from .queries import connection_id, kill, run, settle, value


@contextmanager
def received(connection: Connection, act: Callable[[Connection], None]) -> Iterator[list[int]]:
    """Have `connection_created` of this connection call `act`; the server's ids of all it was called for."""
    ids: list[int] = []

    def receive(connection: Connection, **kwargs: Any) -> None:
        if connection.alias == alias:
            ids.append(connection.connection.thread_id())
            act(connection)

    alias = connection.alias
    with receiving(connection_created, receive):
        yield ids


def isolation_level(connection: Connection, vendor: str) -> str:
    variable = "tx_isolation" if vendor == "mariadb" else "transaction_isolation"
    return str(value(connection, f"SELECT @@SESSION.{variable}"))


@pytest.mark.core
@pytest.mark.parametrize("level", [None, "serializable", "repeatable read"])
def test_isolation_level_is_that_of_the_first_connection(
    make_connection: ConnectionFactory, admin: Admin, vendor: str, level: str | None
) -> None:
    options = {} if level is None else {"isolation_level": level}
    connection = make_connection(options=options)
    first = isolation_level(connection, vendor)
    assert first == (level or "read committed").replace(" ", "-").upper()
    kill(admin, connection)
    assert isolation_level(connection, vendor) == first


@pytest.mark.core
def test_init_command_has_run(make_connection: ConnectionFactory, admin: Admin) -> None:
    connection = make_connection(
        options={"init_command": "SET SESSION group_concat_max_len = 4321, time_zone = '+05:00'"}
    )
    ask = "SELECT @@SESSION.group_concat_max_len, @@SESSION.time_zone"
    assert run(connection, ask) == [(4321, "+05:00")]
    kill(admin, connection)
    assert run(connection, ask) == [(4321, "+05:00")]


def test_sql_mode_and_auto_is_null_are_those_of_the_first_connection(
    connection: Connection, admin: Admin
) -> None:
    ask = "SELECT @@SESSION.sql_mode, @@SESSION.sql_auto_is_null, @@SESSION.character_set_client"
    first = run(connection, ask)
    kill(admin, connection)
    assert run(connection, ask) == first


def test_time_zone_of_the_alias_applies(make_connection: ConnectionFactory, admin: Admin) -> None:
    connection = make_connection(TIME_ZONE="Asia/Tokyo")
    moment = datetime(2024, 5, 6, 12, tzinfo=timezone.utc)
    item = Item.objects.using(connection.alias).create(name="stored before")
    Item.objects.using(connection.alias).update(created=moment)
    kill(admin, connection)
    assert Item.objects.using(connection.alias).get().created == moment
    stored = admin.value("SELECT created FROM testapp_item WHERE id = %s", item.pk)
    assert stored == datetime(2024, 5, 6, 21)  # noqa: DTZ001 - as Tokyo's clocks show it
    item.created = moment + timedelta(hours=1)
    item.save(using=connection.alias)
    assert admin.value("SELECT HOUR(created) FROM testapp_item") == 22


@pytest.mark.core
def test_receivers_of_connection_created_are_called_for_each_connection(
    connection: Connection, admin: Admin
) -> None:
    def set_up(connection: Connection) -> None:
        run(connection, "SET SESSION group_concat_max_len = 1234")
        with transaction.atomic(using=connection.alias):
            Account.objects.using(connection.alias).get_or_create(owner="by the receiver")

    with received(connection, set_up) as ids:
        first = connection_id(connection)
        kill(admin, connection)
        assert value(connection, "SELECT @@SESSION.group_concat_max_len") == 1234
        assert ids == [first, connection_id(connection)]
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == 1


def by_statement(connection: Connection) -> None:
    insert(connection, "statement")


def by_atomic(connection: Connection) -> None:
    with transaction.atomic(using=connection.alias):
        insert(connection, "block")


@pytest.mark.parametrize("act", [by_statement, by_atomic])
def test_receiver_that_closes_the_new_connection_is_an_error_of_the_database(
    connection: Connection, admin: Admin, act: Callable[[Connection], None]
) -> None:
    kill(admin, connection)
    with (
        received(connection, lambda connection: connection.close()),
        pytest.raises(OperationalError, match="receiver of connection_created"),
    ):
        act(connection)
    assert owners(admin) == []
    act(connection)
    assert len(owners(admin)) == 1


def test_what_receivers_run_neither_recycles_nor_reads_the_limit(
    make_connection: ConnectionFactory, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    connection = make_connection(recycle={"idle_limit": 0.05, "ping_after": 0.05})

    def rest_between_statements(connection: Connection) -> None:
        for _ in range(2):
            run(connection, "DO 1")
            time.sleep(0.1)

    with received(connection, rest_between_statements) as ids:
        kill(admin, connection)
        assert len(ids) == 1
        run(connection, "DO 1")
        assert len(ids) == 2
    assert [reported["reason"] for reported in recycles] == ["closed"]


def test_receiver_whose_connection_is_lost_is_a_connect_error_and_no_recursion(
    connection: Connection, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    run(connection, "DO 1")
    kill(admin, connection)

    def lose_it(connection: Connection) -> None:
        admin.kill(connection.connection.thread_id())
        settle()
        run(connection, "DO 1")

    with received(connection, lose_it) as ids:
        for attempt in (1, 2):
            with pytest.raises(Error):
                run(connection, "DO 1")
            assert len(ids) == attempt
    assert value(connection, "SELECT 1") == 1


def test_error_of_a_receiver_is_raised_and_the_next_statement_tries_again(
    connection: Connection, admin: Admin
) -> None:
    run(connection, "DO 1")
    kill(admin, connection)

    def refuse(connection: Connection) -> None:
        raise LookupError("the application's own")

    with received(connection, refuse):
        for _ in range(2):
            with pytest.raises(LookupError, match="the application's own"):
                run(connection, "DO 1")
    alone = {connection_id(connection)}
    wait_for(lambda: admin.connection_ids() == alone, "the end of the connections left behind")


@pytest.mark.core
@pytest.mark.parametrize("entering_atomic", [False, True], ids=["statement", "atomic"])
def test_log_of_queries_shows_what_the_application_ran(
    connection: Connection, admin: Admin, entering_atomic: bool
) -> None:
    def whatever(connection: Connection) -> None:
        run(connection, "DO 'by the receiver'")

    def work() -> list[str]:
        with CaptureQueriesContext(connection) as captured:
            if entering_atomic:
                with transaction.atomic(using=connection.alias):
                    run(connection, "SELECT 'mine'")
            else:
                run(connection, "SELECT 'mine'")
        return [query["sql"] for query in captured]

    run(connection, "DO 1")
    time.sleep(0.6)  # wait_timeout is to be read, too
    healthy = work()
    with received(connection, whatever) as ids:
        kill(admin, connection)
        assert work() == healthy
        assert len(ids) == 1
    expected = ["BEGIN", "SELECT 'mine'", "COMMIT"] if entering_atomic else ["SELECT 'mine'"]
    assert healthy == expected


def test_first_connect_is_logged_as_on_the_stock_backend(
    make_connection: ConnectionFactory,
) -> None:
    logs = []
    for engine in ("django_mysql_recycle", "django.db.backends.mysql"):
        connection = make_connection(engine, options={"isolation_level": "serializable"})
        connection.force_debug_cursor = True
        run(connection, "SELECT 'mine'")
        logs.append([query["sql"] for query in connection.queries])
    assert logs[0] == logs[1]


@pytest.mark.core
def test_execute_wrappers_see_what_the_application_ran(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(recycle={"ping_after": 0.1})
    seen: list[str] = []

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        assert context["connection"] is connection
        seen.append(sql)
        return execute(sql, params, many, context)

    run(connection, "DO 1")
    with connection.execute_wrapper(wrapper):
        kill(admin, connection)
        seen.clear()
        run(connection, "SELECT 'first'")
        time.sleep(0.2)
        run(connection, "SELECT 'after a ping'")
        time.sleep(0.6)
        with transaction.atomic(using=connection.alias):
            run(connection, "SELECT 'after a read of the limit'")
    assert [sql for sql in seen if not sql.startswith(("BEGIN", "COMMIT"))] == [
        "SELECT 'first'",
        "SELECT 'after a ping'",
        "SELECT 'after a read of the limit'",
    ]


def test_wrapper_that_forbids_statements_forbids_only_the_applications(
    connection: Connection, admin: Admin
) -> None:
    def block(*args: Any) -> None:
        raise PermissionError

    run(connection, "DO 1")
    kill(admin, connection)
    with connection.execute_wrapper(block), pytest.raises(PermissionError):
        run(connection, "DO 1")
    assert value(connection, "SELECT 1") == 1


@pytest.fixture
def closed_address() -> Iterator[tuple[str, int]]:
    """An address at which no server listens."""
    with socket.socket() as unlistening:
        unlistening.bind(("127.0.0.1", 0))
        host, port = unlistening.getsockname()
        yield host, port


@pytest.mark.core
def test_failing_connect_is_a_connect_error_and_the_next_statement_tries_again(
    proxied: Proxied, closed_address: tuple[str, int], admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    connection, between = proxied(recycle={"connect_retries": 0})
    home = between.target
    run(connection, "DO 1")
    between.retarget(*closed_address)
    between.cut()
    settle()
    for _ in range(2):
        with pytest.raises(OperationalError):
            Account.objects.using(connection.alias).create(owner="too early")
        assert connection.connection is None
    with pytest.raises(OperationalError), transaction.atomic(using=connection.alias):
        pytest.fail("there is no connection to begin with")
    between.retarget(*home)
    Account.objects.using(connection.alias).create(owner="in time")
    assert connection.autocommit and not connection.in_atomic_block
    assert admin.rows("SELECT owner FROM testapp_account") == [("in time",)]


def test_connect_is_tried_again_while_the_server_says_not_now(proxied: Proxied) -> None:
    connection, between = proxied()
    run(connection, "DO 1")
    between.cut()
    settle()
    between.cut_next_request()  # in the middle of the handshake
    assert value(connection, "SELECT 1") == 1
    assert len(between.connections) == 3


@pytest.mark.parametrize("first", ["commit()", "pinned()", "statement", "atomic"])
def test_connection_that_the_application_closed_past_django_costs_no_error_but_a_databases_own(
    make_connection: ConnectionFactory, admin: Admin, first: str
) -> None:
    connection = make_connection(CONN_MAX_AGE=None)
    connection.ensure_connection()
    connection.connection.close()
    rest(connection)
    with suppress(Error) if first == "commit()" else nullcontext():
        if first == "commit()":
            connection.commit()
        elif first == "atomic":
            with transaction.atomic(using=connection.alias):
                insert(connection, "first")
        else:
            with pinned(connection) if first == "pinned()" else nullcontext():
                insert(connection, "first")
    insert(connection, "second")
    assert owners(admin) == (["second"] if first == "commit()" else ["first", "second"])


@pytest.mark.core
def test_manual_autocommit_mode_survives(
    connection: Connection, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    run(connection, "DO 1")
    connection.set_autocommit(False)
    admin.kill(connection.connection.thread_id())
    settle()
    Account.objects.using(connection.alias).create(owner="not to stay")
    assert len(recycles) == 1
    assert not connection.autocommit
    connection.rollback()
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == 0
    connection.set_autocommit(True)
    Account.objects.using(connection.alias).create(owner="to stay")
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == 1


@pytest.mark.core
def test_manual_autocommit_mode_of_a_failed_replacement_ends_with_the_unit_of_work(
    make_connection: ConnectionFactory, admin: Admin, engine: str
) -> None:
    connection = make_connection(engine, CONN_MAX_AGE=60)
    connection.set_autocommit(False)
    admin.kill(connection.connection.thread_id())
    settle()

    def refuse(connection: Connection) -> None:
        raise OperationalError(2003, "no new connection")

    with received(connection, refuse), pytest.raises(OperationalError):
        insert(connection, "refused")
    close_old_connections()
    insert(connection, "next")
    assert owners(admin) == ["next"]
    assert connection.get_autocommit()


def test_hooks_of_a_committed_transaction_survive_and_run_once(
    connection: Connection, admin: Admin, recycles: list[dict[str, Any]], hooks: Hooks
) -> None:
    connection.set_autocommit(False)
    with transaction.atomic(using=connection.alias):
        Account.objects.using(connection.alias).create(owner="committed")
        hooks.register(connection, 1)
    connection.commit()
    admin.kill(connection.connection.thread_id())
    settle()
    run(connection, "SELECT 1")
    assert len(recycles) == 1 and hooks == []
    connection.commit()
    connection.set_autocommit(True)
    assert hooks == [1]
    with transaction.atomic(using=connection.alias):
        run(connection, "SELECT 1")
    assert hooks == [1]


def test_hooks_of_a_block_that_was_entered_on_a_new_connection_run_once(
    connection: Connection, admin: Admin, recycles: list[dict[str, Any]], hooks: Hooks
) -> None:
    kill(admin, connection)
    with transaction.atomic(using=connection.alias):
        hooks.register(connection, 1)
        Account.objects.using(connection.alias).create(owner="committed")
    assert hooks == [1]
    assert [reported["reason"] for reported in recycles] == ["closed"]


def test_connection_that_was_replaced_is_closed_at_once_whoever_holds_a_cursor_of_it(
    connection: Connection, admin: Admin
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        (first,) = cursor.fetchone()
        connection.guard.connection.mark_wrong_node()  # type: ignore[attr-defined]
        held = connection.connection
        run(connection, "SELECT 1")
        assert connection.connection is not held
        admin.wait_until_closed(first)


def test_each_replacement_is_reported_by_a_log_record_and_a_signal_and_counted(
    connection: Connection,
    admin: Admin,
    recycles: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    kill(admin, connection)
    with caplog.at_level("INFO", "django_mysql_recycle"):
        run(connection, "SELECT 'secret words'")
    assert [(record.levelname, record.name) for record in caplog.records] == [
        ("INFO", "django_mysql_recycle")
    ]
    text = caplog.records[0].getMessage()
    assert connection.alias in text and "closed" in text and "secret" not in text
    (reported,) = recycles
    assert reported["alias"] == connection.alias and reported["connection"] is connection
    assert reported["sender"] is type(connection)
    assert 0 <= reported["idle"] <= reported["age"] < 10
    assert counters()[connection.alias]["recycled"] == {"closed": 1}


def test_receiver_that_takes_its_time_in_which_the_new_connection_is_lost_costs_no_statement(
    connection: Connection, admin: Admin
) -> None:
    run(connection, "SELECT 1")
    called: list[str] = []

    def receive(*, reason: str, **facts: Any) -> None:
        called.append(reason)
        kill_and_rest()

    def kill_and_rest() -> None:
        admin.kill(connection.connection.thread_id())
        wait_until_hung_up(connection)
        rest(connection)

    kill_and_rest()
    with receiving(connection_recycled, receive):
        insert(connection, "once")
    assert called == ["closed", "closed"]  # no receiver is called for the third connection
    assert owners(admin) == ["once"]


def test_receiver_of_our_signal_that_raises_breaks_nothing(
    connection: Connection, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    def receive(**facts: Any) -> None:
        raise LookupError

    with receiving(connection_recycled, receive):
        kill(admin, connection)
        assert value(connection, "SELECT 1") == 1
    assert any(record.levelname == "ERROR" for record in caplog.records)


@pytest.mark.core
@pytest.mark.parametrize("reported", ["nothing", "init_connect", "init_command"])
def test_autocommit_is_on_whatever_the_server_or_init_command_sets_it_to(
    make_connection: ConnectionFactory, admin: Admin, engine: str, reported: str
) -> None:
    """The drivers are spared two round trips by being asked to switch it on."""
    for host in ("localhost", "127.0.0.1"):  # init_connect is not for administrators
        admin.rows(f"CREATE USER IF NOT EXISTS modest@'{host}' IDENTIFIED BY 'modest'")
        admin.rows(f"GRANT SELECT, INSERT ON *.* TO modest@'{host}'")
    if reported == "init_connect":
        admin.set_global("init_connect", "SET autocommit = 0")
    options: dict[str, Any] = {"isolation_level": None}
    if reported == "init_command":
        options["init_command"] = "SET autocommit = 0"
    connection = make_connection(
        engine, transport="tls", options=options, USER="modest", PASSWORD="modest"
    )
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO testapp_account (owner, balance) VALUES ('seen', 1)")
        cursor.execute("SELECT @@SESSION.autocommit")
        assert cursor.fetchall() == ((1,),)
    assert admin.value("SELECT COUNT(*) FROM testapp_account WHERE owner = 'seen'") == 1
    assert connection.connection.get_autocommit()


@pytest.mark.core
def test_connecting_sends_no_statement_about_autocommit_where_it_is_on(
    make_connection: ConnectionFactory,
) -> None:
    sent = {}
    for engine in (OURS, STOCK):
        with make_connection(engine).cursor() as cursor:
            cursor.execute("SHOW SESSION STATUS LIKE 'Com_set_option'")
            sent[engine] = int(cursor.fetchall()[0][1])
    assert sent[OURS] == 2  # SET NAMES and the isolation level
    assert sent[STOCK] == 4


@pytest.mark.core
def test_transaction_that_init_command_begins_holds_no_writes_back(
    make_connection: ConnectionFactory, admin: Admin, engine: str
) -> None:
    connection = make_connection(engine, options={"init_command": "START TRANSACTION"})
    insert(connection, "written")
    assert owners(admin) == ["written"]


@pytest.mark.core
def test_autocommit_stays_off_where_the_settings_say_so(make_connection: ConnectionFactory) -> None:
    connection = make_connection(AUTOCOMMIT=False)
    assert value(connection, "SELECT @@SESSION.autocommit") == 0
    assert not connection.connection.get_autocommit()


@pytest.mark.core
@pytest.mark.parametrize("given", [None, True, False])
def test_what_options_say_of_autocommit_is_overruled_by_the_settings(
    make_connection: ConnectionFactory, admin: Admin, engine: str, given: bool | None
) -> None:
    connection = make_connection(engine, AUTOCOMMIT=False, options={"autocommit": given})
    insert(connection, "given up")
    connection.rollback()
    assert owners(admin) == []


@pytest.mark.core
def test_connection_opened_by_hand_is_that_of_the_stock_backend(
    make_connection: ConnectionFactory, engine: str
) -> None:
    connection = make_connection(engine)
    raw = connection.get_new_connection(connection.get_connection_params())
    try:
        assert not raw.get_autocommit()
    finally:
        raw.close()
