"""What provably never ran is run once more; what may have run never is.

The liveness check and the ping are switched off where the point is what happens after them: a
connection that is lost between the look at the socket and the write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.db.utils import DatabaseError, Error, InterfaceError, OperationalError

from django_mysql_recycle import SessionStateLost
from servers import FaultProxy

from ..testapp.models import Account
from .acts import (
    assert_works,
    balances,
    code_of,
    insert,
    kill,
    listening,
    owners,
    rest,
    session_id,
    soon,
    wait_until_hung_up,
)
from .admin import Admin
from .connections import STOCK, Connection, ConnectionFactory, Proxied
from .queries import run

#: The race between the look at the socket and the write, in slow motion.
BLIND: dict[str, Any] = {"liveness_check": False, "ping_after": None}

MULTI_STATEMENTS = 1 << 16
FOUND_ROWS = 2


def rested(connection: Connection) -> Connection:
    """Connect, and have the wait_timeout read: it is the backend's own first look at a rest."""
    run(connection, "SELECT 1")
    rest(connection)
    run(connection, "SELECT 1")
    return connection


def lose_before_the_write(connection: Connection, admin: Admin) -> None:
    """Over a unix socket the write itself fails after a KILL: 2006."""
    kill(admin, connection)
    rest(connection)


@pytest.fixture
def racing(make_connection: ConnectionFactory) -> Connection:
    return rested(make_connection(transport="socket", recycle=BLIND))


FIRST_STATEMENTS: dict[str, Callable[[Connection], Any]] = {
    "select": lambda connection: run(connection, "SELECT 1"),
    "insert": lambda connection: insert(connection, "new"),
    "update": lambda connection: run(
        connection, "UPDATE testapp_account SET balance = balance + 1"
    ),
    "delete": lambda connection: run(connection, "DELETE FROM testapp_account"),
    "orm create": lambda connection: Account.objects.using(connection.alias).create(owner="new"),
    "orm get_or_create": lambda connection: Account.objects.using(connection.alias).get_or_create(
        owner="new"
    ),
    "server-side cursor": lambda connection: list(
        Account.objects.using(connection.alias).iterator(chunk_size=1)
    ),
    "bytes": lambda connection: run(connection, b"SELECT 1"),
}


@pytest.mark.core
@pytest.mark.parametrize("first", FIRST_STATEMENTS)
def test_statement_that_never_ran_is_run_once_more(
    racing: Connection, admin: Admin, first: str
) -> None:
    insert(racing, "old", 5)
    before = session_id(racing)
    lose_before_the_write(racing, admin)
    with listening(racing) as received:
        FIRST_STATEMENTS[first](racing)
    assert (received.repeated, received.recycled) == (["lost"], ["lost"])
    assert session_id(racing) != before
    assert balances(admin) == {
        "insert": {"new": 0, "old": 5},
        "orm create": {"new": 0, "old": 5},
        "orm get_or_create": {"new": 0, "old": 5},
        "update": {"old": 6},
        "delete": {},
    }.get(first, {"old": 5})


def test_control_stock_backend_raises_where_the_statement_never_ran(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(STOCK, transport="socket")
    run(connection, "SELECT 1")
    kill(admin, connection)
    for _ in range(2):
        with pytest.raises((OperationalError, InterfaceError)):
            insert(connection, "new")
    assert owners(admin) == []


def test_repeated_statement_had_not_reached_the_server(proxied: Proxied, admin: Admin) -> None:
    connection, between = proxied(recycle=BLIND)
    rested(connection)
    first = between.connections[0]
    sent = first.bytes_sent
    # A reset, and not an orderly end: the write fails instead of the read.
    between.cut("rst")
    wait_until_hung_up(connection)
    rest(connection)
    with listening(connection) as received:
        insert(connection, "new")
    assert received.repeated == ["lost"]
    assert first.bytes_sent == sent
    second = between.connections[1]
    assert [sql for sql in second.queries() if "INSERT" in sql] == [
        "INSERT INTO testapp_account (owner, balance) VALUES ('new', 0)"
    ]
    assert owners(admin) == ["new"]


def test_idle_limit_that_could_not_be_seen_is_an_error_or_repeated_and_never_a_second_row(
    make_connection: ConnectionFactory, admin: Admin, driver: str, vendor: str
) -> None:
    # A procedure shortens wait_timeout, which its text does not show. MySQL says 4031, MariaDB
    # resets: both mean that the statement never ran. PyMySQL makes a 2013 of the former, which
    # proves nothing.
    admin.create_procedure("shorten() SET SESSION wait_timeout = 1")
    connection = rested(make_connection(recycle=BLIND))
    run(connection, "CALL shorten()")
    wait_until_hung_up(connection)
    if (driver, vendor) == ("pymysql", "mysql"):
        with pytest.raises(OperationalError) as caught:
            insert(connection, "new")
        assert code_of(caught.value) == 2013
        assert owners(admin) == []
        insert(connection, "new")
    else:
        with listening(connection) as received:
            insert(connection, "new")
        assert received.repeated == ["lost"]
    assert owners(admin) == ["new"]


def test_statement_is_repeated_once_and_not_more(proxied: Proxied, admin: Admin) -> None:
    connection, between = proxied(recycle=BLIND)
    rested(connection)
    between.cut("rst")
    wait_until_hung_up(connection)
    rest(connection)
    fault = between.cut_at(b"INSERT", how="rst")
    with pytest.raises(OperationalError):
        insert(connection, "new")
    assert fault.fired
    assert len(between.connections) == 2
    assert owners(admin) == []
    insert(connection, "new")
    assert owners(admin) == ["new"]


def test_statement_longer_than_the_server_takes_is_no_lost_connection_to_repeat_for(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    admin.set_global("max_allowed_packet", 1 << 20)
    connection = rested(make_connection(transport="socket"))
    with listening(connection) as received, pytest.raises(OperationalError):
        run(connection, "SELECT %s", "x" * (3 << 20))
    assert received.repeated == []
    assert_works(connection, admin)


# What may have run.


@pytest.mark.core
@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("recycle", [{}, BLIND], ids=["checked", "blind"])
def test_statement_whose_answer_was_lost_raises_and_ran_once(
    proxied: Proxied, admin: Admin, how: Any, recycle: dict[str, Any]
) -> None:
    connection, between = proxied(recycle=recycle)
    rested(connection)
    rest(connection)
    fault = between.cut_at(b"INSERT", when="after", how=how)
    with listening(connection) as received, pytest.raises(OperationalError) as caught:
        insert(connection, "new")
    assert not isinstance(caught.value, SessionStateLost)
    fault.wait()
    assert received.repeated == []
    assert owners(admin) == ["new"]
    assert_works(connection, admin)
    assert len(between.connections) == 2


@pytest.mark.parametrize("first", ["select", "update", "orm create", "bytes"])
def test_no_kind_of_statement_is_repeated_once_the_server_may_have_it(
    proxied: Proxied, admin: Admin, first: str
) -> None:
    connection, between = proxied(recycle=BLIND)
    rested(connection)
    insert(connection, "old", 5)
    rest(connection)
    between.swallow_next_reply()
    with pytest.raises(OperationalError):
        FIRST_STATEMENTS[first](connection)
    assert len(between.connections) == 1
    assert balances(admin) == {"update": {"old": 6}, "orm create": {"new": 0, "old": 5}}.get(
        first, {"old": 5}
    )


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_statement_cut_off_on_its_way_runs_at_most_once(
    proxied: Proxied, admin: Admin, how: Any
) -> None:
    connection, between = proxied()
    rested(connection)
    rest(connection)
    between.cut_at(b"INSERT", how=how)
    with pytest.raises(OperationalError):
        insert(connection, "new")  # 2013: the driver cannot know how far it got
    assert owners(admin) == []
    insert(connection, "new")
    assert owners(admin) == ["new"]


@pytest.mark.parametrize("recycle", [{}, BLIND], ids=["checked", "blind"])
def test_statement_killed_while_it_runs_is_not_repeated(
    make_connection: ConnectionFactory, admin: Admin, recycle: dict[str, Any]
) -> None:
    connection = rested(make_connection(recycle=recycle))
    rest(connection)
    busy = session_id(connection)
    with listening(connection) as received, soon(0.3, lambda: admin.kill(busy)):
        with pytest.raises(OperationalError):
            run(
                connection,
                "INSERT INTO testapp_account (owner, balance) SELECT 'new', SLEEP(5)",
            )
    assert received.repeated == []
    assert len(owners(admin)) <= 1  # MySQL commits the row (SLEEP() returns 1), MariaDB does not
    assert_works(connection, admin)


# What is more than one statement.


def numbered(count: int, pause_at: int, pause: Callable[[], None]) -> Iterator[tuple[str, int]]:
    for number in range(count):
        if number == pause_at:
            pause()
        yield f"{number:08d}{'x' * 40}", number


def enough_for_several_statements(driver: str) -> int:
    """Rows of about 60 bytes: mysqlclient sends 64 KB at a time, PyMySQL 1 MB."""
    return 4000 if driver == "mysqlclient" else 40000


BULK = "INSERT INTO testapp_account (owner, balance) VALUES (%s, %s)"


@pytest.mark.parametrize("loss", ["idle", "kill"])
@pytest.mark.parametrize("inside", ["plain", "atomic"])
def test_executemany_that_loses_its_connection_between_two_statements_raises(
    make_connection: ConnectionFactory, admin: Admin, driver: str, loss: str, inside: str
) -> None:
    connection = make_connection(
        transport="socket", options={"init_command": "SET SESSION wait_timeout = 1"}
    )
    count = enough_for_several_statements(driver)

    def pause() -> None:
        if loss == "kill":
            admin.kill(session_id(connection))
            rest(connection)
        wait_until_hung_up(connection)

    rows = numbered(count, count * 3 // 4, pause)
    run(connection, "SELECT 1")
    with pytest.raises(OperationalError), connection.cursor() as cursor:
        if inside == "atomic":
            with transaction.atomic(using=connection.alias):
                cursor.executemany(BULK, rows)
        else:
            cursor.executemany(BULK, rows)
    there = owners(admin)
    if inside == "atomic":
        assert there == []
    else:
        # What was acknowledged before is there, from the first row on, each once.
        assert 0 < len(there) < count
        assert [int(owner[:8]) for owner in there] == list(range(len(there)))
    assert_works(connection, admin)


def test_executemany_one_by_one_that_loses_its_connection_raises(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(transport="socket")
    for owner in "abc":
        insert(connection, owner)

    def changes() -> Iterator[tuple[int, str]]:
        yield 1, "a"
        yield 1, "b"
        kill(admin, connection)
        rest(connection)
        yield 1, "c"

    with pytest.raises((OperationalError, InterfaceError)), connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE testapp_account SET balance = balance + %s WHERE owner = %s", changes()
        )
    assert balances(admin) == {"a": 1, "b": 1, "c": 0}
    assert_works(connection, admin)


def test_executemany_on_a_connection_that_was_lost_before_sends_every_row(
    make_connection: ConnectionFactory, admin: Admin, driver: str
) -> None:
    connection = rested(make_connection())
    kill(admin, connection)
    count = enough_for_several_statements(driver)
    with connection.cursor() as cursor:
        cursor.executemany(BULK, numbered(count, 0, lambda: None))
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == count


def test_executemany_is_not_repeated_even_if_its_first_statement_never_ran(
    racing: Connection, admin: Admin
) -> None:
    lose_before_the_write(racing, admin)
    with pytest.raises(OperationalError), racing.cursor() as cursor:
        cursor.executemany(BULK, iter([("a", 1), ("b", 2)]))
    assert owners(admin) == []
    assert_works(racing, admin)


def test_text_with_several_statements_is_not_repeated(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = rested(
        make_connection(
            transport="socket",
            recycle=BLIND,
            options={"client_flag": MULTI_STATEMENTS | FOUND_ROWS},
        )
    )
    text = (
        "INSERT INTO testapp_account (owner, balance) VALUES ('a', 0);"
        "INSERT INTO testapp_account (owner, balance) VALUES ('b', 0)"
    )
    lose_before_the_write(connection, admin)
    with pytest.raises(OperationalError):
        run(connection, text)
    assert owners(admin) == []
    run(connection, text)
    assert owners(admin) == ["a", "b"]
    assert_works(connection, admin)


def test_procedure_call_is_not_repeated(racing: Connection, admin: Admin) -> None:
    admin.create_procedure(
        "add_account(name VARCHAR(50))"
        " INSERT INTO testapp_account (owner, balance) VALUES (name, 0)"
    )
    lose_before_the_write(racing, admin)
    with pytest.raises(OperationalError), racing.cursor() as cursor:
        cursor.callproc("add_account", ["a"])
    with racing.cursor() as cursor:
        cursor.callproc("add_account", ["b"])
    assert owners(admin) == ["b"]


def test_procedure_call_on_a_connection_that_was_lost_before_runs_on_a_new_one(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    admin.create_procedure(
        "add_account(name VARCHAR(50))"
        " INSERT INTO testapp_account (owner, balance) VALUES (name, 0)"
    )
    connection = rested(make_connection())
    kill(admin, connection)
    with connection.cursor() as cursor:
        cursor.callproc("add_account", ["a"])
    assert owners(admin) == ["a"]


def test_load_data_local_is_not_repeated(
    make_connection: ConnectionFactory, admin: Admin, driver: str, tmp_path: Path
) -> None:
    file = tmp_path / "rows.txt"
    file.write_text("a\t1\nb\t2\n")
    connection = rested(
        make_connection(transport="socket", recycle=BLIND, options={"local_infile": True})
    )
    load = f"LOAD DATA LOCAL INFILE '{file}' INTO TABLE testapp_account (owner, balance)"
    lose_before_the_write(connection, admin)
    with pytest.raises(OperationalError):
        run(connection, load)
    assert owners(admin) == []
    run(connection, load)
    assert owners(admin) == ["a", "b"]


# Entering a transaction.

LOSSES = ["kill", "cut fin", "cut rst", "idle"]


def lose(loss: str, connection: Connection, admin: Admin, between: FaultProxy) -> None:
    if loss == "kill":
        kill(admin, connection)
    elif loss == "idle":
        wait_until_hung_up(connection)
    else:
        between.cut("rst" if loss == "cut rst" else "fin")
        wait_until_hung_up(connection)


@pytest.mark.core
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("recycle", [{}, BLIND], ids=["checked", "blind"])
def test_entering_a_transaction_on_a_lost_connection_succeeds(
    proxied: Proxied, admin: Admin, loss: str, recycle: dict[str, Any]
) -> None:
    options = {"init_command": "SET SESSION wait_timeout = 1"} if loss == "idle" else {}
    connection, between = proxied(recycle=recycle, options=options)
    run(connection, "SELECT 1")
    lose(loss, connection, admin, between)
    received: list[str] = []
    with transaction.atomic(using=connection.alias):
        insert(connection, "a")
        with transaction.atomic(using=connection.alias):
            insert(connection, "b")
        transaction.on_commit(lambda: received.append("committed"), using=connection.alias)
        assert owners(admin) == []
    assert owners(admin) == ["a", "b"]
    assert received == ["committed"]
    assert connection.get_autocommit()


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_entering_a_transaction_is_repeated_whatever_became_of_the_first_try(
    proxied: Proxied, admin: Admin, how: Any
) -> None:
    connection, between = proxied()
    run(connection, "SELECT 1")
    between.swallow_next_reply(how)
    with transaction.atomic(using=connection.alias):
        insert(connection, "a")
    assert len(between.connections) == 2
    assert owners(admin) == ["a"]


@pytest.mark.parametrize("recycle", [{}, BLIND], ids=["checked", "blind"])
def test_entering_a_transaction_while_pinned_raises_on_a_lost_connection(
    make_connection: ConnectionFactory, admin: Admin, recycle: dict[str, Any]
) -> None:
    connection = make_connection(recycle=recycle)
    run(connection, "SELECT GET_LOCK('entering', 0)")
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match="entering"):
        with transaction.atomic(using=connection.alias):
            insert(connection, "a")
    assert owners(admin) == []
    with transaction.atomic(using=connection.alias):
        insert(connection, "b")
    assert owners(admin) == ["b"]


def test_control_stock_backend_cannot_enter_a_transaction_on_a_lost_connection(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(STOCK)
    run(connection, "SELECT 1")
    kill(admin, connection)
    with pytest.raises(OperationalError), transaction.atomic(using=connection.alias):
        insert(connection, "a")


@pytest.mark.parametrize(
    "text", ["BEGIN", "START TRANSACTION", "begin work;", "/* x */ START TRANSACTION READ WRITE"]
)
def test_transaction_begun_by_sql_alone_is_repeated(
    make_connection: ConnectionFactory, admin: Admin, text: str
) -> None:
    # A KILL over TCP: 2013, which proves nothing; but BEGIN has done nothing yet either way.
    connection = make_connection(recycle=BLIND)
    run(connection, "SELECT 1")
    kill(admin, connection)
    run(connection, text)
    insert(connection, "a")
    assert owners(admin) == []
    run(connection, "COMMIT")
    assert owners(admin) == ["a"]


def test_transaction_begun_by_sql_together_with_other_text_is_not_repeated(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(
        recycle=BLIND, options={"client_flag": MULTI_STATEMENTS | FOUND_ROWS}
    )
    run(connection, "SELECT 1")
    kill(admin, connection)
    with pytest.raises(OperationalError):
        run(connection, "BEGIN; INSERT INTO testapp_account (owner, balance) VALUES ('a', 0)")
    assert owners(admin) == []


@pytest.mark.parametrize("inner", ["plain", "savepoint"])
@pytest.mark.parametrize("recycle", [{}, BLIND], ids=["checked", "blind"])
def test_nothing_is_repeated_inside_a_transaction(
    make_connection: ConnectionFactory, admin: Admin, inner: str, recycle: dict[str, Any]
) -> None:
    connection = make_connection(transport="socket", recycle=recycle)
    with pytest.raises(DatabaseError), transaction.atomic(using=connection.alias):
        insert(connection, "a")
        kill(admin, connection)
        rest(connection)
        if inner == "plain":
            insert(connection, "b")
        else:
            with transaction.atomic(using=connection.alias):
                insert(connection, "b")
    assert owners(admin) == []
    with transaction.atomic(using=connection.alias):
        insert(connection, "c")
    assert owners(admin) == ["c"]


def test_error_caught_inside_a_transaction_does_not_split_it(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(transport="socket")
    with pytest.raises(Error), transaction.atomic(using=connection.alias):
        insert(connection, "a")
        kill(admin, connection)
        for owner in "bcd":
            with pytest.raises(Error):
                insert(connection, owner)
    assert owners(admin) == []
    assert_works(connection, admin)


def test_repeated_statement_keeps_its_parameters(racing: Connection, admin: Admin) -> None:
    lose_before_the_write(racing, admin)
    with racing.cursor() as cursor:
        cursor.execute("SELECT %(a)s + %(b)s", {"a": 2, "b": 3})
        assert cursor.fetchall() == ((5,),)
