"""What a statement leaves for later ones to ask for, and what asks for it."""

from __future__ import annotations

from django_mysql_recycle.session_state import PLAIN_INSERT, Statement, examine, examine_callproc
from django_mysql_recycle.session_state.kinds import CALLED, INSERTED

from ..rows import each
from .claims import claims, effects

READS = {
    "LAST_INSERT_ID()": ("SELECT LAST_INSERT_ID()", "?LAST_INSERT_ID()"),
    "with blanks": ("SELECT last_insert_id /* x */ ( /* y */ )", "?LAST_INSERT_ID()"),
    "in VALUES": ("INSERT INTO t VALUES (1, LAST_INSERT_ID())", "?LAST_INSERT_ID()"),
    "as a system variable": ("SELECT @@last_insert_id, @@identity", "?LAST_INSERT_ID()"),
    "with a value it sets": ("UPDATE t SET a = LAST_INSERT_ID(a + 1)",),
    "FOUND_ROWS()": ("SELECT FOUND_ROWS()", "?FOUND_ROWS()"),
    "to come": ("SELECT SQL_CALC_FOUND_ROWS a FROM t",),
    "ROW_COUNT()": ("SELECT ROW_COUNT()", "?ROW_COUNT()"),
    "a column of that name": ("SELECT row_count FROM t",),
    "LASTVAL()": ("SELECT LASTVAL(s)", "?LASTVAL()"),
    "PREVIOUS VALUE FOR": ("SELECT PREVIOUS VALUE FOR s", "?LASTVAL()"),
    "another previous": ("SELECT previous FROM t",),
    "SHOW WARNINGS": ("SHOW WARNINGS LIMIT 1", "?SHOW WARNINGS"),
    "SHOW ERRORS": ("show errors", "?SHOW ERRORS"),
    "SHOW COUNT(*)": ("SHOW COUNT(*) WARNINGS", "?SHOW WARNINGS"),
    "counted errors": ("SHOW COUNT ( * ) ERRORS", "?SHOW ERRORS"),
    "another SHOW": ("SHOW TABLES LIKE 'warnings'",),
    "@@warning_count": ("SELECT @@session.warning_count", "?@@warning_count"),
    "@@error_count": ("SELECT @@error_count", "?@@error_count"),
    "MariaDB's @@last_gtid": ("SELECT @@last_gtid", "?@@last_gtid"),
    "one that is set": ("SET @@last_insert_id = 5", "+session variable last_insert_id"),
    "GET DIAGNOSTICS": (
        "GET DIAGNOSTICS CONDITION 1 @m = MESSAGE_TEXT",
        "+user variable m",
        "?GET DIAGNOSTICS",
        "?@m",
    ),
}


@claims(READS)
def test_question_about_earlier_statements_is_seen(sql: str, expected: list[str]) -> None:
    assert effects(sql) == expected


@each(
    [
        "INSERT INTO `t` (`a`) VALUES (%s), (%s)",
        "insert ignore into t select 1",
        "REPLACE INTO t VALUES (1)",
        "INSERT INTO t VALUES ('a@example.com') RETURNING id",
        "INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE id = LAST_INSERT_ID(id)",
        "UPDATE t SET a = LAST_INSERT_ID(a + 1)",
        "LOAD DATA INFILE 'f' INTO TABLE t",
        "ANALYZE INSERT INTO t VALUES (1)",
        "ANALYZE FORMAT=JSON REPLACE INTO t VALUES (1)",
        "SET STATEMENT max_statement_time = 1 FOR INSERT INTO t VALUES (1)",
    ]
)
def test_what_sets_the_insert_id_is_the_one_plain_insert_object(sql: str) -> None:
    assert examine(sql) is PLAIN_INSERT


def test_setting_the_insert_id_counts_as_setting_it() -> None:
    assert examine("SET last_insert_id = 5").leaves & INSERTED
    assert examine("SET @@identity = 5").leaves & INSERTED
    assert not examine("ANALYZE TABLE t").leaves & INSERTED
    assert not examine("EXPLAIN INSERT INTO t VALUES (1)").leaves & INSERTED


def test_procedure_called_through_the_driver_shows_nothing() -> None:
    assert examine_callproc("p") == Statement(calls=True, leaves=CALLED, repeatable=False)
