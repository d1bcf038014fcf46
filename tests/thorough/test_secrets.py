"""No message and no repr shows what a literal or a parameter contains, except a lock's name."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from django_mysql_recycle.session_state import Kind, Reading, SessionState, examine
from django_mysql_recycle.session_state.statements import Action, Change, Statement

unhurried = settings(deadline=None)

#: Of letters alone, so that it can be a piece of anything.
SECRET = "hunter"

#: What stands around a secret in a literal; some of it would be code in another sql_mode.
AROUND = [
    *("{}", "x@{}.example", "{}@{}.example", r"I\'ll @{}", r"\'; SET @{} = 1; --", "''@{}"),
    *(r"\\", r"a\', @{}, \'", r"\"@{}\"", "; LOCK TABLES {} READ; ", "/* {} */", "`{}`", "@'{}'"),
    *(r"it\'s GET_LOCK(@{}, 1)", "' 'GET_LOCK", "CREATE TEMPORARY TABLE {}", "/*!80000 {} */"),
]
STATEMENTS = [
    "SELECT {}",
    "INSERT INTO t VALUES (1, {}, {}), (2, {}, %s)",
    "UPDATE t SET a = {} WHERE b = {}",
    "SELECT {} INTO @x",
    "SELECT a FROM t WHERE b = {} AND GET_LOCK(MD5({}), 1)",
    "SELECT GET_LOCK(CONCAT({}, %s), 1)",
    "SELECT GET_LOCK((SELECT id FROM t WHERE a = {}), 1)",
    "SELECT RELEASE_LOCK({}) + 0",
    "SELECT service_get_write_locks({}, {}, 1)",
    "SELECT version_tokens_lock_shared({}, 1)",
    "SET @x = {}",
    "SET sql_mode = {}, time_zone = {}",
    "SET {} = {}",
    "SET NAMES {}",
    "SET PASSWORD FOR {}@{} = {}",
    "CALL p({}, @y)",
    "EXECUTE IMMEDIATE {}",
    "EXECUTE IMMEDIATE CONCAT({}, %s)",
    "EXECUTE IMMEDIATE %s USING {}",
    "PREPARE p FROM {}",
    "PREPARE p FROM {}; EXECUTE p USING {}",
    "CREATE TEMPORARY TABLE t AS SELECT {}",
    "CREATE TEMPORARY TABLE {} (a int)",
    "HANDLER {} OPEN AS {}",
    "LOCK TABLES {} READ",
    "XA START {}",
    "USE {}",
    "SELECT @{}, @@{}",
    "LOAD DATA INFILE {} INTO TABLE t (a, @b) SET c = {}",
    "BEGIN NOT ATOMIC SET @x = {}; EXECUTE IMMEDIATE {}; END",
    "SELECT {}; SET @x = {}; SELECT nonsense {}",
]
READINGS = [Reading(), Reading(escapes=False), Reading(ansi=True)]

literals = st.builds(
    lambda quote, parts: quote + "".join(parts).replace("{}", SECRET) + quote,
    st.sampled_from("'\""),
    st.lists(st.sampled_from(AROUND), min_size=1, max_size=4),
)
texts = st.builds(
    lambda text, values: text.format(*values),
    st.sampled_from(STATEMENTS),
    st.lists(literals, min_size=4, max_size=4),
)
PARAMETERS = [f"{SECRET}", f"SELECT GET_LOCK(MD5('{SECRET}'), 1), @'{SECRET}'", None]


def shown(state: SessionState, statement: Statement) -> str:
    """Everything that a message, a signal, the log or a traceback can show of it."""
    return " ".join([state.describe(0.0), repr(state), *state.kinds(), repr(statement)])


@given(st.lists(texts, min_size=1, max_size=4), st.sampled_from(READINGS), st.data())
@unhurried
def test_secret_in_a_literal_is_never_shown(
    sql: list[str], reading: Reading, data: st.DataObject
) -> None:
    state = SessionState()
    statement = examine("; ".join(sql), reading)
    args = data.draw(st.lists(st.sampled_from(PARAMETERS), min_size=9, max_size=9))
    way = data.draw(st.sampled_from(["succeeded", "failed", "many"]))
    if way == "succeeded":
        state.apply(statement, args, 0.0)
    else:
        state.apply_begins(statement, args, 0.0, many=way == "many")
    if reads_as_the_server_does(sql, reading):
        assert SECRET not in shown(state, statement)


def reads_as_the_server_does(sql: list[str], reading: Reading) -> bool:
    """Whether what stands in a literal is one: a text is misread in the sql_mode of another session.

    Then what looks like a variable's name is a piece of it.
    """
    return all(_closes(text, reading) for text in sql)


def _closes(text: str, reading: Reading) -> bool:
    return reading == Reading() or ("\\" not in text and (not reading.ansi or '"' not in text))


@given(st.text(min_size=1, max_size=20), st.text(max_size=20))
@unhurried
def test_lock_is_shown_by_its_name_alone(name: str, other: str) -> None:
    state = SessionState()
    state.apply(examine("SELECT GET_LOCK(%s, %s), %s"), [name, 0, f"{SECRET}{other}"], 0.0)
    shown = name if len(name) <= 80 else name[:80] + "..."
    assert repr(shown) in state.describe(0.0)
    assert SECRET in name or SECRET not in state.describe(0.0)


def test_every_kind_has_a_sentence() -> None:
    for kind in Kind:
        state = SessionState()
        if kind is Kind.BY_HAND:
            state.hold("", 0.0)
        else:
            name = "" if kind is Kind.NAMED_LOCK else "n"
            state._begin(Change(Action.BEGIN, kind, name, uncounted=True), None, 0.0)
        assert state.kinds() == (kind.value.label,)
        assert state.describe(0.0)
