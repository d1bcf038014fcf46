"""Which variables a statement sets and reads, and whether it does nothing but set."""

from __future__ import annotations

from django_mysql_recycle.session_state import Kind, examine

from ..rows import each
from .claims import CHARACTER_SETS, claims, effects

SESSION_VARIABLES = {
    "without a scope": ("SET sql_mode = ''", "+session variable sql_mode"),
    "with SESSION": ("SET SESSION sql_mode = ''", "+session variable sql_mode"),
    "with LOCAL": ("SET LOCAL Sql_Mode = ''", "+session variable sql_mode"),
    "with @@": ("SET @@sql_mode := ''", "+session variable sql_mode"),
    "with @@session.": ("SET @@session.sql_mode = ''", "+session variable sql_mode"),
    "with @@local.": ("SET @@LOCAL.sql_mode = ''", "+session variable sql_mode"),
    "quoted": ("SET SESSION `sql_mode` = ''", "+session variable sql_mode"),
    "of a component": ("SET a.b = 1", "+session variable a.b"),
    "GLOBAL": ("SET GLOBAL sql_mode = ''",),
    "@@global.": ("SET @@global.sql_mode = ''",),
    "PERSIST": ("SET PERSIST sql_mode = '', @@persist_only.a = 1",),
    "GLOBAL holds for those after it": (
        "SET GLOBAL a = 1, b = 2, @x = 3, c = 4",
        "+user variable x",
    ),
    "until another scope": (
        "SET GLOBAL a = 1, SESSION b = 2, c = 3",
        "+session variable b",
        "+session variable c",
    ),
    "@@ has a scope of its own": ("SET GLOBAL a = 1, @@b = 2, c = 3", "+session variable b"),
    "@@global. does not hold": ("SET @@global.a = 1, b = 2", "+session variable b"),
    "commas in brackets do not separate": (
        "SET a = CONCAT('x,y', (SELECT MAX(b), 1 FROM t)), c = 1",
        "+session variable a",
        "+session variable c",
    ),
    "NAMES": ("SET NAMES utf8mb4 COLLATE utf8mb4_bin", *CHARACTER_SETS),
    "CHARACTER SET": ("SET CHARACTER SET utf8mb4", *CHARACTER_SETS),
    "CHARSET": ("SET CHARSET DEFAULT", *CHARACTER_SETS),
    "NAMES among others": (
        "SET NAMES utf8mb4, wait_timeout = 5, a = 1",
        *CHARACTER_SETS,
        "+session variable a",
    ),
    "the isolation level": (
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "+session variable transaction_isolation",
    ),
    "of the next transaction": (
        "SET TRANSACTION READ WRITE",
        "+session variable access mode of the next transaction",
    ),
    "of other sessions": ("SET GLOBAL TRANSACTION READ ONLY",),
    "PASSWORD": ("SET PASSWORD FOR u@localhost = 'x'",),
    "DEFAULT ROLE": ("SET DEFAULT ROLE r TO u@localhost",),
    "ROLE": ("SET ROLE r@localhost", "+session variable role"),
    "RESOURCE GROUP": ("SET RESOURCE GROUP g", "+session variable resource group"),
    "for one statement": ("SET STATEMENT max_statement_time = 1 FOR SELECT 1",),
    "which is judged": (
        "SET STATEMENT a = (SELECT SUBSTRING(b FROM 1 FOR 2)) FOR SELECT GET_LOCK('a', 1)",
        "++named lock a",
    ),
    "for no statement": ("SET STATEMENT a = 1",),
    "wait_timeout": ("SET SESSION wait_timeout = 5, interactive_timeout = 5",),
    "net timeouts": ("SET net_read_timeout = 5, @@net_write_timeout = 5",),
    "another timeout": ("SET lock_wait_timeout = 5", "+session variable lock_wait_timeout"),
    "checks switched off": ("SET foreign_key_checks = 0", "+session variable foreign_key_checks"),
    "checks switched on": ("SET foreign_key_checks = 1", "-session variable foreign_key_checks"),
    "in a word": ("SET unique_checks = ON", "-session variable unique_checks"),
    "in quotes": ("SET unique_checks = 'on'", "-session variable unique_checks"),
    "to the default": ("SET unique_checks = DEFAULT", "-session variable unique_checks"),
    "to what is not known": (
        "SET unique_checks = @old",
        "+session variable unique_checks",
        "+user variable old",
        "?@old",
    ),
    "autocommit is seen elsewhere": ("SET autocommit = 0",),
    "another default database": ("USE other", "+default database other"),
    "nonsense": ("SET %s = 1", "+session variable ?"),
    "nothing": ("SET", "+session variable ?"),
}


USER_VARIABLES = {
    "set": ("SET @Name = 1", "+user variable name"),
    "set from another": ("SET @a = @b", "+user variable a", "+user variable b", "?@b"),
    "all are read before any is set": (
        "SET @a = 1, @b = @a",
        "+user variable a",
        "+user variable b",
        "?@a",
    ),
    "selected into": ("SELECT 5 INTO @x", "+user variable x"),
    "several selected into": (
        "SELECT a, b FROM t INTO @x, @y",
        "+user variable x",
        "+user variable y",
    ),
    "read and selected into": (
        "SELECT @z INTO @x FROM t",
        "+user variable z",
        "+user variable x",
        "?@z",
    ),
    "read": ("SELECT @x", "+user variable x", "?@x"),
    "without a blank": ("SELECT@x", "+user variable x", "?@x"),
    "assigned": ("SELECT 1, @x := 7", "+user variable x"),
    "assigned from another": ("SELECT @a := @b", "+user variable a", "+user variable b", "?@b"),
    "counted up": ("SELECT @n := @n + 1 FROM t", "+user variable n", "?@n"),
    "in backticks": ("SELECT @`x y`", "+user variable x y", "?@x y"),
    "in quotes": ("SELECT @'x'", "+user variable x", "?@..."),
    "in double quotes": ('SELECT @"x"', "+user variable x", "?@..."),
    "in an UPDATE": ("UPDATE t SET a = @x WHERE b = 'y'", "+user variable x", "?@x"),
    "without a name": ("SELECT @", "+user variable", "?@"),
    "an argument of a procedure": ("CALL p(1, @x)", "+user variable x"),
    "a prepared statement's": (
        "PREPARE s FROM @x",
        "+prepared statement s",
        "+user variable x",
        "?@x",
    ),
    "read from a file": (
        "LOAD DATA INFILE 'f' INTO TABLE t (a, @b) SET c = @b",
        "+user variable b",
    ),
    "or read from before": (
        "LOAD DATA INFILE 'f' INTO TABLE t (a) SET c = @b",
        "+user variable b",
        "?@b",
    ),
    "a system variable is none": ("SELECT @@version, @@session.sql_mode",),
    "an address in a literal": ("SELECT * FROM t WHERE email LIKE '%@example.com'",),
    "an address in a comment": ("SELECT 1 /* a@example.com */ -- b@example.com",),
    "an account": ("CREATE USER u@localhost, 'v'@'%', `w` @localhost IDENTIFIED BY 'x'",),
    "granted to": ("GRANT ALL ON *.* TO u@localhost",),
    "an account in parameters": ("GRANT ALL ON *.* TO %s@%s",),
    "shown grants": ("SHOW GRANTS FOR u@localhost",),
    "a shown user": ("SHOW CREATE USER u@localhost",),
    "a dropped role": ("DROP ROLE IF EXISTS r@localhost",),
    "a killed user": ("KILL USER u@localhost",),
    "a variable that is killed": ("KILL @id", "+user variable id", "?@id"),
    "a definer": ("CREATE DEFINER = u@localhost VIEW v AS SELECT 1",),
    "a column of a new table": ("CREATE TABLE user AS SELECT@x", "+user variable x", "?@x"),
}


@claims(SESSION_VARIABLES | {f"@{name}": claim for name, claim in USER_VARIABLES.items()})
def test_statement_about_variables_does_this(sql: str, expected: list[str]) -> None:
    assert effects(sql) == expected


#: What a text reads of what was there before it, and the variables that it sets in any case.
ASSIGNMENTS = {
    "a bracket among the tables": ("SELECT @r := @r + 1 FROM t, (SELECT @r := 0) x", "", "@r"),
    "which comes first": ("SELECT @r := @r + 1 FROM (SELECT @r := 0) x, t", "", "@r"),
    "joined": ("SELECT @r := @r + 1 FROM t JOIN (SELECT @r := 0) x ON 1", "", "@r"),
    "with several": (
        "SELECT IF(@b = t.b, @r := @r + 1, @r := 1), @b := t.b"
        " FROM t CROSS JOIN (SELECT @r := 0 AS r, @b := NULL) AS x",
        "",
        "@r @b",
    ),
    "within another": (
        "SELECT * FROM (SELECT @r := @r + 1 AS n FROM t, (SELECT @r := 0) x) y WHERE n < 3",
        "",
        "@r",
    ),
    "read outside of it, before or after": (
        "SELECT @r FROM (SELECT @r := @r + 1 AS n FROM t, (SELECT @r := 0) x) y",
        "@r",
        "",
    ),
    "of an UPDATE": ("UPDATE t, (SELECT @r := 0) x SET a = (@r := @r + 1)", "", "@r"),
    "of an INSERT": ("INSERT INTO u SELECT @r := @r + 1 FROM t, (SELECT @r := 0) x", "", "@r"),
    "far behind": (
        f"SELECT @r := @r + 1, {', '.join(f'c{n}' for n in range(99))} FROM t, (SELECT @r := 0) x",
        "",
        "@r",
    ),
    "in lower case": ("select @R := @R + 1 from t, (select @r := 0) x", "", "@r"),
    "set from another variable": ("SELECT @r FROM t, (SELECT @r := @s) x", "@s", "@r"),
    "set from itself": ("SELECT @r FROM t, (SELECT @r := @r + 1) x", "@r", ""),
    "another variable": ("SELECT @s := @s + 1 FROM t, (SELECT @r := 0) x", "@s", "@r"),
    "with rows of its own": ("SELECT @r FROM t, (SELECT @r := 0 FROM u) x", "@r", ""),
    "with a condition": ("SELECT @r FROM t, (SELECT @r := 0 LIMIT 0) x", "@r", ""),
    "twice": ("SELECT @r FROM t, (SELECT @r := 0 UNION SELECT @r := 1) x", "@r", ""),
    "of an outer join": ("SELECT @r FROM t LEFT JOIN (SELECT @r := 0) x ON a = 1", "@r", ""),
    "on a condition": ("SELECT @r FROM t, (SELECT IF(1, @r := 0, 2)) x", "@r", ""),
    "a value and no table": ("SELECT (SELECT @r := 0), @r FROM t", "@r", ""),
    "a value in a list of tables' columns": ("SELECT a, (SELECT @r := 0), @r FROM t", "@r", ""),
    "a table that is read before": (
        "SELECT 1 FROM (SELECT @r + 1) y, (SELECT @r := 0) x",
        "@r",
        "",
    ),
    "a subquery that reads": (
        "SELECT (SELECT COUNT(*) FROM u WHERE b = @r) FROM t, (SELECT @r := 0) x",
        "@r",
        "",
    ),
    "another arm of a UNION": (
        "SELECT @r FROM u UNION SELECT @r := @r + 1 FROM t, (SELECT @r := 0) x",
        "@r",
        "",
    ),
    "the update of a duplicate": (
        "INSERT INTO t SELECT 1 ON DUPLICATE KEY UPDATE a = 1, b = (SELECT @r := 0), c = @r",
        "@r",
        "",
    ),
    "the same list": ("SELECT @r := 0, @r + 1", "@r", ""),
    "rows that need not be": ("SELECT @r := 0 FROM t", "", ""),
    "no rows": ("SELECT @r := 0", "", "@r"),
    "into": ("SELECT 1, 2 INTO @a, @b", "", "@a @b"),
    "into, of a table": ("SELECT a INTO @a FROM t", "", ""),
    "several statements": ("SET @a = 1; SELECT @a", "", "@a"),
    "of which a later one sets it": ("SELECT @a; SET @a = 1", "@a", ""),
    "and one reads another": ("SET @a = 1; SELECT @b", "@b", "@a"),
    "and asks for the number of rows": (
        "SELECT SQL_CALC_FOUND_ROWS 1; SELECT FOUND_ROWS()",
        "",
        "",
    ),
    "and asks for warnings": ("UPDATE t SET a = 1; SHOW WARNINGS", "", ""),
    "and for the number of rows after a write": (
        "UPDATE t SET a = 1; SELECT FOUND_ROWS()",
        "FOUND_ROWS()",
        "",
    ),
    "an INSERT that may have no number": (
        "INSERT INTO t VALUES (1); SELECT LAST_INSERT_ID()",
        "LAST_INSERT_ID()",
        "",
    ),
    "EXPLAIN": ("EXPLAIN SELECT @r FROM t, (SELECT @r := 0) x", "@r", ""),
    "SET": ("SET @a = 1, @b = 'x'", "", "@a @b"),
    "SET that reads": ("SET @a = @a + 1, @b = @c", "@a @c", "@b"),
    "what runs later": ("PREPARE p FROM 'SELECT @r := 0'", "", ""),
    "what may not run": ("BEGIN NOT ATOMIC SET @a = 1; END", "@a", ""),
}


@each(ASSIGNMENTS.values())
def test_variable_is_read_unless_the_text_has_certainly_set_it(
    sql: str, reads: str, sets: str
) -> None:
    statement = examine(sql)
    assert [str(read) for read in statement.reads] == reads.split()
    assert {f"@{name}" for kind, name in statement.sets if kind is Kind.USER_VARIABLE} == {
        *sets.split()
    }


CHARACTER = "character_set_client character_set_results character_set_connection"

TEXT_DEPENDS = f"{CHARACTER} collation_connection"


#: Whether a text does nothing but set; what it sets in any case; on what its values depend.
SETS = {
    "a variable": ("SET sql_select_limit = 5", True, "sql_select_limit", ""),
    "to a word": ("SET SESSION sql_mode = ANSI_QUOTES", True, "sql_mode", ""),
    "to a text": ("SET sql_mode = 'ANSI'", True, "sql_mode", ""),
    "to a parameter": ("SET sql_mode = %s", True, "sql_mode", ""),
    "to the default": ("SET @@local.sql_mode := DEFAULT", True, "sql_mode", ""),
    "to a product": ("SET max_heap_table_size = 16 * 1024 * 1024", True, "max_heap_table_size", ""),
    "several": ("SET a = 1, @b = -2, SESSION c = 3.5", True, "a @b c", ""),
    "from a variable": ("SET a = @b", False, "a", ""),
    "from itself": ("SET sql_mode = CONCAT(@@sql_mode, ',ANSI')", False, "", ""),
    "from another": ("SET @old = @@sql_mode, sql_mode = ''", False, "@old sql_mode", ""),
    "by a function": ("SET time_zone = CONCAT('+', '00:00')", False, "time_zone", ""),
    "by one without brackets": ("SET timestamp = CURRENT_TIMESTAMP", False, "timestamp", ""),
    "by a query": ("SET a = (SELECT 1)", False, "a", ""),
    "a text in a user variable": ("SET @a = 'x'", True, "@a", TEXT_DEPENDS),
    "in double quotes": ('SET @a = "x"', True, "@a", f"{TEXT_DEPENDS} sql_mode"),
    "with a backslash": (r"SET @a = 'x\\y'", True, "@a", f"{TEXT_DEPENDS} sql_mode"),
    "a parameter in one": ("SET @a = %s", True, "@a", TEXT_DEPENDS),
    "a number in one": ("SET @a := 1.5e3", True, "@a", ""),
    "NULL in one": ("SET @a = NULL", True, "@a", ""),
    "a column in one": ("SET @a = b", False, "@a", ""),
    "counted up": ("SET @a = @a + 1", False, "", TEXT_DEPENDS),
    "for the answer of an earlier statement": ("SET @a = LAST_INSERT_ID()", False, "@a", ""),
    "names": ("SET NAMES utf8mb4 COLLATE utf8mb4_bin", True, TEXT_DEPENDS, ""),
    "a character set": ("SET CHARACTER SET 'utf8mb4'", True, TEXT_DEPENDS, ""),
    "one of the connection": (
        "SET character_set_connection = utf8mb4",
        True,
        "character_set_connection collation_connection",
        "",
    ),
    "a mode": (
        "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        True,
        "transaction_isolation",
        "",
    ),
    "both": (
        "SET SESSION TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE",
        True,
        "transaction_isolation transaction_read_only",
        "",
    ),
    "by its old name": ("SET tx_isolation = 'SERIALIZABLE'", True, "transaction_isolation", ""),
    "of the next transaction, on MySQL": (
        "SET @@transaction_isolation = 'SERIALIZABLE'",
        True,
        "",
        "",
    ),
    "another session's": ("SET GLOBAL a = 1", True, "", ""),
    "how long the server waits": ("SET wait_timeout = 5", True, "", ""),
    "a role": ("SET ROLE r", True, "role", ""),
    "a password": ("SET PASSWORD = 'x'", False, "", ""),
    "autocommit on": ("SET autocommit = 1", True, "", ""),
    "autocommit off": ("SET autocommit = 0", False, "", ""),
    "checks switched on": ("SET foreign_key_checks = 1", True, "foreign_key_checks", ""),
    "for one statement": ("SET STATEMENT a = 1 FOR SET b = 2", False, "", ""),
    "a default database": ("USE other", True, "", ""),
    "a dropped table": ("DROP TEMPORARY TABLE IF EXISTS t, s.u", True, "t s.u", ""),
    "which has to be there": ("DROP TEMPORARY TABLE t", False, "", ""),
    "which may be another": ("DROP TABLE IF EXISTS t", False, "", ""),
    "a replaced table": ("CREATE OR REPLACE TEMPORARY TABLE s.t AS SELECT 1", False, "s.t", ""),
    "made of itself": ("CREATE OR REPLACE TEMPORARY TABLE t AS SELECT * FROM t", False, "", ""),
    "a new table": ("CREATE TEMPORARY TABLE t (a INT)", False, "", ""),
    "two texts": ("SET a = 1; SET @b = 2", True, "a @b", ""),
    "and another": ("SET a = 1; SELECT 1", False, "a", ""),
    "after another": ("SELECT 1; SET a = 1", False, "", ""),
    "a lock": ("SET @a = GET_LOCK('a', 1)", False, "@a", TEXT_DEPENDS),
    "nonsense": ("SET", False, "", ""),
    "nothing": ("", False, "", ""),
}


@each(SETS.values())
def test_statement_that_sets_says_what_it_sets_and_what_it_depends_on(
    sql: str, only: bool, sets: str, depends: str
) -> None:
    statement = examine(sql)
    named = {f"@{name}" if kind is Kind.USER_VARIABLE else name for kind, name in statement.sets}
    assert (statement.only_sets, named) == (only, {*sets.split()})
    assert {name for _, name in statement.depends} == {*depends.split()}
