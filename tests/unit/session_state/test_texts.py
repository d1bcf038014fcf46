"""How a text is read: literals, comments, bodies of routines, and texts that statements run."""

from __future__ import annotations

from time import perf_counter

from django_mysql_recycle.session_state import PLAIN_INSERT, Kind, Reading, cache_get, examine
from django_mysql_recycle.session_state.statements import Action

from ..rows import each
from .claims import CHARACTER_SETS, claims, effects

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
    "or nothing that is written out": ("EXECUTE IMMEDIATE CONCAT('BEG', 'IN')", "+unknown state"),
    "or something behind a literal": (
        "EXECUTE IMMEDIATE 'SELECT ' || @what",
        "+unknown state",
        "+user variable what",
        "?@what",
    ),
    "or a variable": ("EXECUTE IMMEDIATE @s USING 1", "+unknown state", "+user variable s", "?@s"),
    "or a parameter": ("EXECUTE IMMEDIATE %s USING %s", "!unknown state %0"),
    "or a parameter and more": ("EXECUTE IMMEDIATE %s || ''", "+unknown state"),
    "or a name": ("BEGIN NOT ATOMIC DECLARE s TEXT; EXECUTE IMMEDIATE s; END", "+unknown state"),
    "or a text that runs another one": (
        "EXECUTE IMMEDIATE 'BEGIN NOT ATOMIC EXECUTE IMMEDIATE CONCAT(''BEG'', ''IN''); END'",
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
    "whatever it consists of": (
        """CREATE TRIGGER r BEFORE INSERT ON t FOR EACH ROW
        IF NEW.a THEN SET NEW.a = 1; SET NEW.b = 2; ELSE SET NEW.a = 3; END IF""",
    ),
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
    "so may a loop": ("FOR i IN 1..3 DO START TRANSACTION; END FOR", "+transaction"),
    "a column called begin is no block": (
        "SELECT begin FROM t; LOCK TABLES t READ",
        "+table lock tables",
    ),
}


@claims(OTHERS | TEXT | BODIES)
def test_text_does_this(sql: str, expected: list[str]) -> None:
    assert effects(sql) == expected


NO_ESCAPES = Reading(escapes=False)

ANSI = Reading(ansi=True)


@each(
    [
        (NO_ESCAPES, r"SELECT 'a\', GET_LOCK(1, 1), '@'", ["++named lock <1>"]),
        (NO_ESCAPES, r"DO '\' + RELEASE_ALL_LOCKS() -- '", []),
        (NO_ESCAPES, r"DO '\', RELEASE_ALL_LOCKS() -- '", []),
        (NO_ESCAPES, r"SELECT GET_LOCK('a\\b', 1)", [r"+named lock a\\b"]),
        (NO_ESCAPES, r'''SELECT "\", @x, "\\"''', ["+user variable x", "?@x"]),
        (ANSI, r'''SELECT "\" , @x , "\\'" -- "''', ["+user variable x", "?@x"]),
        (ANSI, r"SELECT '\', @x , \'@'", []),
        (ANSI, 'SELECT "get_lock"(\'a\', 1), "x"', ["++named lock a"]),
    ]
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


@each(
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
        ("IF 1 THEN SELECT 1; ELSE SELECT 2; END IF", True),
        ("FOR i IN 1..2 DO SELECT 1; SELECT 2; END FOR", True),
        ("WHILE (0) DO REPEAT SELECT 1; UNTIL 1 END REPEAT; END WHILE; SELECT 2", False),
        ("CREATE PROCEDURE p() IF 1 THEN SELECT 1; END IF", True),
        ("CREATE PROCEDURE p() BEGIN a: LOOP LEAVE a; END LOOP a; END", True),
        ("CREATE PROCEDURE p() BEGIN CASE 1 WHEN 1 THEN SELECT 1; END CASE; END; DO 1", False),
        (
            "CREATE EVENT e DO SELECT CASE 1 WHEN 2 THEN IF(1, 2, 3) ELSE REPEAT(4, 5) END; DO 1",
            False,
        ),
        ("CREATE EVENT e DO DROP TABLE IF EXISTS t; DO 1", False),
        ("CREATE FUNCTION f() RETURNS INT RETURN IF(1, 2, 3); DO 1", False),
        ("CREATE VIEW v AS SELECT IF(1, 2, 3); DO 1", False),
        ("BEGIN; SELECT 1", False),
        ("SELECT CASE 1 WHEN 2 THEN 3 END; SELECT 1", False),
    ]
)
def test_single_is_one_statement_in_the_text(sql: str, single: bool) -> None:
    assert examine(sql).single is single


LONG = ", ".join(["(1, 'a@b', \"it's\", `d`, NULL, -5, %s, '')"] * 400)


@each(["", r"'it\'s', ", r"'\\', "])
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


@each(
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
    ]
)
def test_hostile_text_takes_linear_time(head: str, part: str) -> None:
    began = perf_counter()
    examine(head + part * (20_000 // len(part)))
    assert perf_counter() - began < 1
