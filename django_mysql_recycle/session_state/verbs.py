"""What the verb of a statement does to the session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from .kinds import CALLED, INSERTED, Answer, Kind
from .set_statement import judge_set
from .statements import (
    BEGIN,
    END,
    PLAIN,
    PLAIN_INSERT,
    RENAME,
    RUN,
    Change,
    Read,
    Statement,
    begins_of,
    together,
)
from .table_locks import judge_backup, judge_flush, judge_lock, judge_unlock
from .text import DOUBLE, NAME, WORD, Token, dotted_name, split_at_commas, words_of

__all__ = ["COMPOUND", "is_stored", "judge_verb", "object_of"]

#: MariaDB runs these outside stored routines too.
COMPOUND = frozenset({"IF", "CASE", "LOOP", "WHILE", "REPEAT", "FOR", "DECLARE"})
_BEFORE_INNER_STATEMENT = {"BEGIN", "ATOMIC", "THEN", "ELSE", "DO", "LOOP", "REPEAT", ";"}

_STORED = {"PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "VIEW", "PACKAGE"}
_OBJECTS = _STORED | {
    *("DATABASE", "INDEX", "ROLE", "SCHEMA", "SEQUENCE", "SERVER"),
    *("TABLE", "TABLES", "TABLESPACE", "USER"),
}

_OPAQUE = Statement(calls=True, leaves=CALLED, repeatable=False)
_NEVER_TWICE = Statement(repeatable=False)
_ENDED = Statement(
    changes=(Change(END, Kind.TRANSACTION),), repeatable=False, ends_transaction=True
)


def is_stored(words: Sequence[str]) -> bool:
    """A definition whose body is code that runs later."""
    return words[:1] in (["CREATE"], ["ALTER"]) and object_of(words)[0] in _STORED


def object_of(words: Sequence[str]) -> tuple[str, int]:
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
    verb = tokens[0].word if tokens else ""
    judge = _VERBS.get(verb)
    if judge is None or (inside and (verb in COMPOUND or verb == "BEGIN")):
        return _ALWAYS.get(verb, PLAIN)
    meaning = judge(tokens)
    return replace(meaning, sets=frozenset(), only_sets=False) if stated else meaning


def _after_for(tokens: Sequence[Token]) -> Sequence[Token]:
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.word == "(") - (token.word == ")")
        if token.word == "FOR" and not depth:
            return tokens[index + 1 :]
    return ()


def _judge_begin(tokens: Sequence[Token]) -> Statement:
    words = words_of(tokens[:2])
    if words in (["BEGIN"], ["BEGIN", "WORK"]):
        return Statement(changes=(Change(BEGIN, Kind.TRANSACTION),), enters_transaction=True)
    return _judge_compound(tokens)


def _judge_compound(tokens: Sequence[Token]) -> Statement:
    """Which branches run is not known: what begins somewhere inside counts, what ends does not."""
    inner: list[Statement] = [_OPAQUE]
    start = 1
    for index in range(1, len(tokens) + 1):
        if index == len(tokens) or tokens[index].word in _BEFORE_INNER_STATEMENT:
            inner.append(judge_verb(tokens[start:index], inside=True))
            start = index + 1
    meaning = together(inner)
    begins = tuple(
        replace(change, uncounted=change.uncounted or change.kind.value.uncertain)
        for change in begins_of(meaning.changes)
    )
    return replace(meaning, changes=begins, enters_transaction=False, ends_transaction=False)


def _judge_start(tokens: Sequence[Token]) -> Statement:
    words = words_of(tokens)
    if words[1:2] != ["TRANSACTION"]:
        return PLAIN  # a replica, group replication
    read_only = ("READ", "ONLY") in pairwise(words)
    return Statement(
        changes=(Change(BEGIN, Kind.TRANSACTION),), enters_transaction=True, read_only=read_only
    )


def _judge_xa(tokens: Sequence[Token]) -> Statement:
    match words_of(tokens[:2]):
        case ["XA", "START" | "BEGIN"]:
            return Statement(changes=(Change(BEGIN, Kind.TRANSACTION),))
        case ["XA", "COMMIT" | "ROLLBACK"]:
            return _ENDED
    return _NEVER_TWICE


def _judge_transaction_end(tokens: Sequence[Token]) -> Statement:
    words = words_of(tokens)
    if "TO" in words:
        return _NEVER_TWICE  # ROLLBACK TO a savepoint
    if ("AND", "CHAIN") in pairwise(words):
        return replace(_ENDED, changes=(*_ENDED.changes, Change(BEGIN, Kind.TRANSACTION)))
    return _ENDED


def _named(action: str, kind: Kind, tokens: Sequence[Token]) -> Change:
    """A change of what the tokens begin with the name of."""
    name, rest = dotted_name(tokens)
    # With ANSI_QUOTES a name. Without, a literal, which no server takes there.
    hidden = any(token.kind == DOUBLE for token in tokens[: len(tokens) - len(rest)])
    return Change(action, kind, name, hidden)


def _judge_create(tokens: Sequence[Token]) -> Statement:
    words = words_of(tokens)
    _, index = object_of(words)
    if "TEMPORARY" not in words[:index]:
        return PLAIN
    name, rest = dotted_name(tokens[index:])
    change = _named(BEGIN, Kind.TEMPORARY_TABLE, tokens[index:])
    # MariaDB: whatever the table was before, unless it is made of itself.
    anew = words[1:3] == ["OR", "REPLACE"] and all(name.rpartition(".")[2] != t.text for t in rest)
    sets = frozenset({(Kind.TEMPORARY_TABLE, name)}) if anew else frozenset()
    return Statement(changes=(change,), sets=sets)


def _judge_drop(tokens: Sequence[Token]) -> Statement:
    what, index = object_of(words_of(tokens))
    if what in ("TABLE", "TABLES", "SEQUENCE"):
        names = [dotted_name(one)[0] for one in split_at_commas(tokens[index:])]
        ends = tuple(Change(END, Kind.TEMPORARY_TABLE, name) for name in names if name)
        # Without TEMPORARY it would drop another table of that name where this one is lost.
        if words_of(tokens[1:5]) != ["TEMPORARY", "TABLE", "IF", "EXISTS"]:
            return Statement(changes=ends)
        sets = frozenset((Kind.TEMPORARY_TABLE, name) for name in names)
        return Statement(changes=ends, sets=sets, only_sets=True)
    return _prepared(END, tokens[2:]) if words_of(tokens[1:2]) == ["PREPARE"] else PLAIN


def _judge_alter(tokens: Sequence[Token]) -> Statement:
    words = words_of(tokens)
    what, index = object_of(words)
    renamed = any(
        word == "RENAME" and after not in ("COLUMN", "INDEX", "KEY", "CONSTRAINT")
        for word, after in pairwise((*words, ""))
    )
    if not renamed or what not in ("TABLE", "TABLES"):
        return PLAIN
    names = [dotted_name(one)[0] for one in split_at_commas(tokens[index:])]
    if words[0] == "ALTER":
        names = names[:1]  # what follows is to be changed
    return Statement(changes=tuple(Change(RENAME, Kind.TEMPORARY_TABLE, n) for n in names if n))


def _judge_execute(tokens: Sequence[Token]) -> Statement:
    if words_of(tokens[1:2]) == ["IMMEDIATE"]:
        return _OPAQUE
    name = dotted_name(tokens[1:])[0].lower()
    return replace(_OPAQUE, changes=(Change(RUN, Kind.PREPARED, name),))


def _judge_prepare(tokens: Sequence[Token]) -> Statement:
    return _prepared(BEGIN, tokens[1:])


def _judge_deallocate(tokens: Sequence[Token]) -> Statement:
    return _prepared(END, tokens[2:])


def _prepared(action: str, tokens: Sequence[Token]) -> Statement:
    change = _named(action, Kind.PREPARED, tokens)
    return Statement(changes=(replace(change, name=change.name.lower()),))


def _judge_handler(tokens: Sequence[Token]) -> Statement:
    _, rest = dotted_name(tokens[1:])
    action = "".join(words_of(rest[:1]))
    if action not in ("OPEN", "CLOSE"):
        return PLAIN
    alias = rest[2:] if words_of(rest[1:2]) == ["AS"] else rest[1:]
    change = _named(BEGIN if action == "OPEN" else END, Kind.HANDLER, alias or tokens[1:])
    return Statement(changes=(replace(change, name=change.name.rpartition(".")[2].lower()),))


def _judge_load(tokens: Sequence[Token]) -> Statement:
    # LOCAL: the client has read its file, or half of it.
    local = "LOCAL" in words_of(tokens)
    return Statement(leaves=INSERTED, repeatable=not local, sends_file=local)


def _judge_analyze(tokens: Sequence[Token]) -> Statement:
    # MariaDB's ANALYZE runs the statement that it explains.
    inserts = not {"INSERT", "REPLACE"}.isdisjoint(words_of(tokens[1:6]))
    return Statement(leaves=INSERTED if inserts else 0)


def _judge_show(tokens: Sequence[Token]) -> Statement:
    match words_of(tokens[:6]):
        case ["SHOW", "WARNINGS" | "ERRORS" as what, *_]:
            return Statement(reads=(Read(Answer.LAST_STATEMENT, f"SHOW {what}"),))
        case ["SHOW", "COUNT", "(", "*", ")", "WARNINGS" | "ERRORS" as what]:
            return Statement(reads=(Read(Answer.LAST_STATEMENT, f"SHOW {what}"),))
    return PLAIN


def _judge_use(tokens: Sequence[Token]) -> Statement:
    name = tokens[1].text if len(tokens) == 2 and tokens[1].kind in (WORD, NAME, DOUBLE) else ""
    if name and tokens[1].kind != WORD:
        quote = '"' if tokens[1].kind == DOUBLE else "`"
        name = name.replace(quote * 2, quote)
    change = Change(BEGIN, Kind.DEFAULT_DATABASE, name, uncounted=not name)
    return Statement(changes=(change,), only_sets=bool(name))


_ALWAYS = {
    "CALL": _OPAQUE,
    "GET": Statement(reads=(Read(Answer.LAST_STATEMENT, "GET DIAGNOSTICS"),)),
    "INSERT": PLAIN_INSERT,
    "RELEASE": _NEVER_TWICE,
    "REPLACE": PLAIN_INSERT,
    "SAVEPOINT": _NEVER_TWICE,
}
_VERBS: dict[str, Callable[[Sequence[Token]], Statement]] = {
    "ALTER": _judge_alter,
    "ANALYZE": _judge_analyze,
    "BACKUP": judge_backup,
    "BEGIN": _judge_begin,
    "COMMIT": _judge_transaction_end,
    "CREATE": _judge_create,
    "DEALLOCATE": _judge_deallocate,
    "DROP": _judge_drop,
    "EXECUTE": _judge_execute,
    "FLUSH": judge_flush,
    "HANDLER": _judge_handler,
    "LOAD": _judge_load,
    "LOCK": judge_lock,
    "PREPARE": _judge_prepare,
    "RENAME": _judge_alter,
    "ROLLBACK": _judge_transaction_end,
    "SET": judge_set,
    "SHOW": _judge_show,
    "START": _judge_start,
    "UNLOCK": judge_unlock,
    "USE": _judge_use,
    "XA": _judge_xa,
    **dict.fromkeys(COMPOUND, _judge_compound),
}
