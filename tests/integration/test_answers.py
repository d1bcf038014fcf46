"""Questions about earlier statements: FOUND_ROWS(), LAST_INSERT_ID(), warnings and their like.

A new connection has no answer, or a wrong one. It is asked only if the application never had
another answer to expect; otherwise the question raises, once for each lost connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import Error, OperationalError, close_old_connections, transaction

from django_mysql_recycle import SessionStateLost, pinned
from django_mysql_recycle.signals import connection_recycled
from servers import Server

from .acts import insert, kill, listening, outcome, receiving, rest, session_id
from .admin import Admin
from .connections import STOCK, Connection, ConnectionFactory
from .queries import run, value

SEVERAL: dict[str, Any] = {"options": {"client_flag": 65536 | 2}}

RANKING = """
    SELECT owner, @rank := IF(@before = balance, @rank + 1, 1) AS place, @before := balance
    FROM testapp_account CROSS JOIN (SELECT @rank := 0, @before := NULL) AS start
    ORDER BY balance
"""
BEST_OF_EACH = f"SELECT * FROM ({RANKING}) AS ranked WHERE place <= 2"
QUESTIONS = [
    *("SELECT LAST_INSERT_ID()", "SELECT @@identity", "SELECT FOUND_ROWS()", "SELECT ROW_COUNT()"),
    *("SHOW WARNINGS", "SHOW COUNT(*) ERRORS", "SELECT @@warning_count", "SELECT @never_set"),
]
COUNTING_ROWS = "SELECT SQL_CALC_FOUND_ROWS owner FROM testapp_account ORDER BY owner LIMIT 1"


def ask(connection: Connection, sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def four(connection: Connection) -> None:
    for owner in "abcd":
        insert(connection, owner)


# Once is once.


@pytest.mark.core
@pytest.mark.parametrize("pin", [True, False], ids=["pinning", "not pinning"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_worker_that_only_asks_about_earlier_statements_meets_a_loss_once(
    make_connection: ConnectionFactory, admin: Admin, question: str, pin: bool
) -> None:
    connection = make_connection(recycle={"pin_session_state": pin})
    insert(connection, "a")
    kill(admin, connection)
    lost = session_id(connection)
    with listening(connection) as received:
        first = outcome(lambda: ask(connection, question))
        ask(connection, question)  # by the new connection
    assert session_id(connection) != lost
    expected = pin or "@never" not in question  # which is given up with pin_session_state
    assert isinstance(first, SessionStateLost) is expected
    assert (len(received.lost), received.recycled) == (int(expected), ["closed"])


def test_control_stock_backend_never_gets_out_of_it(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(STOCK)
    insert(connection, "a")
    kill(admin, connection)
    for _ in range(3):
        with pytest.raises(Error):
            ask(connection, "SHOW WARNINGS")


@pytest.mark.parametrize("question", QUESTIONS[:-1])
def test_question_after_nothing_is_answered_by_a_new_connection(
    connection: Connection, admin: Admin, question: str
) -> None:
    with listening(connection) as received:
        for _ in range(3):
            ask(connection, question)
            kill(admin, connection)
        ask(connection, question)
    assert (received.lost, received.recycled) == ([], ["closed"] * 3)


def test_ping_does_not_change_what_earlier_statements_have_left(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection()
    run(connection, "SELECT 1")
    assert connection.is_usable()
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match="ROW_COUNT"):
        ask(connection, "SELECT ROW_COUNT()")
    ask(connection, "SELECT ROW_COUNT()")
    assert connection.is_usable()
    kill(admin, connection)
    ask(connection, "SELECT ROW_COUNT()")  # nothing else has run on the lost connection


@pytest.mark.parametrize("limit", ["max age", "idle limit"])
def test_worker_that_only_asks_is_recycled_at_its_limits(
    make_connection: ConnectionFactory, admin: Admin, limit: str
) -> None:
    if limit == "max age":
        connection = make_connection(CONN_MAX_AGE=60)
    else:
        connection = make_connection(recycle={"idle_limit": 60})
    with listening(connection) as received:
        for question in QUESTIONS[:-1]:
            ask(connection, question)
            if limit == "max age":
                connection.guard.connection.opened_at -= 61  # type: ignore[attr-defined]
            rest(connection, 61)
    assert received.recycled == [limit] * (len(QUESTIONS) - 2)


def test_living_connection_that_has_the_answer_gives_it_whatever_its_age(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(recycle={"idle_limit": 5}, CONN_MAX_AGE=1)
    four(connection)
    ask(connection, COUNTING_ROWS)
    session = session_id(connection)
    rest(connection, 60)
    assert value(connection, "SELECT FOUND_ROWS()") == 4
    assert session_id(connection) == session


def test_question_about_locks_does_not_come_between_a_statement_and_its_found_rows(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection()
    four(connection)
    with connection.connection.cursor() as cursor:  # after Django's it is asked at once
        cursor.execute(COUNTING_ROWS.replace("owner", "owner, GET_LOCK('mine', 0)", 1))
    assert value(connection, "SELECT FOUND_ROWS()") == 4


# Where the answer was left in a connection that another statement has had replaced.


@pytest.mark.core
def test_found_rows_of_a_replaced_connection_raise_once(
    connection: Connection, admin: Admin
) -> None:
    four(connection)
    ask(connection, COUNTING_ROWS)
    kill(admin, connection)
    run(connection, "UPDATE testapp_account SET balance = 1")
    with listening(connection) as received, pytest.raises(SessionStateLost, match="FOUND_ROWS"):
        run(connection, "SELECT FOUND_ROWS()")
    assert [facts["reason"] for facts in received.lost] == ["closed"]
    run(connection, "SELECT FOUND_ROWS()")
    ask(connection, COUNTING_ROWS)
    assert value(connection, "SELECT FOUND_ROWS()") == 4


def test_control_stock_backend_answers_with_nothing_after_reconnecting(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    admin.create_procedure("twice(IN a INT, OUT b INT) SET b = a * 2")
    connection = make_connection(STOCK)
    insert(connection, "a")
    with connection.cursor() as cursor:
        cursor.callproc("twice", [4, 0])
    kill(admin, connection)
    with pytest.raises(OperationalError):
        run(connection, "SELECT 1")
    connection.close()
    assert run(connection, "SELECT @_twice_1, LAST_INSERT_ID()") == [(None, 0)]


def test_found_rows_of_the_statement_that_had_the_connection_replaced_are_right(
    connection: Connection, admin: Admin
) -> None:
    four(connection)
    for _ in range(3):
        kill(admin, connection)
        ask(connection, COUNTING_ROWS)
        assert value(connection, "SELECT FOUND_ROWS()") == 4


@pytest.mark.parametrize("question", ["SELECT ROW_COUNT()", "SHOW WARNINGS"])
def test_row_count_and_warnings_of_the_statement_that_had_it_replaced_are_right(
    connection: Connection, admin: Admin, question: str
) -> None:
    four(connection)
    kill(admin, connection)
    if question == "SHOW WARNINGS":
        ask(connection, "SELECT CAST('x' AS UNSIGNED)")
        assert len(ask(connection, question)) == 1
    else:
        run(connection, "UPDATE testapp_account SET balance = 7")
        assert value(connection, question) == 4


def test_warnings_of_a_statement_that_failed_on_the_new_connection_are_right(
    connection: Connection, admin: Admin
) -> None:
    insert(connection, "a")
    kill(admin, connection)
    with pytest.raises(Error):
        ask(connection, "SELECT nonsense")
    assert len(ask(connection, "SHOW ERRORS")) == 1


def test_row_count_raises_where_nothing_has_run_on_the_new_connection(
    connection: Connection, admin: Admin
) -> None:
    insert(connection, "a")
    kill(admin, connection)
    with pinned(connection), pytest.raises(SessionStateLost, match="ROW_COUNT"):
        run(connection, "SELECT ROW_COUNT()")


def test_receiver_that_runs_a_statement_answers_no_question(
    connection: Connection, admin: Admin
) -> None:

    def receive(**facts: Any) -> None:
        ask(connection, "SELECT owner FROM testapp_account")

    four(connection)
    ask(connection, COUNTING_ROWS)
    kill(admin, connection)
    with receiving(connection_recycled, receive):
        run(connection, "UPDATE testapp_account SET balance = 1")
        with pytest.raises(SessionStateLost, match="FOUND_ROWS"):
            run(connection, "SELECT FOUND_ROWS()")


def test_statements_after_the_replacement_take_the_common_path_again(
    connection: Connection, admin: Admin
) -> None:
    four(connection)
    kill(admin, connection)
    run(connection, "SELECT 1")
    assert connection.guard.connection.ready  # type: ignore[attr-defined]


@pytest.mark.core
def test_insert_id_is_answered_where_the_new_connection_has_inserted(
    connection: Connection, admin: Admin
) -> None:
    admin.create_procedure("adding() INSERT INTO testapp_account (owner, balance) VALUES ('p', 0)")
    for statement in (
        "INSERT INTO testapp_account (owner, balance) VALUES ('i', 0)",
        "INSERT INTO testapp_account (owner, balance) SELECT 's', 0",
        "CALL adding()",
        "UPDATE testapp_account SET balance = LAST_INSERT_ID(id) WHERE owner = 'first'",
    ):
        admin.rows("DELETE FROM testapp_account")
        insert(connection, "first")
        kill(admin, connection)
        run(connection, "SELECT 1")
        run(connection, statement)
        newest = admin.value("SELECT MAX(id) FROM testapp_account")
        run(
            connection,
            "INSERT INTO testapp_account (owner, balance) VALUES ('child', LAST_INSERT_ID())",
        )
        assert admin.value("SELECT balance FROM testapp_account WHERE owner = 'child'") == newest


def test_insert_id_is_asked_for_inside_a_transaction_too(
    connection: Connection, admin: Admin
) -> None:
    insert(connection, "a")
    kill(admin, connection)
    with transaction.atomic(using=connection.alias):
        insert(connection, "b")
        assert value(connection, "SELECT LAST_INSERT_ID()") == value(
            connection, "SELECT id FROM testapp_account WHERE owner = 'b'"
        )
    kill(admin, connection)
    with transaction.atomic(using=connection.alias):
        with pytest.raises(SessionStateLost, match="LAST_INSERT_ID"):
            run(connection, "SELECT LAST_INSERT_ID()")


def test_insert_id_is_not_asked_for_where_the_question_would_spoil_another(
    connection: Connection, admin: Admin
) -> None:
    insert(connection, "a")
    kill(admin, connection)
    insert(connection, "b")
    run(connection, "UPDATE testapp_account SET balance = 3")
    with pytest.raises(SessionStateLost):
        run(connection, "SELECT ROW_COUNT(), LAST_INSERT_ID()")


def test_number_of_rows_that_the_question_for_an_insert_id_has_spoilt_is_not_answered(
    connection: Connection, admin: Admin
) -> None:
    four(connection)
    kill(admin, connection)
    insert(connection, "e")
    ask(connection, COUNTING_ROWS)
    run(connection, "INSERT INTO testapp_account SET owner = 'f', balance = LAST_INSERT_ID()")
    with pytest.raises(SessionStateLost, match="FOUND_ROWS"):
        run(connection, "SELECT FOUND_ROWS()")


def test_entering_a_transaction_ends_the_question_for_rows_and_warnings(
    connection: Connection, admin: Admin
) -> None:
    insert(connection, "a")
    kill(admin, connection)
    with transaction.atomic(using=connection.alias):
        assert value(connection, "SELECT ROW_COUNT()") == 0  # that of SET autocommit


@pytest.fixture
def sequence(admin: Admin, vendor: str) -> Iterator[str]:
    if vendor == "mysql":
        yield ""
        return
    admin.rows("CREATE OR REPLACE SEQUENCE numbers")
    admin.rows("CREATE OR REPLACE TABLE numbered (id INT DEFAULT NEXTVAL(numbers), a INT)")
    yield "numbers"
    admin.rows("DROP TABLE numbered")
    admin.rows("DROP SEQUENCE numbers")


@pytest.mark.parametrize("question", ["LASTVAL(`numbers`)", "PREVIOUS VALUE FOR numbers"])
@pytest.mark.parametrize(
    "take", ["SELECT NEXTVAL(numbers)", "DO NEXT VALUE FOR numbers", "INSERT INTO numbered SET a=1"]
)
def test_last_value_of_a_sequence_is_lost_with_its_connection(
    make_connection: ConnectionFactory, admin: Admin, sequence: str, question: str, take: str
) -> None:
    if not sequence:
        return  # MySQL has none
    connection = make_connection()
    ask(connection, take)
    kill(admin, connection)
    run(connection, "SELECT 1")
    with pytest.raises(SessionStateLost, match="LASTVAL"):
        run(connection, f"SELECT {question}")
    ask(connection, take)
    kill(admin, connection)
    run(connection, "SELECT 1")
    ask(connection, take)
    last = value(connection, f"SELECT {question}")
    assert value(connection, "SELECT NEXTVAL(numbers)") == last + 1


def test_last_gtid_is_lost_with_its_connection(
    make_connection: ConnectionFactory, own_server: Callable[..., Server], vendor: str
) -> None:
    if vendor == "mysql":
        return  # which has no such variable
    server = own_server(log_bin="binlog", server_id=7)
    with Admin(server) as admin:
        admin.rows("CREATE TABLE logged (a INT)")
        connection = make_connection(server=server)
        run(connection, "INSERT INTO logged VALUES (1)")
        kill(admin, connection)
        run(connection, "SELECT 1")
        run(connection, "UPDATE logged SET a = 2 WHERE a = 99")  # logs nothing
        with pytest.raises(SessionStateLost, match="last_gtid"):
            run(connection, "SELECT @@last_gtid")
        run(connection, "INSERT INTO logged VALUES (2)")
        kill(admin, connection)
        run(connection, "UPDATE logged SET a = 3")
        assert value(connection, "SELECT @@session.last_gtid") == admin.value(
            "SELECT @@gtid_current_pos"
        )


def test_arguments_of_one_procedure_are_not_those_of_another(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    for name in ("one", "other"):
        admin.create_procedure(f"{name}(IN a INT, OUT b INT) SET b = a * 2")
    connection = make_connection()
    with connection.cursor() as cursor:
        cursor.callproc("one", [4, 0])
    kill(admin, connection)
    with connection.cursor() as cursor:
        cursor.callproc("other", [5, 0])
    assert value(connection, "SELECT @_other_1") == 10
    with pytest.raises(SessionStateLost, match="@_one_1"):
        run(connection, "SELECT @_one_1")
    with connection.cursor() as cursor:
        cursor.callproc("one", [6, 0])
    assert value(connection, "SELECT @_one_1") == 12


def test_variable_that_a_procedure_has_set_is_lost_with_its_connection(
    connection: Connection, admin: Admin
) -> None:
    admin.create_procedure("noting() SET @noted = 5")
    run(connection, "CALL noting()")
    kill(admin, connection)
    run(connection, "SELECT 1")
    with pytest.raises(SessionStateLost, match="@noted"):
        run(connection, "SELECT @noted")
    run(connection, "CALL noting()")
    assert value(connection, "SELECT @noted") == 5


@pytest.mark.parametrize("question", ["LAST_INSERT_ID()", "FOUND_ROWS()", "@never_set"])
def test_unit_of_work_and_close_end_all_questions(
    make_connection: ConnectionFactory, admin: Admin, question: str
) -> None:
    connection = make_connection(CONN_MAX_AGE=None)
    for number, end in enumerate((close_old_connections, connection.close)):
        insert(connection, f"a{number}")
        kill(admin, connection)
        run(connection, "UPDATE testapp_account SET balance = 1")
        end()
        run(connection, f"SELECT {question}")
        insert(connection, f"b{number}")
        end()
        if connection.connection is not None:
            kill(admin, connection)
        run(connection, f"SELECT {question}")  # nothing in this unit of work has left an answer
        end()


# What a statement sets itself.


@pytest.mark.parametrize(
    "sql",
    [
        RANKING,
        BEST_OF_EACH,
        "SELECT @r := @r + 1 FROM testapp_account, (SELECT @r := 0) AS x WHERE 1 = 0",
        "SELECT @r := @r + 1 FROM testapp_item AS none, (SELECT @r := 0) AS x",
        "SELECT @r := @r + 1 FROM (SELECT @r := 0) AS x JOIN testapp_account LIMIT 0",
        f"SELECT 1 FROM testapp_item AS none JOIN ({RANKING}) AS ranked WHERE 0",
        "UPDATE testapp_account JOIN (SELECT @r := 0) AS x SET balance = (@r := @r + 1)",
        "DELETE a FROM testapp_account AS a, (SELECT @r := 0) AS x WHERE a.balance = @r",
        "INSERT INTO testapp_account (owner, balance) "
        "SELECT CONCAT(owner, '!'), @r := @r + 1 FROM testapp_account, (SELECT @r := 0) AS x",
        "SELECT 7, @r := 0",
        "DO @r := 0",
        "SELECT 0 INTO @r",
    ],
)
def test_variable_that_a_statement_sets_first_has_no_earlier_value(
    make_connection: ConnectionFactory, sql: str
) -> None:
    """What the analysis takes for certain is asked of the server."""
    from django_mysql_recycle.session_state import examine

    statement = examine(sql)
    names = [name for _, name in statement.sets]
    assert names and not statement.reads
    connection = make_connection()
    four(connection)
    results = []
    for before in ("NULL", "500"):
        run(connection, "DELETE FROM testapp_account WHERE owner NOT IN ('a', 'b', 'c', 'd')")
        for name in names:
            run(connection, f"SET @`{name}` = {before}")
        rows = ask(connection, sql)
        results.append((rows, [value(connection, f"SELECT @`{name}`") for name in names]))
    assert results[0] == results[1]
    assert None not in results[0][1] or "before" in names


def test_text_that_sets_a_variable_and_then_reads_it_asks_for_nothing_earlier(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(**SEVERAL)
    insert(connection, "a")
    for number, sql in enumerate(
        (
            "SET @a = 1; SELECT @a",
            "SELECT @a := 2; SELECT @a + 1",
            "SELECT SQL_CALC_FOUND_ROWS 1; SELECT FOUND_ROWS()",
            "UPDATE testapp_account SET balance = 9; SELECT ROW_COUNT()",
        )
    ):
        connection.guard.unit_of_work_ended()  # type: ignore[attr-defined]
        insert(connection, f"b{number}")
        kill(admin, connection)
        with listening(connection) as received, connection.cursor() as cursor:
            cursor.execute(sql)
            cursor.nextset()
            assert cursor.fetchall()
        assert (received.lost, received.recycled) == ([], ["closed"])
