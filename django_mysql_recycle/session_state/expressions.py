"""Functions and variables, wherever in a statement they stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from .assignments import Assignments, judge_assignments
from .kinds import INSERTED, NUMBERED, Answer, Kind
from .locks import LOCK_CALLS, judge_locks
from .statements import BEGIN, Change, Read, Statement
from .text import (
    DOUBLE,
    MARKER,
    NAME,
    STRING,
    VARIABLE,
    WORD,
    Source,
    Token,
    dotted_name,
    split_at_commas,
    words_of,
)
from .verbs import object_of

__all__ = ["ASKING_CALLS", "WATCHED", "judge_expressions"]

_INSERT_ID = Read(Answer.INSERT_ID, "LAST_INSERT_ID()", "LAST_INSERT_ID()")
_READING_CALLS = {
    "FOUND_ROWS": Read(Answer.FOUND_ROWS, "FOUND_ROWS()"),
    "ROW_COUNT": Read(Answer.LAST_STATEMENT, "ROW_COUNT()"),
}
_READ_VARIABLES = {
    "LAST_INSERT_ID": _INSERT_ID,
    "IDENTITY": _INSERT_ID,
    "WARNING_COUNT": Read(Answer.LAST_STATEMENT, "@@warning_count"),
    "ERROR_COUNT": Read(Answer.LAST_STATEMENT, "@@error_count"),
    "LAST_GTID": Read(Answer.LAST_GTID, "@@last_gtid", "@@last_gtid"),
}
_LAST_VALUE = ["PREVIOUS", "VALUE", "FOR"]
_NEXT_VALUE = ["NEXT", "VALUE", "FOR"]

#: Functions that do nothing but answer.
ASKING_CALLS = {*_READING_CALLS, "LAST_INSERT_ID", "LASTVAL"}

#: Where one of these stands, what is around it matters.
WATCHED = {
    *LOCK_CALLS,
    *_READING_CALLS,
    *("LAST_INSERT_ID", "LASTVAL", "NEXTVAL", "PREVIOUS", "NEXT", "INTO"),
}

_NOTHING = Token("", "", "", 0, 0)


def judge_expressions(source: Source, tokens: Sequence[Token]) -> Statement:
    locks: list[int] = []
    variables: dict[str, Change] = {}
    reads: list[Read] = []
    leaves = 0
    written = _written(tokens)
    assignments = Assignments()
    if any(token.kind == VARIABLE for token in tokens):
        places = {tokens[index].start for index in written if index < len(tokens)}
        assignments = judge_assignments(source, tokens, places)
    for index, (token, following) in enumerate(pairwise((*tokens, _NOTHING))):
        if token.kind == VARIABLE:
            if not _is_account(tokens, index):
                name = token.text.lower()
                # It may be the rest of an address in a literal that was read wrongly.
                quoted = source.text[token.start + 1 : token.start + 2] in ("'", '"')
                hidden = quoted or "." in name
                variables[name] = Change(BEGIN, Kind.USER_VARIABLE, name, hidden)
                if index not in written and token.start not in assignments.late_reads:
                    reads.append(Read(Answer.USER_VARIABLE, f"@{name}", hidden=hidden))
        elif token.word == "@@":
            if index not in written:
                reads.extend(_system_read(tokens[index + 1 : index + 4]))
        elif token.word == "PREVIOUS" and words_of(tokens[index : index + 3]) == _LAST_VALUE:
            reads.append(_last_value(tokens[index + 3 :]))
        elif token.word == "NEXT" and words_of(tokens[index : index + 3]) == _NEXT_VALUE:
            leaves |= NUMBERED
        elif following.word == "(" and token.kind in (WORD, NAME, DOUBLE):
            function = token.text.upper()
            if function in LOCK_CALLS:
                locks.append(index)
            elif function in _READING_CALLS:
                reads.append(_READING_CALLS[function])
            elif function == "LASTVAL":
                reads.append(_last_value(tokens[index + 2 :]))
            elif function == "NEXTVAL":
                leaves |= NUMBERED
            elif function == "LAST_INSERT_ID":
                if words_of(tokens[index + 2 : index + 3]) == [")"]:
                    reads.append(_INSERT_ID)
                else:
                    leaves |= INSERTED
    changes, lone = judge_locks(source, tokens, locks) if locks else ((), "")
    return Statement(
        (*changes, *variables.values()),
        tuple(dict.fromkeys(reads)),
        leaves=leaves,
        sets=frozenset((Kind.USER_VARIABLE, name) for name in assignments.sets),
        lone_lock_call=lone,
    )


def _last_value(tokens: Sequence[Token]) -> Read:
    """LASTVAL() of the sequence whose name comes next."""
    rest = dotted_name(tokens)[1]
    name = tokens[: len(tokens) - len(rest)]
    quoted = ".".join(f"`{token.text}`" for token in name if token.word != ".")
    return Read(Answer.SEQUENCE_VALUE, "LASTVAL()", f"LASTVAL({quoted})" if quoted else "")


def _system_read(tokens: Sequence[Token]) -> Iterator[Read]:
    name = tokens[2:3] if words_of(tokens[1:2]) == ["."] else tokens[:1]
    for token in name:
        if read := _READ_VARIABLES.get(token.text.upper()):
            yield read


def _is_account(tokens: Sequence[Token], index: int) -> bool:
    """'user'@'host' rather than a variable; no expression has a name or literal before the @."""
    before = tokens[index - 1].kind if index else ""
    return before in (NAME, STRING, DOUBLE, MARKER) or (
        before == WORD and _names_accounts(words_of(tokens[:8]))
    )


def _names_accounts(words: Sequence[str]) -> bool:
    match words:
        case ["GRANT" | "REVOKE", *_] | ["SHOW", "GRANTS", *_] | ["SHOW", "CREATE", "USER", *_]:
            return True
        case ["SET", "PASSWORD" | "ROLE", *_] | ["SET", "DEFAULT", "ROLE", *_]:
            return True
        case ["CREATE" | "ALTER" | "DROP" | "RENAME", *_]:
            return object_of(words)[0] in ("USER", "ROLE")
        case ["KILL", *_]:
            return "USER" in words[:4]
    return False


def _written(tokens: Sequence[Token]) -> set[int]:
    """Where variables stand that the statement sets without reading them."""
    words = words_of(tokens)
    written: set[int] = set()
    match words[0]:
        case "SET":
            index = 1
            for assignment in split_at_commas(tokens[1:]):
                written.add(index)
                index += len(assignment) + 1
        case "CALL":
            written.update(range(len(tokens)))
        case "LOAD":
            read_in = words.index("SET") if "SET" in words else len(words)
            names = {t.text for t in tokens[:read_in] if t.kind == VARIABLE}
            written.update(i for i, t in enumerate(tokens) if i < read_in or t.text in names)
    for index, token in enumerate(tokens[1:], 1):
        if token.kind == VARIABLE and (
            words[index - 1] == "INTO"
            or (words[index - 1] == "," and index - 2 in written)
            or words[index + 1 : index + 3] == [":", "="]
        ):
            written.add(index)
    return written
