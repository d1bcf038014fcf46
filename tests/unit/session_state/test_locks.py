"""Which locks a statement takes and releases, by its text and by its answer."""

from __future__ import annotations

from django_mysql_recycle.session_state import examine
from django_mysql_recycle.session_state.statements import Action

from ..rows import each
from .claims import claims, effects

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
    "one released, one taken": ("SELECT RELEASE_LOCK('a'), GET_LOCK('b', 1)", "++named lock b"),
    "several released": ("DO RELEASE_LOCK('a'), `release_lock`(%s)",),
    "released and named": ("SELECT RELEASE_LOCK('a') AS a FROM dual", "-named lock a"),
    "released within a function": ("DO COALESCE(RELEASE_LOCK('a'), 0)",),
    "all released within brackets": ("SELECT (RELEASE_ALL_LOCKS())",),
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
    "taken within functions": ("DO IF(IFNULL(GET_LOCK('a', 1), 0), 1, 0)", "++named lock a"),
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
    "and compared": ("SELECT service_release_locks('ns') > 0", "-service lock ns"),
    "perhaps released there": ("SELECT 0 AND service_release_locks('ns')",),
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


@claims(NAMED_LOCKS)
def test_function_of_locks_does_this(sql: str, expected: list[str]) -> None:
    assert effects(sql) == expected


@each(
    [
        ("SELECT GET_LOCK('a', 1)", "GET_LOCK"),
        ("SELECT get_lock(%s, %s) AS got /* x */;", "GET_LOCK"),
        ("SELECT `release_lock`('a') got FROM dual", "RELEASE_LOCK"),
        ("select release_all_locks()", "RELEASE_ALL_LOCKS"),
        ("SELECT GET_LOCK(CONCAT('a', (SELECT 1)), 1)", "GET_LOCK"),
        ("SELECT COALESCE(GET_LOCK(%s, %s), 0)", ""),
        ("SELECT IFNULL(RELEASE_LOCK('a'), 0) AS freed", ""),
        ("SELECT IF(`get_lock`('a', 1), 1, 0) got FROM dual", ""),
        ("SELECT (GET_LOCK('a', 1) = 1)", ""),
        ("SELECT IF(COALESCE(GET_LOCK('a', 1), 0) = 1, 1, 0)", ""),
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
        ("SELECT RELEASE_LOCK(%s) > 0", ""),
        ("SELECT (RELEASE_LOCK('a') >= 1) AS ok", ""),
        ("SELECT RELEASE_LOCK('a') <> 0", ""),
        ("SELECT RELEASE_LOCK('a') != 0 freed", ""),
        ("SELECT RELEASE_LOCK('a') IS TRUE", ""),
        ("SELECT RELEASE_LOCK('a') <=> 1", ""),
        ("SELECT RELEASE_LOCK('a') = TRUE", ""),
        ("SELECT RELEASE_LOCK('a') >= 0", ""),
        ("SELECT RELEASE_LOCK('a') IS NOT NULL", ""),
        ("SELECT RELEASE_LOCK('a') > 0 OR 1", ""),
        ("SELECT GET_LOCK('a', 1", ""),
        ("SELECT 1; SELECT GET_LOCK('a', 1)", ""),
        ("DO GET_LOCK('a', 1)", ""),
        ("SELECT IS_FREE_LOCK('a')", ""),
    ]
)
def test_lone_lock_call_has_the_only_answer(sql: str, function: str) -> None:
    assert examine(sql).lone_lock_call == function


@each(
    [
        ("SELECT GET_LOCK('a', 1)", False),
        ("SELECT RELEASE_LOCK('a') > 0", True),
        ("DO RELEASE_LOCK('a'), RELEASE_LOCK('b')", True),
        ("DO RELEASE_LOCK('a')", False),
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
    ]
)
def test_server_is_asked_for_the_locks_whose_fate_no_answer_shows(sql: str, asked: bool) -> None:
    assert any(change.action is Action.ASK for change in examine(sql).changes) is asked
