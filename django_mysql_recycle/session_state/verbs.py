"""What the verb of a statement does to the session.

A verb that is not known leaves state that is not known, until the end of the unit of work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from .kinds import CALLED, INSERTED, Answer, Kind
from .lexer import Token, TokenKind, dotted_name, split_at_commas, words_of
from .set_statement import judge_set
from .statements import (
    PLAIN,
    PLAIN_INSERT,
    RUNS_UNKNOWN,
    Action,
    Change,
    Read,
    Statement,
    begins_of,
    together,
)

__all__ = ["BEFORE_INNER_STATEMENT", "COMPOUND", "is_stored", "judge_verb"]

#: MariaDB runs these outside stored routines too.
COMPOUND = frozenset({"IF", "CASE", "LOOP", "WHILE", "REPEAT", "FOR", "DECLARE"})
BEFORE_INNER_STATEMENT = {"BEGIN", "ATOMIC", "THEN", "ELSE", "DO", "LOOP", "REPEAT", ";", ":"}

_STORED = {"PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "VIEW", "PACKAGE"}
_OBJECTS = _STORED | {
    *("DATABASE", "INDEX", "ROLE", "SCHEMA", "SEQUENCE", "SERVER"),
    *("TABLE", "TABLES", "TABLESPACE", "USER"),
}


def is_stored(words: Sequence[str]) -> bool:
    """A definition whose body is code that runs later."""
    return words[:1] in (["CREATE"], ["ALTER"]) and _object_of(words)[0] in _STORED


def _object_of(words: Sequence[str]) -> tuple[str, int]:
    """What CREATE, ALTER, DROP or RENAME is about, and where its name begins."""
    for index, word in enumerate(words[:20], 1):
        if word in _OBJECTS:
            while words[index : index + 1] in (["IF"], ["NOT"], ["EXISTS"]):
                index += 1
            return word, index
    return "", len(words)


def judge_verb(tokens: Sequence[Token], inside: bool = False) -> Statement:
    """The statement's own doing; inside a compound statement another one is only its beginning."""
    stated = words_of(tokens[:2]) == ["SET", "STATEMENT"]
    if stated:  # MariaDB: for the one statement after FOR
        tokens = _after_for(tokens)
    words = words_of(tokens[:_LONGEST_KNOWN])
    if inside and words[:1] and (words[0] in COMPOUND or words[0] == "BEGIN"):
        return PLAIN
    for length in range(len(words), 0, -1):
        known = _KNOWN.get(" ".join(words[:length]))
        if known is not None:
            meaning = known if isinstance(known, Statement) else known(tokens)
            return replace(meaning, sets=frozenset(), only_sets=False) if stated else meaning
    # The parts of a compound statement need not begin with a verb.
    return PLAIN if inside or not tokens else _UNKNOWN


def _after_for(tokens: Sequence[Token]) -> Sequence[Token]:
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.word == "(") - (token.word == ")")
        if token.word == "FOR" and not depth:
            return tokens[index + 1 :]
    return ()


def _does(action: Action, kind: Kind, name: str = "") -> Statement:
    return Statement(changes=(Change(action, kind, name),))


def _named(action: Action, kind: Kind, tokens: Sequence[Token], *, lower: bool = True) -> Statement:
    """A change of what the tokens begin with the name of."""
    name, rest = dotted_name(tokens)
    # With ANSI_QUOTES a name. Without, a literal, which no server takes there.
    hidden = any(token.kind is TokenKind.DOUBLE for token in tokens[: len(tokens) - len(rest)])
    return Statement(changes=(Change(action, kind, name.lower() if lower else name, hidden),))


_OPAQUE = Statement(calls=True, leaves=CALLED, repeatable=False)
_UNKNOWN = replace(_OPAQUE, changes=(RUNS_UNKNOWN,))
_NEVER_TWICE = Statement(repeatable=False)
_BEGUN = _does(Action.BEGIN, Kind.TRANSACTION)
_ENDED = replace(_does(Action.END, Kind.TRANSACTION), repeatable=False, ends_transaction=True)
_TABLES_LOCKED = _does(Action.BEGIN, Kind.TABLE_LOCK, "tables")


def _judge_begin(tokens: Sequence[Token]) -> Statement:
    if words_of(tokens[:2]) in (["BEGIN"], ["BEGIN", "WORK"]):
        return replace(_BEGUN, enters_transaction=True)
    return _judge_compound(tokens)


def _judge_compound(tokens: Sequence[Token]) -> Statement:
    """Which branches run is not known: what begins somewhere inside counts, what ends does not."""
    inner: list[Statement] = [_OPAQUE]
    start = 1
    for index in range(1, len(tokens) + 1):
        if index == len(tokens) or tokens[index].word in BEFORE_INNER_STATEMENT:
            inner.append(judge_verb(tokens[start:index], inside=True))
            start = index + 1
    meaning = together(inner)
    begins = tuple(change.in_doubt() for change in begins_of(meaning.changes))
    return replace(meaning, changes=begins, enters_transaction=False, ends_transaction=False)


def _judge_start(tokens: Sequence[Token]) -> Statement:
    read_only = ("READ", "ONLY") in pairwise(words_of(tokens))
    return replace(_BEGUN, enters_transaction=True, read_only=read_only)


def _judge_transaction_end(tokens: Sequence[Token]) -> Statement:
    words = words_of(tokens)
    if "TO" in words:
        return _NEVER_TWICE  # ROLLBACK TO a savepoint
    if ("AND", "CHAIN") in pairwise(words):
        return replace(_ENDED, changes=(*_ENDED.changes, *_BEGUN.changes))
    return _ENDED


def _judge_create(tokens: Sequence[Token]) -> Statement:
    words = words_of(tokens)
    _, index = _object_of(words)
    if "TEMPORARY" not in words[:index]:
        return PLAIN
    name, rest = dotted_name(tokens[index:])
    created = _named(Action.BEGIN, Kind.TEMPORARY_TABLE, tokens[index:], lower=False)
    # MariaDB: whatever the table was before, unless it is made of itself.
    if words[1:3] == ["OR", "REPLACE"] and all(name.rpartition(".")[2] != t.text for t in rest):
        return replace(created, sets=frozenset({(Kind.TEMPORARY_TABLE, name)}))
    return created


def _judge_drop(tokens: Sequence[Token]) -> Statement:
    words = words_of(tokens[:5])
    what, index = _object_of(words_of(tokens))
    if what not in ("TABLE", "TABLES", "SEQUENCE"):
        return PLAIN
    names = [dotted_name(one)[0] for one in split_at_commas(tokens[index:])]
    ends = tuple(Change(Action.END, Kind.TEMPORARY_TABLE, name) for name in names if name)
    # Without TEMPORARY it would drop another table of that name where this one is lost.
    if words[1:] != ["TEMPORARY", "TABLE", "IF", "EXISTS"]:
        return Statement(changes=ends)
    sets = frozenset((Kind.TEMPORARY_TABLE, name) for name in names)
    return Statement(changes=ends, sets=sets, only_sets=True)


def _judge_alter(tokens: Sequence[Token]) -> Statement:
    words = words_of(tokens)
    what, index = _object_of(words)
    renamed = any(
        word == "RENAME" and after not in ("COLUMN", "INDEX", "KEY", "CONSTRAINT")
        for word, after in pairwise((*words, ""))
    )
    if not renamed or what not in ("TABLE", "TABLES"):
        return PLAIN
    names = [dotted_name(one)[0] for one in split_at_commas(tokens[index:])]
    if words[0] == "ALTER":
        names = names[:1]  # what follows is to be changed
    return together(_does(Action.RENAME, Kind.TEMPORARY_TABLE, name) for name in names if name)


def _judge_execute(tokens: Sequence[Token]) -> Statement:
    return replace(_OPAQUE, changes=_named(Action.RUN, Kind.PREPARED, tokens[1:]).changes)


def _judge_prepare(tokens: Sequence[Token]) -> Statement:
    return _named(Action.BEGIN, Kind.PREPARED, tokens[1:])


def _judge_deallocate(tokens: Sequence[Token]) -> Statement:
    return _named(Action.END, Kind.PREPARED, tokens[2:])


def _judge_flush(tokens: Sequence[Token]) -> Statement:
    pairs = pairwise(words_of(tokens))
    return _TABLES_LOCKED if {("READ", "LOCK"), ("FOR", "EXPORT")} & set(pairs) else PLAIN


def _judge_handler(tokens: Sequence[Token]) -> Statement:
    table, rest = dotted_name(tokens[1:])
    match words_of(rest[:2]):
        case ["OPEN"]:
            return _does(Action.BEGIN, Kind.HANDLER, table.rpartition(".")[2].lower())
        case ["OPEN", as_]:
            return _named(Action.BEGIN, Kind.HANDLER, rest[1 + (as_ == "AS") :])
        case ["CLOSE", *_]:
            return _named(Action.END, Kind.HANDLER, tokens[1:])
    return PLAIN


def _judge_load(tokens: Sequence[Token]) -> Statement:
    # LOCAL: the client has read its file, or half of it.
    local = "LOCAL" in words_of(tokens)
    return Statement(leaves=INSERTED, repeatable=not local, sends_file=local)


def _judge_analyze(tokens: Sequence[Token]) -> Statement:
    # MariaDB's ANALYZE runs the statement that it explains.
    inserts = not {"INSERT", "REPLACE"}.isdisjoint(words_of(tokens[1:6]))
    return PLAIN_INSERT if inserts else PLAIN


def _judge_use(tokens: Sequence[Token]) -> Statement:
    name = tokens[1].text if len(tokens) == 2 and tokens[1].may_be_name else ""
    if name and tokens[1].kind is not TokenKind.WORD:
        quote = '"' if tokens[1].kind is TokenKind.DOUBLE else "`"
        name = name.replace(quote * 2, quote)
    change = Change(Action.BEGIN, Kind.DEFAULT_DATABASE, name, uncounted=not name)
    return Statement(changes=(change,), only_sets=bool(name))


def _asks(answer: Answer, name: str) -> Statement:
    return Statement(reads=(Read(answer, name),))


#: Of these nothing is left in the session, apart from what functions and variables in them do.
_LEAVE_NOTHING = """
    SELECT VALUES TABLE WITH UPDATE DELETE DO
    TRUNCATE CHECK CHECKSUM OPTIMIZE REPAIR SHOW EXPLAIN DESCRIBE DESC HELP
    KILL SHUTDOWN RESTART GRANT REVOKE PURGE RESET CHANGE STOP CLONE CACHE IMPORT INSTALL UNINSTALL
    SIGNAL RESIGNAL
"""
#: How statements begin and what they do, or who says so. The longest beginning counts. What is not
#: here is not known.
_KNOWN: dict[str, Statement | Callable[[Sequence[Token]], Statement]] = {
    **dict.fromkeys(_LEAVE_NOTHING.split(), PLAIN),
    **dict.fromkeys(("INSERT", "REPLACE"), PLAIN_INSERT),
    **dict.fromkeys(("SAVEPOINT", "RELEASE", "XA"), _NEVER_TWICE),
    **dict.fromkeys(("COMMIT", "ROLLBACK"), _judge_transaction_end),
    **dict.fromkeys(("XA COMMIT", "XA ROLLBACK"), _ENDED),
    **dict.fromkeys(("XA START", "XA BEGIN"), _BEGUN),
    **dict.fromkeys(
        ("START REPLICA", "START SLAVE", "START ALL", "START GROUP_REPLICATION"), PLAIN
    ),
    **dict.fromkeys(("LOCK TABLES", "LOCK TABLE"), _TABLES_LOCKED),
    **dict.fromkeys(
        ("UNLOCK TABLES", "UNLOCK TABLE"), _does(Action.END, Kind.TABLE_LOCK, "tables")
    ),
    "LOCK INSTANCE": _does(Action.BEGIN, Kind.TABLE_LOCK, "instance"),
    "UNLOCK INSTANCE": _does(Action.END, Kind.TABLE_LOCK, "instance"),
    "BACKUP STAGE": _does(Action.BEGIN, Kind.TABLE_LOCK, "backup stage"),
    "BACKUP STAGE END": _does(Action.END, Kind.TABLE_LOCK, "backup stage"),
    "BACKUP LOCK": _does(Action.BEGIN, Kind.TABLE_LOCK, "backup lock"),
    "BACKUP UNLOCK": _does(Action.END, Kind.TABLE_LOCK, "backup lock"),
    "SHOW WARNINGS": _asks(Answer.LAST_STATEMENT, "SHOW WARNINGS"),
    "SHOW ERRORS": _asks(Answer.LAST_STATEMENT, "SHOW ERRORS"),
    "SHOW COUNT ( * ) WARNINGS": _asks(Answer.LAST_STATEMENT, "SHOW WARNINGS"),
    "SHOW COUNT ( * ) ERRORS": _asks(Answer.LAST_STATEMENT, "SHOW ERRORS"),
    "GET": _asks(Answer.LAST_STATEMENT, "GET DIAGNOSTICS"),
    "ALTER": _judge_alter,
    "ANALYZE": _judge_analyze,
    "BEGIN": _judge_begin,
    "CALL": _OPAQUE,
    "CREATE": _judge_create,
    "DEALLOCATE": _judge_deallocate,
    "DROP": _judge_drop,
    "DROP PREPARE": _judge_deallocate,
    "EXECUTE": _judge_execute,
    "EXECUTE IMMEDIATE": _OPAQUE,
    "FLUSH": _judge_flush,
    "HANDLER": _judge_handler,
    "LOAD": _judge_load,
    "PREPARE": _judge_prepare,
    "RENAME": _judge_alter,
    "SET": judge_set,
    "START TRANSACTION": _judge_start,
    "USE": _judge_use,
    **dict.fromkeys((*COMPOUND, "ELSE", "ELSEIF"), _judge_compound),
    # What is left of one behind its last semicolon.
    **dict.fromkeys(("END", "UNTIL", "LEAVE", "ITERATE"), PLAIN),
}
_LONGEST_KNOWN = max(len(beginning.split()) for beginning in _KNOWN)
