"""What must hold for any text, and for any way to write the same statement."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from django_mysql_recycle.session_state import (
    PLAIN,
    PLAIN_INSERT,
    Kind,
    SessionState,
    Statement,
    examine,
)
from django_mysql_recycle.session_state.meaning import judge
from django_mysql_recycle.session_state.statements import Action

# As many examples as the profile says; a deadline would measure the machine.
unhurried = settings(deadline=None)

#: Statements that pin, read or end something, cut where blanks and comments may stand.
MARKED = [
    "SELECT GET_LOCK ( 'a' , 10 )",
    "SELECT 1 FROM t WHERE b = %s AND GET_LOCK ( %s , 0 ) = 1",
    "INSERT INTO t SELECT GET_LOCK ( CONCAT ( %s , 'x' ) , 1 )",
    'DO RELEASE_LOCK ( "a" )',
    "SELECT RELEASE_ALL_LOCKS ( )",
    "SELECT LAST_INSERT_ID ( )",
    "INSERT INTO child VALUES ( LAST_INSERT_ID ( ) , 2 )",
    "SELECT FOUND_ROWS ( ) , ROW_COUNT ( )",
    "SELECT @x , a",
    "SELECT a , b INTO @x , @`y` FROM t",
    "SET @x = 5 , sql_mode = ''",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET GLOBAL a = 1 , SESSION b = 2 , autocommit = 1",
    "SET NAMES 'utf8mb4'",
    "SET FOREIGN_KEY_CHECKS = 0",
    "LOCK TABLES t WRITE",
    "UNLOCK TABLES",
    "FLUSH TABLES t WITH READ LOCK",
    "CREATE TEMPORARY TABLE IF NOT EXISTS s . `t` ( a int )",
    "DROP TEMPORARY TABLE t , `u`",
    "BEGIN WORK",
    "START TRANSACTION READ ONLY",
    "XA START 'x'",
    "COMMIT AND CHAIN",
    "ROLLBACK",
    "BEGIN ; INSERT INTO t VALUES ( 1 ) ; ROLLBACK",
    "PREPARE p FROM 'DO(1)'",
    "DEALLOCATE PREPARE p",
    "HANDLER t OPEN AS h",
    "USE other",
    "SHOW WARNINGS",
    "GET DIAGNOSTICS @n = NUMBER",
    "SELECT @r := @r + 1 FROM t , ( SELECT @r := 0 , @s := NULL ) x",
    "SET @a = 1 , @b = 'x' , @c = @a",
    "DROP TEMPORARY TABLE IF EXISTS t , `u`",
    "SELECT LASTVAL ( s ) , NEXTVAL ( s ) , PREVIOUS VALUE FOR s",
    "SET @a = 1 ; SELECT @a , @@last_gtid ; SELECT FOUND_ROWS ( )",
]
PLAIN_ONES = [
    "SELECT a , b FROM t WHERE c = %s ORDER BY a",
    "UPDATE t SET a = a - 1 WHERE b = 'x'",
    "INSERT INTO t ( a , b ) VALUES ( %s , 'x' )",
    "( SELECT 1 ) UNION ( SELECT 2 )",
    "DELETE FROM t",
    "CREATE PROCEDURE p ( ) BEGIN START TRANSACTION ; COMMIT ; END",
]

#: What stands between two words for the server; none of it may be mistaken for code.
HIDDEN = [
    "GET_LOCK('a', 1)",
    "; BEGIN;",
    "@x",
    "@@warning_count",
    "LAST_INSERT_ID()",
    "LOCK TABLES t",
    "SET autocommit = 0",
    "wait",
]
BLANKS = st.sampled_from(
    [" ", "  ", "\n", "\t", "\r\n", "/**/", " /* ' */ ", ' /* " ` */ ', " -- '\n", ' # "\n', "--\n"]
    + [f"/* {text} */" for text in HIDDEN]
    + [f" -- {text}\n" for text in HIDDEN]
    + [f"\n# {text}\n" for text in HIDDEN]
    + [f"/*+ {text} */" for text in HIDDEN]
)


@st.composite
def respelled(draw: st.DrawFn, statements: list[str]) -> tuple[str, str]:
    """A statement as it stands in the list, and in other case, with other blanks and comments."""
    original = draw(st.sampled_from(statements))
    randomly = draw(st.randoms(use_true_random=False))
    spelled = []
    for word in original.split(" "):
        if word.isupper() and "'" not in word and '"' not in word:
            word = "".join(randomly.choice((c.upper(), c.lower())) for c in word)
        spelled.append(word)
    text = draw(BLANKS) if draw(st.booleans()) else ""
    return original, text + "".join(word + draw(BLANKS) for word in spelled)


@given(respelled(MARKED))
@unhurried
def test_case_blanks_and_comments_change_nothing(pair: tuple[str, str]) -> None:
    original, text = pair
    expected, found = examine(original), examine(text)
    assert found == expected
    assert expected not in (PLAIN, PLAIN_INSERT)


@given(respelled(PLAIN_ONES))
@unhurried
def test_ordinary_statement_stays_ordinary_however_it_is_written(pair: tuple[str, str]) -> None:
    original, text = pair
    assert examine(original) is examine(text)
    assert examine(text) in (PLAIN, PLAIN_INSERT)


def quoted(text: str, quote: str) -> str:
    return quote + text.replace(quote, quote * 2) + quote


LITERALS = [quoted(text, quote) for text in HIDDEN for quote in "'\"`"]
LITERALS += [f"N'{text}'" for text in ("@x", "; BEGIN")] + ["_utf8mb4'@x'", "x'40'", "'''@x'"]


@given(
    st.sampled_from(["SELECT {} , 1", "UPDATE t SET a = {}", "INSERT INTO t VALUES ( {} , 2 )"]),
    st.lists(st.sampled_from(LITERALS), min_size=1, max_size=4),
    st.sampled_from([", ", ",", " /* ' */ , ", "\n,\t"]),
)
@unhurried
def test_what_stands_in_literals_and_quoted_names_is_no_code(
    template: str, literals: list[str], comma: str
) -> None:
    statement = examine(template.format(comma.join(literals)))
    assert statement is (PLAIN_INSERT if template.startswith("INSERT") else PLAIN)


FRAGMENTS = [
    *("'", '"', "`", "\\", "@", "@@", ";", "(", ")", ",", ".", "=", ":=", "*", "/", "/*", "*/"),
    *("/*!", "/*!80000 ", "/*M!", "--", "-- ", "#", "\n", " ", "%s", "%(a)s", "%", "\0", "é"),
    *("SELECT ", "INSERT INTO t ", "SET ", "SET STATEMENT ", "FOR ", "GLOBAL ", "autocommit", "1"),
    *("GET_LOCK", "RELEASE_LOCK(", "LAST_INSERT_ID(", "BEGIN ", "NOT ATOMIC ", "END ", "CASE "),
    *("CREATE ", "TEMPORARY ", "TABLE ", "PROCEDURE ", "DROP ", "t", "HANDLER ", "OPEN ", "XA "),
    *("COMMIT ", "AND CHAIN ", "LOAD ", "CALL ", "INTO ", "SHOW ", "COUNT(*) ", "WARNINGS "),
]
CHARACTERS = st.integers(0, 0x10FFFF).map(chr)
SOUP = st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join)
TEXT = st.lists(st.one_of(st.sampled_from(FRAGMENTS), CHARACTERS), max_size=25).map("".join)


@given(TEXT)
@unhurried
def test_any_text_is_examined_and_bytes_as_their_text(text: str) -> None:
    statement = examine(text)
    assert isinstance(statement, Statement)
    if text.isprintable():  # so that it has no surrogates, which no driver sends
        assert examine(text.encode()) == statement
        assert examine(bytearray(text.encode())) == statement


@given(st.binary(max_size=40))
@unhurried
def test_any_bytes_are_examined(sql: bytes) -> None:
    assert isinstance(examine(sql), Statement)


@given(
    SOUP,
    st.sampled_from(["SELECT ", "select 1 ", "UPDATE t ", "(SELECT ", "WITH a ", "SAVEPOINT "]),
)
@unhurried
def test_short_look_and_careful_look_agree(text: str, head: str) -> None:
    assert examine(head + text) == judge(head + text)


@pytest.mark.parametrize("seed", range(3))
def test_neighbours_do_not_hide_a_lock(seed: int) -> None:
    randomly = random.Random(seed)
    for _ in range(50):
        items = randomly.choices([*LITERALS, "1", "a", "-1", "2*3", "b /* c */", "%s"], k=5)
        items.insert(randomly.randrange(5), "GET_LOCK('k', 1)")
        changes = examine("SELECT " + ", ".join(items)).changes
        assert [(change.action, change.kind) for change in changes][:1] == [
            (Action.BEGIN, Kind.NAMED_LOCK)
        ]
        assert {change.kind for change in changes} == {Kind.NAMED_LOCK}


LOCKS = st.sampled_from(["a", "b", "it's"])


class NamedLocks(RuleBasedStateMachine):
    """Against the server's rules: a lock is held as often as it was taken and not released."""

    def __init__(self) -> None:
        super().__init__()
        self.state = SessionState()
        self.held: Counter[str] = Counter()

    @rule(name=LOCKS, granted=st.sampled_from([1, 0, None]))
    def take(self, name: str, granted: int | None) -> None:
        self.state.answer(examine("SELECT GET_LOCK(%s, 0)"), [name], granted, 0.0)
        self.held[name] += granted == 1

    @rule(name=LOCKS)
    def take_unseen(self, name: str) -> None:
        self.state.apply(examine("DO GET_LOCK(%(n)s, 0)"), {"n": name}, 0.0)
        self.held[name] += 1

    @rule(name=LOCKS, rows=st.integers(0, 3))
    def take_for_each_row(self, name: str, rows: int) -> None:
        self.state.apply(examine("UPDATE t SET a = GET_LOCK(%(n)s, 0)"), {"n": name}, 0.0)
        self.held[name] += rows

    @rule(name=LOCKS, rows=st.integers(0, 3))
    def release_for_each_row(self, name: str, rows: int) -> None:
        self.state.apply(examine("SELECT RELEASE_LOCK(%s) FROM t"), [name], 0.0)
        self.held[name] = max(0, self.held[name] - rows)

    @rule(name=LOCKS, seen=st.booleans())
    def release(self, name: str, seen: bool) -> None:
        literal = name.replace("'", "''")
        released = int(self.held[name] > 0)
        if seen:
            self.state.answer(examine(f"SELECT RELEASE_LOCK('{literal}')"), None, released, 0.0)
        else:
            self.state.apply(examine(f"DO RELEASE_LOCK('{literal}')"), None, 0.0)
        self.held[name] -= released

    @rule()
    def release_all(self) -> None:
        self.state.apply(examine("DO RELEASE_ALL_LOCKS()"), None, 0.0)
        self.held.clear()

    @rule()
    def end_unit_of_work(self) -> None:
        self.state.end_unit_of_work()

    @rule()
    def commit(self) -> None:
        self.state.apply(examine("COMMIT"), None, 0.0)

    @rule()
    def asked(self) -> None:
        self.answer_for(self.state)

    def answer_for(self, state: SessionState) -> None:
        """What the server answers."""
        asked = state.locks_to_ask_for()
        state.locks_answered({key: self.held[str(key[1])] > 0 for key in asked})  # type: ignore[index]

    @invariant()
    def pinned_while_a_lock_is_held(self) -> None:
        held = [name for name, count in self.held.items() if count]
        assert self.state.describe(0.0).count("named lock") >= len(held)
        reported = self.state.copy()
        self.answer_for(reported)
        assert reported.pinned == bool(held)
        assert reported.describe(0.0).count("named lock") == len(held)
        assert not reported.doubtful


TestNamedLocks = NamedLocks.TestCase
TestNamedLocks.settings = settings(stateful_step_count=20, deadline=None)
