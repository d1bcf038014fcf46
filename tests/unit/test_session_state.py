"""What a statement does to the session: one line for each claim.

`+` begins a pin, `++` begins it nobody knows how often, `-` ends one, `--` ends every one of the
kind, `~` gives it another name, `!` begins what the prepared statement begins; `?` is a read.
"""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

import pytest

from django_mysql_recycle import session_state
from django_mysql_recycle.session_state import (
    PLAIN,
    PLAIN_INSERT,
    USUAL,
    Kind,
    Reading,
    Statement,
    cache_get,
    examine,
    examine_callproc,
)
from django_mysql_recycle.session_state.kinds import CALLED, INSERTED
from django_mysql_recycle.session_state.statements import Action

SIGNS = {"begin": "+", "end": "-", "end_all": "--", "rename": "~", "run": "!"}


def effects(sql: str, reading: Reading = USUAL) -> list[str]:
    """The changes and reads of a text, in words."""
    statement = examine(sql, reading)
    told = []
    for change in statement.changes:
        if change.action is Action.ASK:
            continue  # see test_server_is_asked_for_the_locks_whose_fate_no_answer_tells
        name = change.name
        if change.placeholder is not None:
            name = f"%{change.placeholder}"
        if change.inputs is not None:
            name = f"<{name}>"
        sign = (
            "++"
            if change.uncounted and (change.action, change.kind) == (Action.BEGIN, Kind.NAMED_LOCK)
            else SIGNS[change.action.value]
        )
        told.append(f"{sign}{change.kind.value.label} {name}".rstrip())
    return told + [f"?{read}" for read in statement.reads]


CHARACTER_SETS = [
    "+session variable character_set_client",
    "+session variable character_set_results",
    "+session variable character_set_connection",
    "+session variable collation_connection",
]

NAMED_LOCKS = {
    "a named lock": ("SELECT GET_LOCK('Leader', 10)", "+named lock Leader"),
    "in lower case": ("select get_lock('a', 10)", "+named lock a"),
    "a blank before the bracket": ("SELECT GET_LOCK ('a', 1)", "+named lock a"),
    "a comment before the bracket": ("SELECT GET_LOCK/**/(/* x */'a', 1)", "+named lock a"),
    "a line break before the bracket": ("SELECT GET_LOCK -- x\n('a', 1)", "+named lock a"),
    "the function's name quoted": ("SELECT `get_lock`('a', 1)", "+named lock a"),
    "the same with ANSI_QUOTES": ("SELECT \"GET_LOCK\"('a', 1)", "+named lock a"),
    "the same after skipped text": ("SELECT 1 + 2, `get_lock`('a', 1)", "++named lock a"),
    "qualified, as MariaDB can": ("SELECT mariadb_schema.GET_LOCK('a', 1)", "++named lock a"),
    "by DO": ("DO GET_LOCK('a', 1)", "+named lock a"),
    "in INSERT ... SELECT": ("INSERT INTO t SELECT GET_LOCK('a', 1)", "++named lock a"),
    "in UPDATE": ("UPDATE t SET a = GET_LOCK('a', 1)", "++named lock a"),
    "in WHERE": ("DELETE FROM t WHERE GET_LOCK('a', 1)", "++named lock a"),
    "in a subquery": ("SELECT (SELECT GET_LOCK('a', 1) FROM t)", "++named lock a"),
    "in SET": ("SET @got = GET_LOCK('a', 1)", "++named lock a", "+user variable got"),
    "in SET of what the server checks and then sets": (
        "SET @a = 1, character_set_client = IF(GET_LOCK('a', 1), 'utf8mb4', 'latin1')",
        "+session variable character_set_client",
        "++named lock a",
        "+user variable a",
    ),
    "a parameter": ("SELECT GET_LOCK(%s, %s)", "+named lock %0"),
    "a later parameter": ("SELECT a FROM t WHERE b = %s AND GET_LOCK(%s, 1)", "++named lock %1"),
    "a percent sign is no parameter": ("SELECT a %% 5, GET_LOCK(%s, 1)", "++named lock %0"),
    "drivers count inside literals": ("SELECT '%s %%s', GET_LOCK(%s, 1)", "++named lock %1"),
    "drivers count inside comments": ("SELECT /* %s */ GET_LOCK(%s, 1)", "+named lock %1"),
    "a named parameter": ("SELECT GET_LOCK(%(lock)s, 1)", "+named lock %lock"),
    "a doubled quote": ("SELECT GET_LOCK('it''s', 1)", "+named lock it's"),
    "double quotes": ('SELECT GET_LOCK("a", 1)', "+named lock a"),
    "literals side by side are one": ("SELECT GET_LOCK('a' 'b', 1)", "+named lock ab"),
    "a character set before it": ("SELECT GET_LOCK(_utf8mb4'a', 1)", "+named lock a"),
    "a national literal": ("SELECT GET_LOCK(N'a', 1)", "+named lock a"),
    "an escape": (r"SELECT GET_LOCK('a\tb\%%c', 1)", "+named lock a\tb%%c"),
    "an expression": (
        "SELECT GET_LOCK(CONCAT( DATABASE(),\n'.X', %s), 1)",
        "+named lock <concat(database(),'.X',%s)>",
    ),
    "a column": ("SELECT GET_LOCK(t.Name, 1) FROM t", "++named lock <t.name>"),
    "a variable": ("SELECT GET_LOCK(@n, 1)", "++named lock <@n>", "+user variable n", "?@n"),
    "no end in sight": ("SELECT GET_LOCK(", "++named lock <>"),
    "released": ("SELECT RELEASE_LOCK('a')", "-named lock a"),
    "released by DO": ("DO RELEASE_LOCK(%s)", "-named lock %0"),
    "all released": ("SELECT RELEASE_ALL_LOCKS()", "--named lock"),
    "one released, one taken": (
        "SELECT RELEASE_LOCK('a'), GET_LOCK('b', 1)",
        "-named lock a",
        "+named lock b",
    ),
    "several released": (
        "DO RELEASE_LOCK('a'), `release_lock`(%s)",
        "-named lock a",
        "-named lock %0",
    ),
    "released and named": (
        "SELECT RELEASE_LOCK('a') AS a, RELEASE_LOCK('b') b FROM dual",
        "-named lock a",
        "-named lock b",
    ),
    "released within functions that tell": (
        "DO COALESCE(RELEASE_LOCK('a'), 0), IF(RELEASE_LOCK('b') = 1, 1, 0)",
        "-named lock a",
        "-named lock b",
    ),
    "all released within brackets": ("SELECT (RELEASE_ALL_LOCKS())", "--named lock"),
    "released in a branch": ("SELECT IF(0, RELEASE_LOCK('a'), 7)",),
    "released after another operand": ("SELECT NULL = RELEASE_LOCK('a')",),
    "released in a case": ("DO CASE WHEN 1 = 0 THEN RELEASE_LOCK('a') END",),
    "released if something else": ("SELECT 0 AND RELEASE_LOCK('a')",),
    "released by each row": ("SELECT RELEASE_LOCK('a') FROM t",),
    "released under a condition": ("SELECT RELEASE_LOCK('a') FROM DUAL WHERE 0",),
    "released for no rows": ("SELECT RELEASE_ALL_LOCKS() LIMIT 0",),
    "released in one half": ("SELECT RELEASE_LOCK('a') UNION SELECT 1",),
    "released beside a value": ("SELECT RELEASE_LOCK('a'), 1",),
    "released by DELETE": ("DELETE FROM t WHERE RELEASE_ALL_LOCKS()",),
    "released by SET": ("SET @x = RELEASE_LOCK('a')", "+user variable x"),
    "released in a subquery": ("SELECT (SELECT RELEASE_LOCK('a'))",),
    "released within another call": ("DO GET_LOCK('a', RELEASE_LOCK('b'))", "++named lock a"),
    "released in a compound statement": (
        "BEGIN NOT ATOMIC IF 0 THEN DO RELEASE_LOCK('a'); END IF; END",
    ),
    "released far behind": ("SELECT " + "1, " * 200 + "RELEASE_LOCK('a')",),
    "taken beside a value": ("SELECT 1, GET_LOCK('a', 1) AND 1", "++named lock a"),
    "taken within functions": ("DO IF(IFNULL(GET_LOCK('a', 1), 0), 1, 0)", "+named lock a"),
    "taken within brackets": ("SELECT NOT (GET_LOCK('a', 1) = 1)", "++named lock a"),
    "taken within unknown functions": ("SELECT NULLIF(GET_LOCK('a', 1), 1)", "++named lock a"),
    "taken again and again": ("DO BENCHMARK(5, GET_LOCK('a', 1))", "++named lock a"),
    "taken within a quoted function": ("DO `nullif`(GET_LOCK('a', 1), 1)", "++named lock a"),
    "taken and asked for": ("SELECT GET_LOCK('a', 1) x HAVING x", "++named lock a"),
    "taken far behind": ("SELECT " + "1, " * 200 + "GET_LOCK('a', 1)", "++named lock a"),
    "taken in a compound statement": (
        "BEGIN NOT ATOMIC DO GET_LOCK('a', 1); END",
        "++named lock a",
    ),
    "taken once or twice, as the server reads it": (
        "DO GET_LOCK('a', 1) /*!80000 , GET_LOCK('a', 1) */",
        "++named lock a",
    ),
    "of MySQL's locking service": (
        "SELECT service_get_write_locks('ns', 'a', %s, 10)",
        "+service lock ns",
    ),
    "a read lock of it": ("SELECT SERVICE_GET_READ_LOCKS(%s, 'a', 1)", "+service lock %0"),
    "released there": ("SELECT service_release_locks('ns')", "-service lock ns"),
    "of version tokens": (
        "SELECT version_tokens_lock_shared('t', 0)",
        "+service lock version_token_locks",
    ),
    "an exclusive one": (
        "SELECT version_tokens_lock_exclusive('t', 0)",
        "+service lock version_token_locks",
    ),
    "released by all": ("DO version_tokens_unlock()", "-service lock version_token_locks"),
    "whether it is free": ("SELECT IS_FREE_LOCK('a'), IS_USED_LOCK('a')",),
    "a function with a longer name": ("SELECT my_get_lock('a'), get_locks('a')",),
    "a column of that name": ("SELECT get_lock FROM t",),
}

TABLE_LOCKS = {
    "LOCK TABLES": ("LOCK TABLES t WRITE, u READ", "+table lock tables"),
    "LOCK TABLE": ("lock table t read", "+table lock tables"),
    "UNLOCK TABLES": ("UNLOCK TABLES", "-table lock tables"),
    "UNLOCK TABLE": ("UNLOCK TABLE", "-table lock tables"),
    "LOCK INSTANCE": ("LOCK INSTANCE FOR BACKUP", "+table lock instance"),
    "UNLOCK INSTANCE": ("UNLOCK INSTANCE", "-table lock instance"),
    "FLUSH with read lock": ("FLUSH TABLES WITH READ LOCK", "+table lock tables"),
    "FLUSH some with read lock": ("FLUSH LOCAL TABLES t, u WITH READ LOCK", "+table lock tables"),
    "FLUSH for export": ("FLUSH TABLES t FOR EXPORT", "+table lock tables"),
    "FLUSH alone": ("FLUSH TABLES t",),
    "FLUSH privileges": ("FLUSH PRIVILEGES",),
    "a backup stage": ("BACKUP STAGE START", "+table lock backup stage"),
    "a later backup stage": ("BACKUP STAGE BLOCK_COMMIT", "+table lock backup stage"),
    "the end of a backup": ("BACKUP STAGE END", "-table lock backup stage"),
    "BACKUP LOCK": ("BACKUP LOCK t", "+table lock backup lock"),
    "BACKUP UNLOCK": ("BACKUP UNLOCK", "-table lock backup lock"),
    "another BACKUP": ("BACKUP SERVER", "!unknown state"),
}

TEMPORARY_TABLES = {
    "created": ("CREATE TEMPORARY TABLE t (a int)", "+temporary table t"),
    "if it does not exist": (
        "CREATE TEMPORARY TABLE IF NOT EXISTS t (a int)",
        "+temporary table t",
    ),
    "replaced": ("CREATE OR REPLACE TEMPORARY TABLE t (a int)", "+temporary table t"),
    "with a schema": ("CREATE TEMPORARY TABLE s . t (a int)", "+temporary table s.t"),
    "in backticks": ("CREATE TEMPORARY TABLE `s`.`t`(a int)", "+temporary table s.t"),
    "in double quotes": ('CREATE TEMPORARY TABLE "t" (a int)', "+temporary table t"),
    "case is kept": ("CREATE TEMPORARY TABLE Tt (a int)", "+temporary table Tt"),
    "AS SELECT": ("create temporary table t select 1", "+temporary table t"),
    "a sequence": ("CREATE TEMPORARY SEQUENCE s", "+temporary table s"),
    "as a dump writes it": ("CREATE /*!32302 TEMPORARY */ TABLE t (a int)", "+temporary table t"),
    "dropped": ("DROP TABLE t", "-temporary table t"),
    "dropped as temporary": ("DROP TEMPORARY TABLE IF EXISTS `t`", "-temporary table t"),
    "several dropped": (
        "DROP TABLES s.t, `u` CASCADE",
        "-temporary table s.t",
        "-temporary table u",
    ),
    "a sequence dropped": ("DROP SEQUENCE s", "-temporary table s"),
    "nothing dropped": ("DROP TABLE",),
    "an ordinary table": ("CREATE TABLE temporary (temporary int)",),
    "a renamed table stays": ("ALTER TABLE t RENAME u", "~temporary table t"),
    "another way to rename": (
        "RENAME TABLE t TO u, s.v TO w",
        "~temporary table t",
        "~temporary table s.v",
    ),
    "among other changes": (
        "ALTER TABLE `t` ADD COLUMN (a int, b int), RENAME AS u",
        "~temporary table t",
    ),
    "a renamed column": ("ALTER TABLE t RENAME COLUMN a TO b, RENAME INDEX i TO j",),
    "a renamed key": ("ALTER TABLE t RENAME KEY i TO j",),
    "a renamed user": ("RENAME USER u TO v",),
    "a truncated table stays": ("TRUNCATE TABLE t",),
    "a dropped schema ends nothing": ("DROP DATABASE s",),
    "a dropped index": ("DROP INDEX i ON t",),
}

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
    "to what nobody knows": (
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
    "assigned from another": (
        "SELECT @a := @b",
        "+user variable a",
        "+user variable b",
        "?@b",
    ),
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
    "a column of a new table": (
        "CREATE TABLE user AS SELECT@x",
        "+user variable x",
        "?@x",
    ),
}

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

OTHERS = {
    "PREPARE": ("PREPARE `S` FROM 'SELECT GET_LOCK(1, 1)'", "+prepared statement s"),
    "DEALLOCATE": ("DEALLOCATE PREPARE s", "-prepared statement s"),
    "DROP PREPARE": ("DROP PREPARE S", "-prepared statement s"),
    "EXECUTE": ("EXECUTE `S` USING 'x'", "!prepared statement s"),
    "EXECUTE IMMEDIATE": (
        "EXECUTE IMMEDIATE 'SELECT GET_LOCK(''a'', ?), LAST_INSERT_ID()' USING 1",
        "++named lock a",
        "?LAST_INSERT_ID()",
    ),
    "which begins a transaction": ('EXECUTE IMMEDIATE "START TRANSACTION"', "+transaction"),
    "or ends one, which is not counted on": ("EXECUTE IMMEDIATE 'COMMIT'",),
    "or names a lock by a parameter": (
        "EXECUTE IMMEDIATE 'SELECT GET_LOCK(?, 1)' USING 'a'",
        "++named lock <?>",
    ),
    "or nothing that is written out": (
        "EXECUTE IMMEDIATE CONCAT('BEG', 'IN')",
        "+unknown state",
    ),
    "or something behind a literal": (
        "EXECUTE IMMEDIATE 'SELECT ' || @what",
        "+unknown state",
        "+user variable what",
        "?@what",
    ),
    "or a variable": (
        "EXECUTE IMMEDIATE @s USING 1",
        "+unknown state",
        "+user variable s",
        "?@s",
    ),
    "or a parameter": ("EXECUTE IMMEDIATE %s USING %s", "!unknown state %0"),
    "or a parameter and more": ("EXECUTE IMMEDIATE %s || ''", "+unknown state"),
    "or a name": (
        "BEGIN NOT ATOMIC DECLARE s TEXT; EXECUTE IMMEDIATE s; END",
        "+unknown state",
    ),
    "or defines what runs later": ("EXECUTE IMMEDIATE 'CREATE PROCEDURE p() START TRANSACTION'",),
    "within a compound statement": (
        "BEGIN NOT ATOMIC EXECUTE IMMEDIATE 'BEGIN'; PREPARE s FROM 'SELECT @x'; EXECUTE s; END",
        "+prepared statement s",
        "!prepared statement s",
        "+transaction",
        "+user variable x",
        "?@...",
    ),
    "after SET STATEMENT": (
        "SET STATEMENT max_statement_time = 1 FOR EXECUTE IMMEDIATE 'BEGIN'",
        "+transaction",
    ),
    "HANDLER": ("HANDLER s.T OPEN", "+handler t"),
    "HANDLER with an alias": ("HANDLER t OPEN AS a", "+handler a"),
    "HANDLER with a bare alias": ("HANDLER t OPEN a", "+handler a"),
    "HANDLER ... CLOSE": ("HANDLER A CLOSE", "-handler a"),
    "HANDLER ... READ": ("HANDLER a READ FIRST",),
}

TEXT = {
    "a comment": ("SELECT 1 /* GET_LOCK('a', 1) @x */",),
    "a comment to the end of the line": ("SELECT 1 -- GET_LOCK('a', 1) @x\n, 2",),
    "after a hash": ("SELECT 1 # GET_LOCK('a', 1) @x\n, 2",),
    "after a comment that a line ends": ("SELECT 1 # x\n, GET_LOCK('a', 1)", "++named lock a"),
    "an optimizer hint": ("SELECT /*+ SET_VAR(sort_buffer_size = 1) @x */ 1",),
    "two signs are arithmetic": ("SELECT 1 --@x", "+user variable x", "?@x"),
    "at the very end they are a comment": ("SELECT '@' --",),
    "an executable comment": ("/*!40101 SET NAMES utf8 */", *CHARACTER_SETS),
    "of MariaDB alone": ("/*M! SET NAMES utf8 */", *CHARACTER_SETS),
    "of a version": ("SELECT /*M!100100 GET_LOCK('a', 1), */ 1", "++named lock a"),
    "which need not end": ("SELECT /*! GET_LOCK('a', 1)", "+named lock a"),
    "with a comment in it": ("SELECT 1 /*! , GET_LOCK('a', 1) /* x */ , 2 */", "++named lock a"),
    "what only some servers end stays": ("/*!80000 UNLOCK TABLES */",),
    "though it contains a comment": ("/*!80000 UNLOCK /* x */ TABLES */",),
    "what all servers end ends": ("/*!40000 UNLOCK TABLES */", "-table lock tables"),
    "a small m is no mark": ("SELECT '@' /*m! , GET_LOCK('a', 1) */",),
    "a literal": ("SELECT 'GET_LOCK(1, 1) @x', \"; BEGIN\"",),
    "a quote in a literal": ("SELECT '@''', '\"', \"@'\", '`'",),
    "a name": ("SELECT `@x`, `a``; BEGIN`",),
    "a doubled backslash": (r"SELECT '@\\', GET_LOCK('a', 1)", "++named lock a"),
    "an escaped quote": (r"SELECT 'a\', GET_LOCK(1, 1), \'@'",),
    "in double quotes": (r'''SELECT "a\", GET_LOCK(1, 1), \"@", "@'"''',),
    "an escaped quote in a lock's name": (r"DO RELEASE_LOCK('it\'s')", "-named lock it's"),
    "an apology": (r"INSERT INTO t VALUES ('I\'ll be late; lock the door to a@b.example')",),
    "a backslash outside": (r"SELECT 'a\'b\'c', 'a@b', \N",),
    "a literal that does not end": ("SELECT '@x",),
    "a comment that does not end": ("SELECT '@' /* @x",),
    "a byte order mark": ("\ufeffSELECT 1",),
    "brackets": ("((SELECT 1) UNION (SELECT @x))", "+user variable x", "?@x"),
    "nothing at all": ("",),
    "only a comment": ("/* x */",),
    "only an open comment": ("/* x",),
    "only an open bracket": ("(", "!unknown state"),
    "no letters": ("@@ . ; @", "+unknown state", "!unknown state", "+user variable", "?@"),
    "a common table expression": ("WITH a AS (SELECT @x) SELECT 1", "+user variable x", "?@x"),
    "EXPLAIN": ("EXPLAIN SELECT GET_LOCK('a', 1)", "++named lock a"),
}

BODIES = {
    "a procedure's body runs later": (
        "CREATE PROCEDURE p() BEGIN START TRANSACTION; SET @x = 1, sql_mode = ''; COMMIT; END",
    ),
    "a trigger's too": ("CREATE TRIGGER r BEFORE INSERT ON t FOR EACH ROW SET @x = NEW.a",),
    "an event's too": ("ALTER EVENT e DO BEGIN DO GET_LOCK('a', 1); END",),
    "with cases and loops": (
        """CREATE FUNCTION f() RETURNS int BEGIN IF 1 THEN BEGIN END; END IF;
        CASE 1 WHEN 1 THEN SET @x = 1; END CASE; RETURN CASE 1 WHEN 1 THEN 2 END; END""",
    ),
    "what follows it does not": (
        "CREATE PROCEDURE p() BEGIN COMMIT; END; CREATE TEMPORARY TABLE t (a int)",
        "+temporary table t",
    ),
    "a table may be called event": ("CREATE TABLE event (begin int); BEGIN", "+transaction"),
    "a compound statement may begin something": (
        "BEGIN NOT ATOMIC IF 1 THEN CREATE TEMPORARY TABLE t (a int); COMMIT; END IF; END",
        "+temporary table t",
    ),
    "so may a loop": (
        "FOR i IN 1..3 DO START TRANSACTION; END FOR",
        "+transaction",
    ),
    "a column called begin is no block": (
        "SELECT begin FROM t; LOCK TABLES t READ",
        "+table lock tables",
    ),
}

CLAIMS = [
    pytest.param(sql, expected, id=f"{table}: {name}")
    for table, claims in {
        "named lock": NAMED_LOCKS,
        "table lock": TABLE_LOCKS,
        "temporary table": TEMPORARY_TABLES,
        "transaction": TRANSACTIONS,
        "session variable": SESSION_VARIABLES,
        "user variable": USER_VARIABLES,
        "read": READS,
        "other": OTHERS,
        "text": TEXT,
        "body": BODIES,
    }.items()
    for name, (sql, *expected) in claims.items()
]


@pytest.mark.parametrize(("sql", "expected"), CLAIMS)
def test_statement_does_this_to_the_session(sql: str, expected: list[str]) -> None:
    assert effects(sql) == expected


NO_ESCAPES = Reading(escapes=False)
ANSI = Reading(ansi=True)


@pytest.mark.parametrize(
    ("reading", "sql", "expected"),
    [
        (NO_ESCAPES, r"SELECT 'a\', GET_LOCK(1, 1), '@'", ["++named lock <1>"]),
        (NO_ESCAPES, r"DO '\' + RELEASE_ALL_LOCKS() -- '", []),
        (NO_ESCAPES, r"DO '\', RELEASE_ALL_LOCKS() -- '", []),
        (NO_ESCAPES, r"SELECT GET_LOCK('a\\b', 1)", [r"+named lock a\\b"]),
        (NO_ESCAPES, r'''SELECT "\", @x, "\\"''', ["+user variable x", "?@x"]),
        (ANSI, r'''SELECT "\" , @x , "\\'" -- "''', ["+user variable x", "?@x"]),
        (ANSI, r"SELECT '\', @x , \'@'", []),
        (ANSI, 'SELECT "get_lock"(\'a\', 1), "x"', ["++named lock a"]),
    ],
)
def test_sql_mode_decides_where_a_literal_ends(
    reading: Reading, sql: str, expected: list[str]
) -> None:
    assert effects(sql, reading) == expected
    assert examine(sql + " -- not in the cache", reading) == examine(sql, reading)


def test_what_another_sql_mode_means_is_not_kept_for_the_usual_one() -> None:
    sql = r"SELECT 'a\', @x, \'b'"
    assert not examine(sql).reads
    assert examine(sql, NO_ESCAPES).reads
    assert not (cache_get(sql) or examine(sql)).reads


@pytest.mark.parametrize(
    "sql",
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
    ],
)
def test_ordinary_statement_is_the_one_plain_object(sql: str) -> None:
    assert examine(sql) is PLAIN
    assert examine(sql.encode()) is PLAIN


@pytest.mark.parametrize(
    "sql",
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
    ],
)
def test_what_sets_the_insert_id_is_the_one_plain_insert_object(sql: str) -> None:
    assert examine(sql) is PLAIN_INSERT


def test_setting_the_insert_id_counts_as_setting_it() -> None:
    assert examine("SET last_insert_id = 5").leaves & INSERTED
    assert examine("SET @@identity = 5").leaves & INSERTED
    assert not examine("ANALYZE TABLE t").leaves & INSERTED
    assert not examine("EXPLAIN INSERT INTO t VALUES (1)").leaves & INSERTED


@pytest.mark.parametrize(
    ("sql", "single"),
    [
        ("SELECT 1", True),
        ("SELECT 1 ; -- x\n /* y */", True),
        ("SELECT ';'", True),
        ("SELECT 1 /* ; */", True),
        ("SELECT 1; SELECT 2", False),
        ("SELECT 1 /*! ; SELECT 2 */", False),
        (";;SELECT 1", True),
        ("", False),
        (r"SELECT '\'; SELECT '2'", True),
        ("CREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2; END", True),
        ("BEGIN NOT ATOMIC SELECT 1; END", True),
        ("BEGIN; SELECT 1", False),
        ("SELECT CASE 1 WHEN 2 THEN 3 END; SELECT 1", False),
    ],
)
def test_single_is_one_statement_in_the_text(sql: str, single: bool) -> None:
    assert examine(sql).single is single


@pytest.mark.parametrize(
    "sql",
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
    ],
)
def test_repeatable(sql: str) -> None:
    assert examine(sql).repeatable


@pytest.mark.parametrize(
    "sql",
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
    ],
)
def test_not_repeatable(sql: str) -> None:
    assert not examine(sql).repeatable


@pytest.mark.parametrize(
    ("sql", "enters"),
    [
        ("BEGIN", True),
        ("/* x */ begin work ;", True),
        ("START TRANSACTION READ WRITE", True),
        ("BEGIN; SELECT 1", False),
        ("BEGIN NOT ATOMIC START TRANSACTION; END", False),
        ("XA START 'x'", False),
        ("START SLAVE", False),
    ],
)
def test_enters_transaction_if_that_is_the_whole_text(sql: str, enters: bool) -> None:
    assert examine(sql).enters_transaction is enters


@pytest.mark.parametrize(
    ("sql", "ends"),
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
    ],
)
def test_ends_transaction(sql: str, ends: bool) -> None:
    assert examine(sql).ends_transaction is ends


@pytest.mark.parametrize(
    ("sql", "sets"),
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
    ],
)
def test_sets_autocommit(sql: str, sets: bool) -> None:
    assert examine(sql).sets_autocommit is sets


@pytest.mark.parametrize(
    ("sql", "calls"),
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
    ],
)
def test_calls_what_the_text_does_not_show(sql: str, calls: bool) -> None:
    assert examine(sql).calls is calls


@pytest.mark.parametrize(
    ("sql", "mentions"),
    [
        ("SET wait_timeout = 5", True),
        ("SELECT 'WAIT_Timeout'", True),
        ("SET innodb_lock_wait_timeout = 5", True),
        ("CALL p('wait_timeout')", True),
        ("SET interactive_timeout = 5", False),
        ("SELECT wait, timeout", False),
    ],
)
def test_mentions_wait_timeout(sql: str, mentions: bool) -> None:
    assert examine(sql).mentions_wait_timeout is mentions


@pytest.mark.parametrize(
    ("sql", "read_only"),
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
    ],
)
def test_declares_a_read_only_transaction(sql: str, read_only: bool) -> None:
    assert examine(sql).read_only is read_only


@pytest.mark.parametrize(
    ("sql", "function"),
    [
        ("SELECT GET_LOCK('a', 1)", "GET_LOCK"),
        ("SELECT get_lock(%s, %s) AS got /* x */;", "GET_LOCK"),
        ("SELECT `release_lock`('a') got FROM dual", "RELEASE_LOCK"),
        ("select release_all_locks()", "RELEASE_ALL_LOCKS"),
        ("SELECT GET_LOCK(CONCAT('a', (SELECT 1)), 1)", "GET_LOCK"),
        ("SELECT COALESCE(GET_LOCK(%s, %s), 0)", "GET_LOCK"),
        ("SELECT IFNULL(RELEASE_LOCK('a'), 0) AS freed", "RELEASE_LOCK"),
        ("SELECT IF(`get_lock`('a', 1), 1, 0) got FROM dual", "GET_LOCK"),
        ("SELECT (GET_LOCK('a', 1) = 1)", "GET_LOCK"),
        ("SELECT IF(COALESCE(GET_LOCK('a', 1), 0) = 1, 1, 0)", "GET_LOCK"),
        ("SELECT COALESCE(GET_LOCK('a', 1), 1)", ""),
        ("SELECT COALESCE(GET_LOCK('a', 1))", ""),
        ("SELECT IF(GET_LOCK('a', 1), 0, 1)", ""),
        ("SELECT IF(GET_LOCK('a', 1), %s, 0)", ""),
        ("SELECT GET_LOCK('a', 1) = 0", ""),
        ("SELECT 1 = GET_LOCK('a', 1)", ""),
        ("SELECT NOT GET_LOCK('a', 1)", ""),
        ("SELECT NULLIF(GET_LOCK('a', 1), 0)", ""),
        ("SELECT IFNULL(1, RELEASE_LOCK('a'))", ""),
        ("SELECT (GET_LOCK('a', 1)", ""),
        ("SELECT GET_LOCK('a', 1) = 1 OR 1", ""),
        ("SELECT ()", ""),
        ("SELECT GET_LOCK('a', 1), 2", ""),
        ("SELECT 2, GET_LOCK('a', 1)", ""),
        ("SELECT GET_LOCK('a', 1) + 1", ""),
        ("SELECT GET_LOCK('a', 1) FROM t", ""),
        ("SELECT GET_LOCK('a', 1) UNION SELECT 1", ""),
        ("SELECT GET_LOCK('a', RELEASE_LOCK('b'))", ""),
        ("SELECT GET_LOCK(@a, 1)", "GET_LOCK"),
        ("SELECT RELEASE_LOCK(%s) > 0", "RELEASE_LOCK"),
        ("SELECT (RELEASE_LOCK('a') >= 1) AS ok", "RELEASE_LOCK"),
        ("SELECT RELEASE_LOCK('a') <> 0", "RELEASE_LOCK"),
        ("SELECT RELEASE_LOCK('a') != 0 freed", "RELEASE_LOCK"),
        ("SELECT RELEASE_LOCK('a') IS TRUE", "RELEASE_LOCK"),
        ("SELECT RELEASE_LOCK('a') <=> 1", "RELEASE_LOCK"),
        ("SELECT RELEASE_LOCK('a') = TRUE", "RELEASE_LOCK"),
        ("SELECT RELEASE_LOCK('a') >= 0", ""),
        ("SELECT RELEASE_LOCK('a') IS NOT NULL", ""),
        ("SELECT RELEASE_LOCK('a') > 0 OR 1", ""),
        ("SELECT GET_LOCK('a', 1", ""),
        ("SELECT 1; SELECT GET_LOCK('a', 1)", ""),
        ("DO GET_LOCK('a', 1)", ""),
        ("SELECT IS_FREE_LOCK('a')", ""),
    ],
)
def test_lone_lock_call_has_the_only_answer(sql: str, function: str) -> None:
    assert examine(sql).lone_lock_call == function


@pytest.mark.parametrize(
    ("sql", "asked"),
    [
        ("SELECT GET_LOCK('a', 1)", False),
        ("SELECT RELEASE_LOCK('a') > 0", False),
        ("DO RELEASE_LOCK('a'), RELEASE_LOCK('b')", False),
        ("DO RELEASE_ALL_LOCKS()", False),
        ("DO GET_LOCK('a', 0)", True),
        ("SELECT GET_LOCK('a', 0), GET_LOCK('b', 0)", True),
        ("SELECT GET_LOCK('a', 0), 1", True),
        ("SELECT RELEASE_LOCK('a') IS NOT NULL", True),
        ("SELECT NOT ISNULL(RELEASE_LOCK('a'))", True),
        ("SELECT RELEASE_LOCK('a') OR 0", True),
        ("SELECT CASE RELEASE_LOCK('a') WHEN 1 THEN 'x' ELSE 'y' END", True),
        ("SELECT IF(RELEASE_LOCK(%s), 'freed', 'not held')", True),
        ("SET @x = RELEASE_LOCK('a')", True),
        ("UPDATE t SET a = RELEASE_LOCK('a')", True),
        ("SELECT RELEASE_LOCK('a') FROM t", True),
        ("SELECT 1; SELECT RELEASE_LOCK('a'), 1", True),
        ("BEGIN NOT ATOMIC DO RELEASE_LOCK('a'); END", True),
        ("EXECUTE IMMEDIATE 'DO RELEASE_LOCK(''a'')'", True),
        ("DO RELEASE_LOCK('a') /*!80000 , 1 */", True),
        ("SELECT service_get_write_locks('a', 'b', 0), 1", False),
    ],
)
def test_server_is_asked_for_the_locks_whose_fate_no_answer_tells(sql: str, asked: bool) -> None:
    assert any(change.action is Action.ASK for change in examine(sql).changes) is asked


def test_procedure_called_through_the_driver_shows_nothing() -> None:
    assert examine_callproc("p") == Statement(calls=True, leaves=CALLED, repeatable=False)


def test_bytes_of_any_encoding_and_other_objects_are_examined() -> None:
    assert examine(b"SELECT GET_LOCK('\xff', 1)").changes[0].kind is Kind.NAMED_LOCK
    assert examine(bytearray(b"BEGIN")).enters_transaction
    assert examine(memoryview(b"BEGIN")).enters_transaction  # type: ignore[arg-type]
    assert examine(None).calls  # type: ignore[arg-type]


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


LONG = ", ".join(["(1, 'a@b', \"it's\", `d`, NULL, -5, %s, '')"] * 400)


@pytest.mark.parametrize("escaped", ["", r"'it\'s', ", r"'\\', "])
def test_nothing_is_overlooked_in_a_long_text(escaped: str) -> None:
    head = f"INSERT INTO t VALUES {escaped}{LONG}"
    assert examine(head) is PLAIN_INSERT
    lock = examine(f"{head}, (GET_LOCK(%s, 1)), {LONG}; SELECT @x")
    assert [change.kind for change in lock.changes] == [
        Kind.NAMED_LOCK,
        Kind.NAMED_LOCK,
        Kind.USER_VARIABLE,
    ]
    assert lock.changes[1].action is Action.ASK
    assert lock.changes[0].placeholder == 400
    assert not lock.single
    variable = examine(f"{head}, {LONG} ON DUPLICATE KEY UPDATE a = @x")
    assert [str(read) for read in variable.reads] == ["@x"]


@pytest.mark.parametrize(
    ("head", "part"),
    [
        ("SELECT @ ", "("),
        ("SELECT @r := ", "("),
        ("SELECT @r FROM ", "(SELECT @r := 0), "),
        ("SELECT @ ", "\\'"),
        ("DO ", "(GET_LOCK('a', "),
        ("EXECUTE IMMEDIATE '", "EXECUTE IMMEDIATE ''"),
        ("BEGIN NOT ATOMIC ", "EXECUTE IMMEDIATE 'BEGIN'; "),
        ("SELECT @ ", "GET_LOCK(%s, 0),"),
        ("SELECT @ ", "'"),
        ("SELECT @ ", "/*!99999 "),
        ("SELECT @ ", "`a`("),
        ("CALL p(@x, ", "%("),
        ("CALL p(@x, ", "GET_LOCK("),
        ("DROP TABLE ", "a."),
        ("BEGIN NOT ATOMIC ", "IF "),
        ("SET STATEMENT ", "FOR SET STATEMENT "),
        ("SET a = ", "''"),
        ("", "("),
        ("", "/**/"),
    ],
)
def test_hostile_text_takes_linear_time(head: str, part: str) -> None:
    began = perf_counter()
    examine(head + part * (20_000 // len(part)))
    assert perf_counter() - began < 1


def test_statements_are_values() -> None:
    statement = examine("SELECT @x")
    assert replace(statement) == statement
    with pytest.raises(AttributeError):
        statement.single = False  # type: ignore[misc]


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
    "read outside of it, where nobody knows when": (
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


@pytest.mark.parametrize(("sql", "reads", "sets"), ASSIGNMENTS.values(), ids=ASSIGNMENTS)
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


@pytest.mark.parametrize(("sql", "only", "sets", "depends"), SETS.values(), ids=SETS)
def test_statement_that_sets_says_what_it_sets_and_what_it_depends_on(
    sql: str, only: bool, sets: str, depends: str
) -> None:
    statement = examine(sql)
    named = {f"@{name}" if kind is Kind.USER_VARIABLE else name for kind, name in statement.sets}
    assert (statement.only_sets, named) == (only, {*sets.split()})
    assert {name for _, name in statement.depends} == {*depends.split()}


@pytest.mark.parametrize(
    "sql",
    [
        "LOAD DATA LOCAL INFILE 'f' INTO TABLE t",
        "load data low_priority local infile 'f' into table t",
        "LOAD XML CONCURRENT LOCAL INFILE 'f' INTO TABLE t",
        "/* nightly */ LOAD DATA /* from here */ LOCAL INFILE 'f' INTO TABLE t",
        "LOAD DATA /*!50000 LOCAL */ INFILE 'f' INTO TABLE t",
        "SET STATEMENT max_statement_time = 9 FOR LOAD DATA LOCAL INFILE 'f' INTO TABLE t",
        "TRUNCATE t; LOAD DATA LOCAL INFILE 'f' INTO TABLE t",
        b"LOAD DATA LOCAL INFILE 'f' INTO TABLE t",
    ],
)
def test_file_of_the_client_is_sent(sql: str | bytes) -> None:
    assert examine(sql).sends_file


@pytest.mark.parametrize(
    "sql",
    [
        "LOAD DATA INFILE 'f' INTO TABLE t",
        "SELECT 'LOAD DATA LOCAL INFILE'",
        "INSERT INTO t VALUES ('LOAD DATA LOCAL INFILE ''f''')",
        "CREATE TABLE local (data INT)",
    ],
)
def test_no_file_of_the_client_is_sent(sql: str) -> None:
    assert not examine(sql).sends_file
