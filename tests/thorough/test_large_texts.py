"""What a look at a large text costs: CPU time in proportion to it, and no more than its memory.

The measure is a yardstick, not milliseconds: a plain regular expression that passes over as much
text, timed in turn with what is tested. Both take twice as long on a machine half as fast. It is
CPU time and the best of several times, so that a busy machine does not matter either.
"""

from __future__ import annotations

import re
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from django_mysql_recycle.session_state import INSERTED, PLAIN, PLAIN_INSERT, Kind, examine, lexer
from django_mysql_recycle.session_state.statements import Action

MB = 1_000_000
SIZE = MB
#: Python 3.10 has no possessive repetitions.
OLD = sys.version_info < (3, 11)
#: How many times as long as the yardstick. It takes 5 ms for a megabyte where the documents'
#: numbers were measured. The dearest of these texts takes one yardstick, on Python 3.10 it takes 19.
ORDINARY = 35 if OLD else 2
#: Of a text made to be as dear as it can be, mostly of single signs: 10, on Python 3.10 34.
HOSTILE = 60 if OLD else 18


def text_of(parts: tuple[str, ...], size: int = SIZE) -> str:
    head, part, *rest = parts
    tail = "".join(rest)
    return head + part * ((size - len(head) - len(tail)) // len(part)) + tail


INSERT = "INSERT INTO t (a, b) VALUES "
ROWS = {
    "one literal with escaped quotes": (
        "INSERT INTO t VALUES ('",
        r"I\'ll be late; lock the door to a@b.example, ",
        "')",
    ),
    "rows with escaped quotes": (INSERT, r"(1, 'I\'ll be late; so', 'someone@b.example', NULL), "),
    "rows with addresses": (INSERT, "(12, 'name 12', 'user12@b.example', 'x', 5.25, NULL),\n"),
    "rows of parameters": (INSERT, "(%s, %s, %s), ", "('a@b')"),
    "rows of named parameters": (INSERT, "(%(first)s, %(second)s), ", "('a@b')"),
    "short literals": (INSERT, "(1,'a'),", "(2,'a@b')"),
    "shorter literals": (INSERT, "('@'),"),
    "doubled quotes": (INSERT, "('it''s @ x; y'), "),
    "double quotes": (INSERT, '("someone@b.example", "it\'s; so"), '),
    "a literal of backslashes": ("INSERT INTO t VALUES ('", r"\\", "@')"),
    "a hexadecimal literal": (f"{INSERT}(0x", "AB", ", '@')"),
    "a binary literal": (f"{INSERT}(_binary'", r"\0\'@;\n\\" + "x" * 30, "')"),
    "comments": (INSERT, "(1, 'a@b', 'something') /* it's @ row; */, "),
    "comments to the end of the line": (INSERT, "(1, 'a@b', 'something'), -- it's @ row; one\n"),
    "comments after a hash": (INSERT, "(1, 'a@b', 'something'), # it's @ row; one\n"),
    "names": ("SELECT 1 FROM t WHERE ", "`a`.`b` = 1 AND ", "c = '@'"),
    "numbers": ("SELECT 1 FROM t WHERE a IN (", "1, 23, 456, ", "'@')"),
    "words": ("SELECT ", "abcdefg, ", "'@'"),
    "other alphabets": (INSERT, "(1, 'é€😀 a@b; it\\'s'), "),
    "values": (INSERT + "('@') ON DUPLICATE KEY UPDATE ", "a = VALUES(a), "),
    "a literal that does not end": ("INSERT INTO t VALUES ('", "x@; "),
    "a name that does not end": ("INSERT INTO t VALUES (`", "x@; "),
    "a comment that does not end": ("INSERT INTO t VALUES ('@') /*", "x@; "),
}
OTHERS = {
    "an argument": ("CALL p('", "x@; ", "')"),
    "a text that runs": ("EXECUTE IMMEDIATE '", "SELECT 1, ", "'"),
    "a text that is prepared": ("PREPARE p FROM '", "SELECT 1, ", "'"),
    "user variables": ("SELECT ", "@x, ", "1"),
    "assignments": ("SET ", "@a = 1, ", "@b = 1"),
    "locks": ("SELECT ", "GET_LOCK(%s, 1), ", "1"),
    "locks after parameters": (INSERT, "(%s, 'abcdefghijklm'), ", "(GET_LOCK(%s, 1))"),
    "statements of all sorts": ("", "SET @x = 1; INSERT INTO t VALUES (1); LOCK TABLES t READ; "),
    "transactions": ("", "BEGIN; UPDATE t SET a = 1; COMMIT; "),
    "executable comments": (INSERT, "/*! 1 */, "),
    "a procedure": (
        "CREATE PROCEDURE p() BEGIN ",
        "SET @x = 1; IF 1 THEN BEGIN END; END IF; ",
        "END",
    ),
    "a compound statement": ("BEGIN NOT ATOMIC ", "IF 1 THEN SET @x = 1; END IF; ", "END"),
    "accounts": ("GRANT ALL ON *.* TO ", "u@localhost, ", "v@x"),
    "brackets": ("", "("),
    "blanks": ("", " ", "SELECT '@'"),
}
HOSTILE_ONES = {
    "empty literals": (INSERT, "'',", "'@'"),
    "escaped quotes alone": (INSERT, r"'\'',", "'@'"),
    "backslashes alone": (INSERT, r"'\\',", "'@'"),
    "an unending literal of quotes": ("INSERT INTO t VALUES ('@", r"\'x"),
    "an unending literal in double quotes": ('INSERT INTO t VALUES ("@', r"\"x"),
    "an unending comment of stars": ("INSERT INTO t VALUES ('@' /*", "x*"),
    "empty comments": (INSERT, "/**/", "'@'"),
    "signs": ("SELECT ", "1-1/1*", "'@'"),
    "underscores": ("SELECT ", "a_b_", "'@'"),
    "letters like those of a function": ("SELECT ", "v_", "'@'"),
    "names like those of functions": ("SELECT ", "x_lock, ", "'@'"),
    "names before brackets": ("SELECT ", "`a` (", "'@'"),
    "per cent": (INSERT, "%%", "GET_LOCK(%s, 1)"),
    "conditional comments": (INSERT, "/*!80000 1 */, 'x', "),
    "literals one after the other": ("SET a = ", "'' "),
    "half comments": ("SELECT '@', ", "*//*/"),
    "semicolons": ("SELECT 1", ";", "SELECT 1"),
}


def cases(shapes: dict[str, tuple[str, ...]], limit: int) -> Iterator[object]:
    for name, parts in shapes.items():
        yield pytest.param(parts, limit, id=name)


PLAIN_EXPRESSION = re.compile("'[^']*'|[^']+")
PLAIN_TEXT = text_of(ROWS["rows with addresses"], MB // 4)


def cpu_per_character(function: Callable[[], object], characters: int) -> float:
    began = time.thread_time()
    function()
    return (time.thread_time() - began) / characters


def cost(sql: str | bytes, limit: float) -> float:
    """How many times as long as the yardstick: the least of both, each timed several times.

    Other programs that share the machine's caches make single times longer.
    """
    least = yardstick = float("inf")
    for _ in range(50):
        for _ in range(2):
            spent = cpu_per_character(lambda: PLAIN_EXPRESSION.sub("", PLAIN_TEXT), MB // 4)
            yardstick = min(yardstick, spent)
        least = min(least, cpu_per_character(lambda: examine(sql), len(sql)))
        if least < limit * yardstick:
            break
    return least / yardstick


ALL = [*cases(ROWS, ORDINARY), *cases(OTHERS, ORDINARY), *cases(HOSTILE_ONES, HOSTILE)]


@pytest.mark.parametrize(("parts", "limit"), ALL)
def test_large_text_takes_time_in_proportion_to_its_length(
    parts: tuple[str, ...], limit: int
) -> None:
    assert cost(text_of(parts), limit) < limit


@pytest.mark.parametrize("name", ["rows with escaped quotes", "rows with addresses", "comments"])
def test_so_does_the_same_text_in_bytes(name: str) -> None:
    assert cost(text_of(ROWS[name]).encode(), ORDINARY) < ORDINARY


def peak_of(sql: str | bytes) -> float:
    """The most memory that a look at it takes, as a part of its own."""
    for following in range(3):
        lexer._stretch(True, False, following)  # compiled once
    tracemalloc.start()
    examine(sql)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / sys.getsizeof(sql)


@pytest.mark.skipif(OLD, reason="its regular expressions keep 200 bytes for each escaped quote")
@pytest.mark.parametrize(("parts", "limit"), ALL)
def test_look_at_a_large_text_takes_no_more_memory_than_the_text(
    parts: tuple[str, ...], limit: int
) -> None:
    # It is not copied, and of tokens there is a limited number.
    assert peak_of(text_of(parts)) < 0.8


@pytest.mark.skipif(OLD, reason="its regular expressions keep 200 bytes for each escaped quote")
@pytest.mark.parametrize("name", ["rows with escaped quotes", "other alphabets", "comments"])
def test_so_does_a_look_at_bytes_which_are_decoded(name: str) -> None:
    assert peak_of(text_of(ROWS[name]).encode()) < 1.5


@pytest.mark.parametrize("parts", [pytest.param(parts, id=name) for name, parts in ROWS.items()])
def test_large_ordinary_text_is_the_ordinary_statement(parts: tuple[str, ...]) -> None:
    text = text_of(parts, size=200_000)
    expected = PLAIN if text.startswith("SELECT") else PLAIN_INSERT
    assert examine(text) is expected
    assert examine(text.encode()) is expected


@pytest.mark.parametrize("size", [1_000, 40_000, 400_000])
@pytest.mark.parametrize(
    "parts", [pytest.param(parts, id=name) for name, parts in ROWS.items() if "not end" not in name]
)
def test_lock_behind_a_large_text_is_seen(parts: tuple[str, ...], size: int) -> None:
    text = text_of(parts, size=size)
    for lock in ("get_lock('l', 1)", "1 + `GET_LOCK` ('l', 1)", "(GET_LOCK/**/('l', 1))"):
        changes = examine(f"{text}, {lock}").changes
        assert [(c.action, c.name) for c in changes][:1] == [(Action.BEGIN, "l")]


def test_statements_of_a_large_text_are_separated_from_the_first_that_matters() -> None:
    inserts = "INSERT INTO t VALUES (1, 'a@b'); " * 4000
    several = examine(inserts)
    assert (several.single, several.leaves, several.changes) == (False, INSERTED, ())
    assert [c.kind for c in examine(inserts + "LOCK TABLES t READ").changes] == [Kind.TABLE_LOCK]
    assert examine(inserts + "SELECT a INTO @x FROM t").reads == ()
    assert [str(read) for read in examine(inserts + "SELECT @x").reads] == ["@x"]


def test_what_is_not_read_of_a_text_counts_as_unknown_state() -> None:
    text = "SELECT 1; " + "SET @x = 1; " * 20_000
    assert [c.kind for c in examine(text).changes][-1] is Kind.UNKNOWN
    assert examine(text).calls


@pytest.mark.parametrize(
    "parts",
    [
        ("CREATE TABLE t (", "`c` int NOT NULL COMMENT 'x@y; z', ", "d int)"),
        ("CREATE PROCEDURE p() BEGIN ", "SET @x = 1; ", "END"),
        ("DROP TABLE ", "a, ", "b"),
        ("ALTER TABLE t ", "ADD COLUMN a int, ", "ADD COLUMN b int;"),
    ],
)
def test_what_is_not_read_of_a_harmless_text_pins_nothing(parts: tuple[str, ...]) -> None:
    text = text_of(parts, size=400_000)
    assert not any(not change.ends for change in examine(text).changes)
