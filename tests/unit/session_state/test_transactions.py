"""What a statement does to transactions, and whether it may run once more."""

from __future__ import annotations

from django_mysql_recycle.session_state import examine

from ..rows import each
from .claims import claims, effects

TRANSACTIONS = {
    "BEGIN": ("BEGIN", "+transaction"),
    "BEGIN WORK": ("begin work;", "+transaction"),
    "START TRANSACTION": ("START TRANSACTION WITH CONSISTENT SNAPSHOT", "+transaction"),
    "XA START": ("XA START 'x'", "+transaction"),
    "XA BEGIN": ("XA BEGIN 'x' JOIN", "+transaction"),
    "XA END": ("XA END 'x'",),
    "XA PREPARE": ("XA PREPARE 'x'",),
    "XA COMMIT": ("XA COMMIT 'x' ONE PHASE", "-transaction"),
    "XA ROLLBACK": ("XA ROLLBACK 'x'", "-transaction"),
    "COMMIT": ("COMMIT", "-transaction"),
    "COMMIT WORK": ("COMMIT WORK AND NO CHAIN NO RELEASE", "-transaction"),
    "COMMIT AND CHAIN": ("COMMIT AND CHAIN", "-transaction", "+transaction"),
    "ROLLBACK": ("ROLLBACK", "-transaction"),
    "ROLLBACK AND CHAIN": ("ROLLBACK WORK AND CHAIN", "-transaction", "+transaction"),
    "ROLLBACK TO": ("ROLLBACK TO SAVEPOINT `s1`",),
    "ROLLBACK WORK TO": ("ROLLBACK WORK TO s1",),
    "SAVEPOINT": ("SAVEPOINT `s1`",),
    "RELEASE": ("RELEASE SAVEPOINT `s1`",),
    "a replica": ("START REPLICA",),
    "all of it in one text": ("BEGIN; UPDATE t SET a = 1; COMMIT", "+transaction", "-transaction"),
}


@claims(TRANSACTIONS)
def test_statement_about_transactions_does_this(sql: str, expected: list[str]) -> None:
    assert effects(sql) == expected


@each(
    [
        "SELECT 1",
        "INSERT INTO t VALUES (1)",
        "LOAD DATA INFILE 'f' INTO TABLE t",
        "BEGIN",
        "START TRANSACTION READ ONLY",
        "XA START 'x'",
        "XA BEGIN 'x'",
        "SET sql_mode = ''",
        "SET GLOBAL autocommit = 1",
        "CREATE TEMPORARY TABLE t (a int)",
        "SELECT GET_LOCK('a', 1)",
        "SELECT 1;",
    ]
)
def test_repeatable(sql: str) -> None:
    assert examine(sql).repeatable


@each(
    [
        "SELECT 1; SELECT 2",
        "LOAD DATA LOCAL INFILE 'f' INTO TABLE t",
        "LOAD XML CONCURRENT LOCAL INFILE 'f' INTO TABLE t",
        "COMMIT",
        "ROLLBACK",
        "ROLLBACK TO SAVEPOINT `s1`",
        "SAVEPOINT `s1`",
        "RELEASE SAVEPOINT `s1`",
        "SET autocommit = 1",
        "SET SESSION sql_mode = '', @@autocommit = 0",
        "CALL p()",
        "EXECUTE s",
        "XA END 'x'",
        "XA COMMIT 'x'",
        "XA PREPARE 'x'",
        "XA RECOVER",
        "BEGIN NOT ATOMIC SELECT 1; END",
        "BEGIN; SELECT 1",
        "/*!80000 COMMIT */",
        "",
    ]
)
def test_not_repeatable(sql: str) -> None:
    assert not examine(sql).repeatable


@each(
    [
        ("BEGIN", True),
        ("/* x */ begin work ;", True),
        ("START TRANSACTION READ WRITE", True),
        ("BEGIN; SELECT 1", False),
        ("BEGIN NOT ATOMIC START TRANSACTION; END", False),
        ("XA START 'x'", False),
        ("START SLAVE", False),
    ]
)
def test_enters_transaction_if_that_is_the_whole_text(sql: str, enters: bool) -> None:
    assert examine(sql).enters_transaction is enters


@each(
    [
        ("COMMIT", True),
        ("ROLLBACK AND CHAIN", True),
        ("XA ROLLBACK 'x'", True),
        ("UPDATE t SET a = 1; COMMIT", True),
        ("SET autocommit = 1", True),
        ("SET SESSION AUTOCOMMIT = on", True),
        ("SET @@session.autocommit := TRUE", True),
        ("SET autocommit = 0", False),
        ("SET autocommit = %s", False),
        ("SET autocommit = 1 - 1", False),
        ("SET GLOBAL autocommit = 1", False),
        ("ROLLBACK TO s", False),
        ("BEGIN", False),
        ("BEGIN NOT ATOMIC COMMIT; END", False),
        ("/*!80000 COMMIT */", False),
    ]
)
def test_ends_transaction(sql: str, ends: bool) -> None:
    assert examine(sql).ends_transaction is ends


@each(
    [
        ("SET autocommit = 0", True),
        ("set `autocommit`=1", True),
        ("SET NAMES utf8mb4, @@local.autocommit = 0", True),
        ("/*!80000 SET autocommit = 0 */", True),
        ("SET %s = 0", True),
        ("SET GLOBAL autocommit = 0", False),
        ("SET GLOBAL a = 1, autocommit = 0", False),
        ("SET @autocommit = 0", False),
        ("SET sql_mode = 'autocommit'", False),
        ("SELECT @@autocommit", False),
    ]
)
def test_sets_autocommit(sql: str, sets: bool) -> None:
    assert examine(sql).sets_autocommit is sets


@each(
    [
        ("START TRANSACTION READ ONLY", True),
        ("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY", True),
        ("SET TRANSACTION READ ONLY", True),
        ("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY", True),
        ("SET transaction_read_only = 1", True),
        ("SET @@session.tx_read_only = 'ON'", True),
        ("SET GLOBAL TRANSACTION READ ONLY", False),
        ("SET GLOBAL transaction_read_only = 1", False),
        ("SET transaction_read_only = 0", False),
        ("SET TRANSACTION READ WRITE", False),
        ("START TRANSACTION", False),
    ]
)
def test_declares_a_read_only_transaction(sql: str, read_only: bool) -> None:
    assert examine(sql).read_only is read_only
