"""What the quick look knows by itself and keeps, and what else is known of a statement."""

from __future__ import annotations

from dataclasses import replace

import pytest

from django_mysql_recycle import session_state
from django_mysql_recycle.session_state import (
    PLAIN,
    PLAIN_INSERT,
    Kind,
    cache_get,
    examine,
    functions,
)
from django_mysql_recycle.session_state.lexer import USUAL, WATCHED, Source, skim

from ..rows import each


@each(
    [
        "SELECT `t`.`id` FROM `t` WHERE `t`.`id` = %s LIMIT 21",
        "select 1",
        "\n  SELECT 1",
        "(SELECT 1) UNION (SELECT 2)",
        "/* route */ SELECT 1",
        "/* a *//* b */\n/* c */ SELECT 1",
        "SELECT 1 /*traceparent='00-5bd6-c532-01',route='%%5Eusers/'*/",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "UPDATE `t` SET `a` = %s",
        "DELETE FROM `t`",
        "SELECT 1;",
        "SELECT 'a@example.com', ';', 'GET_LOCK(1, 1)'",
        "EXPLAIN SELECT 1",
        "CREATE TABLE t (a int)",
        "VALUES ROW(1)",
        "TABLE t",
        "SHOW TABLES",
        "CREATE PROCEDURE p() BEGIN COMMIT; END",
    ]
)
def test_ordinary_statement_is_the_one_plain_object(sql: str) -> None:
    assert examine(sql) is PLAIN
    assert examine(sql.encode()) is PLAIN


@each(sorted({*functions._LOCK_CALLS, *functions.ASKING_CALLS}))
def test_function_that_matters_is_seen_wherever_it_stands(function: str) -> None:
    assert function in WATCHED
    call = f"{function.lower()}()"
    assert examine(f"SELECT {call}") not in (PLAIN, PLAIN_INSERT)
    far_behind = Source(f"INSERT INTO t VALUES ({'1, ' * 20_000}{call})", USUAL)
    assert function.lower() in [token.text for token in skim(far_behind)]


class TestCache:
    @pytest.fixture(autouse=True)
    def empty(self, monkeypatch: pytest.MonkeyPatch) -> None:
        session_state._cache.clear()

    def test_text_examined_once_is_known(self) -> None:
        assert cache_get("SELECT @a") is None
        statement = examine("SELECT @a")
        assert cache_get("SELECT @a") is statement

    def test_long_texts_are_not_kept(self) -> None:
        examine("SELECT " + "1" * 5000)
        assert not session_state._cache

    def test_savepoints_are_not_kept_for_each_has_its_own_name(self) -> None:
        for sql in ("SAVEPOINT `s1`", "RELEASE SAVEPOINT `s1`", "ROLLBACK TO SAVEPOINT `s1`"):
            examine(sql)
        assert not session_state._cache

    def test_it_is_emptied_when_full(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(session_state, "_MOST_CACHED", 3)
        for number in range(4):
            examine(f"SELECT {number}")
        assert list(session_state._cache) == ["SELECT 3"]


def test_bytes_of_any_encoding_and_other_objects_are_examined() -> None:
    assert examine(b"SELECT GET_LOCK('\xff', 1)").changes[0].kind is Kind.NAMED_LOCK
    assert examine(bytearray(b"BEGIN")).enters_transaction
    assert examine(memoryview(b"BEGIN")).enters_transaction  # type: ignore[arg-type]
    assert examine(None).calls  # type: ignore[arg-type]


def test_statements_are_values() -> None:
    statement = examine("SELECT @x")
    assert replace(statement) == statement
    with pytest.raises(AttributeError):
        statement.single = False  # type: ignore[misc]


@each(
    [
        ("CALL p()", True),
        ("{CALL p()}", True),  # no verb
        ("EXECUTE s USING @x", True),
        ("EXECUTE IMMEDIATE 'COMMIT'", True),
        ("BEGIN NOT ATOMIC SELECT 1; END", True),
        ("IF 1 THEN SELECT 1; END IF", True),
        ("SELECT 1; CALL p()", True),
        ("SELECT `call`", False),
        ("DROP PROCEDURE p", False),
    ]
)
def test_calls_what_the_text_does_not_show(sql: str, calls: bool) -> None:
    assert examine(sql).calls is calls


@each(
    [
        ("SET wait_timeout = 5", True),
        ("SELECT 'WAIT_Timeout'", True),
        ("SET innodb_lock_wait_timeout = 5", True),
        ("CALL p('wait_timeout')", True),
        ("SET interactive_timeout = 5", False),
        ("SELECT wait, timeout", False),
    ]
)
def test_mentions_wait_timeout(sql: str, mentions: bool) -> None:
    assert examine(sql).mentions_wait_timeout is mentions


@each(
    [
        "LOAD DATA LOCAL INFILE 'f' INTO TABLE t",
        "load data low_priority local infile 'f' into table t",
        "LOAD XML CONCURRENT LOCAL INFILE 'f' INTO TABLE t",
        "/* nightly */ LOAD DATA /* from here */ LOCAL INFILE 'f' INTO TABLE t",
        "LOAD DATA /*!50000 LOCAL */ INFILE 'f' INTO TABLE t",
        "SET STATEMENT max_statement_time = 9 FOR LOAD DATA LOCAL INFILE 'f' INTO TABLE t",
        "TRUNCATE t; LOAD DATA LOCAL INFILE 'f' INTO TABLE t",
        b"LOAD DATA LOCAL INFILE 'f' INTO TABLE t",
    ]
)
def test_file_of_the_client_is_sent(sql: str | bytes) -> None:
    assert examine(sql).sends_file


@each(
    [
        "LOAD DATA INFILE 'f' INTO TABLE t",
        "SELECT 'LOAD DATA LOCAL INFILE'",
        "INSERT INTO t VALUES ('LOAD DATA LOCAL INFILE ''f''')",
        "CREATE TABLE local (data INT)",
    ]
)
def test_no_file_of_the_client_is_sent(sql: str) -> None:
    assert not examine(sql).sends_file
