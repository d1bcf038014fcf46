"""What a statement can do to the transaction it runs in, by its text."""

from __future__ import annotations

from typing import Any

from django_mysql_recycle.session_state.effects import (
    commits,
    may_touch_tables,
    only_reads,
    rolls_back,
)

from ..rows import each

TABLELESS = [
    "SELECT 1",
    " select %s + 0",
    "SELECT CONNECTION_ID(), NOW()",
    "SELECT GET_LOCK(%s, 1)",
    "SELECT IF(1 IN (1, 2), 1, 0)",
    "SET @a = 1",
    "SET SESSION sql_mode = 'ANSI'",
    "DO SLEEP(1)",
    "SAVEPOINT `s1_x1`",
    "RELEASE SAVEPOINT `s1_x1`",
    "ROLLBACK TO SAVEPOINT `s1_x1`",
]
TOUCHING = [
    "SELECT * FROM a",
    "SELECT my_function(1)",
    "SELECT db.now(1)",
    "SELECT `now`(1)",
    "SELECT f/**/(1)",
    "SELECT NEXT VALUE FOR s",
    "SELECT s.nextval",
    "SET @a = (SELECT b FROM c)",
    "SET @a = (TABLE t)",
    "SET STATEMENT max_statement_time = 1 FOR UPDATE t SET a = 1",
    "SELECT 1; INSERT INTO t SET a = 1",
    "INSERT INTO t SET a = 1",
    "UPDATE t SET a = 1",
    "BEGIN",
    "",
    b"SELECT 1",
    None,
]


@each(TABLELESS)
def test_statement_without_a_table_touches_none(sql: str) -> None:
    assert not may_touch_tables(sql)


@each(TOUCHING)
def test_anything_else_may_touch_a_table(sql: Any) -> None:
    assert may_touch_tables(sql)


@each(
    [
        ("COMMIT", True, False),
        ("/* a */ commit and chain", True, False),
        (b"COMMIT", True, False),
        ("ALTER TABLE t ADD a INT", True, False),
        ("CREATE TEMPORARY TABLE t (a INT)", False, False),
        ("START TRANSACTION", True, False),
        ("ROLLBACK", False, True),
        ("-- why\n rollback work", False, True),
        ("ROLLBACK TO a", False, False),
        ("ROLLBACK WORK TO SAVEPOINT a", False, False),
        ("INSERT INTO t VALUES (1)", False, False),
        ("", False, False),
        (None, False, False),
    ]
)
def test_ends_of_a_transaction_are_known_by_the_first_words(
    sql: Any, committing: bool, rolling_back: bool
) -> None:
    assert (commits(sql), rolls_back(sql)) == (committing, rolling_back)


@each(
    [
        ("SELECT 1", True),
        ("\n (select a FROM b)", True),
        ("SHOW WARNINGS", True),
        ("SELECT a FROM b FOR UPDATE", False),
        ("SELECT a FROM b LOCK IN SHARE MODE", False),
        ("SELECT a INTO OUTFILE '/tmp/a' FROM b", False),
        ("SELECT a INTO @a FROM b", False),
        ("SELECTED", False),
        ("WITH a AS (SELECT 1) DELETE FROM b", False),
        ("UPDATE b SET a = 1", False),
        ("/* in doubt */ SELECT 1", False),
        (b"SELECT 1", False),
        (None, False),
    ]
)
def test_query_that_only_reads_is_known_by_its_words(sql: Any, expected: bool) -> None:
    assert only_reads(sql) is expected
