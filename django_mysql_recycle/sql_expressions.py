"""Functions and variables, wherever in a statement they stand."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise

from .sql_text import (
    DOUBLE,
    MARKER,
    NAME,
    SIGN,
    STRING,
    VARIABLE,
    WORD,
    Reading,
    Token,
    split_at_commas,
    unquoted,
    words_of,
)
from .sql_verbs import object_of
from .statements import BEGIN, END, END_ALL, NAMED_LOCK, USER_VARIABLE, Change, Statement

__all__ = ["WATCHED", "Source", "judge_expressions", "lone_lock_call"]

_LOCK_CALLS = {"GET_LOCK": BEGIN, "RELEASE_LOCK": END, "RELEASE_ALL_LOCKS": END_ALL}
_READING_CALLS = {"FOUND_ROWS", "ROW_COUNT", "LASTVAL"}
_LAST_VALUE = ["PREVIOUS", "VALUE", "FOR"]
_READ_VARIABLES = {
    "LAST_INSERT_ID": "LAST_INSERT_ID()",
    "IDENTITY": "LAST_INSERT_ID()",
    "WARNING_COUNT": "@@warning_count",
    "ERROR_COUNT": "@@error_count",
    "LAST_GTID": "@@last_gtid",
}

#: Where one of these stands, what is around it matters.
WATCHED = {*_LOCK_CALLS, *_READING_CALLS, "LAST_INSERT_ID", "PREVIOUS", "INTO"}

#: A lock's name that takes more tokens is told by its beginning.
_LONGEST_ARGUMENT = 32

_NOTHING = Token("", "", "", 0, 0)
_PERCENT = re.compile(r"%%|%s")


class Source:
    """A text as one reading of it has it."""

    def __init__(self, text: str, reading: Reading) -> None:
        self.text = text
        self.reading = reading

    @cached_property
    def parameters(self) -> list[int]:
        """Where each %s stands, those inside literals included: drivers count them too."""
        return [found.start() for found in _PERCENT.finditer(self.text) if found[0] == "%s"]


def judge_expressions(source: Source, tokens: Sequence[Token]) -> Statement:
    changes: list[Change] = []
    variables: dict[str, Change] = {}
    reads: list[str] = []
    inserts = False
    written = _written(tokens)
    for index, (token, following) in enumerate(pairwise((*tokens, _NOTHING))):
        if token.kind == VARIABLE:
            if not _is_account(tokens, index):
                name = token.text.lower()
                variables[name] = Change(BEGIN, USER_VARIABLE, name)
                if index not in written:
                    reads.append(f"@{name}")
        elif token.word == "@@":
            if index not in written:
                reads.extend(_system_read(tokens[index + 1 : index + 4]))
        elif token.word == "PREVIOUS" and words_of(tokens[index : index + 3]) == _LAST_VALUE:
            reads.append("LASTVAL()")
        elif following.word == "(" and token.kind in (WORD, NAME, DOUBLE):
            function = token.text.upper()
            if function in _LOCK_CALLS:
                argument = _first_argument(tokens[index + 2 : index + 2 + _LONGEST_ARGUMENT])
                changes.append(_lock_change(source, function, argument))
            elif function in _READING_CALLS:
                reads.append(f"{function}()")
            elif function == "LAST_INSERT_ID":
                if words_of(tokens[index + 2 : index + 3]) == [")"]:
                    reads.append("LAST_INSERT_ID()")
                else:
                    inserts = True
    return Statement((*changes, *variables.values()), tuple(reads), inserts=inserts)


def _system_read(tokens: Sequence[Token]) -> Iterator[str]:
    name = tokens[2:3] if words_of(tokens[1:2]) == ["."] else tokens[:1]
    for token in name:
        if read := _READ_VARIABLES.get(token.text.upper()):
            yield read


def _lock_change(source: Source, function: str, name: Sequence[Token]) -> Change:
    action = _LOCK_CALLS[function]
    if action == END_ALL:
        return Change(END_ALL, NAMED_LOCK)
    if len(name) == 1 and name[0].kind == MARKER:
        return Change(action, NAMED_LOCK, placeholder=_parameter(source, name[0]))
    literal = name[1:] if len(name) > 1 and _is_introducer(name[0]) else name
    if literal and all(token.kind in (STRING, DOUBLE) for token in literal):
        value = "".join(unquoted(token, source.reading) for token in literal)
        return Change(action, NAMED_LOCK, value)
    expression = ""
    for token in name:
        blank = " " if expression[-1:].isalnum() and token.kind != SIGN else ""
        written = source.text[token.start : token.end]
        expression += blank + (written.lower() if token.kind == WORD else written)
    inputs = tuple(_parameter(source, token) for token in name if token.kind == MARKER)
    return Change(action, NAMED_LOCK, expression, inputs=inputs)


def _first_argument(tokens: Sequence[Token]) -> Sequence[Token]:
    depth = 0
    for index, token in enumerate(tokens):
        if not depth and token.word in (",", ")"):
            return tokens[:index]
        depth += (token.word == "(") - (token.word == ")")
    return tokens


def _is_introducer(token: Token) -> bool:
    return token.kind == WORD and (token.word == "N" or token.word.startswith("_"))


def _parameter(source: Source, marker: Token) -> int | str:
    """Its key, or its place among all parameters."""
    if marker.text:
        return marker.text
    return bisect_left(source.parameters, marker.start)


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
            words[index - 1] == "INTO" or (words[index - 1] == "," and index - 2 in written)
        ):
            written.add(index)
    return written


def lone_lock_call(tokens: Sequence[Token]) -> str:
    """The function whose answer is the only value that the statement returns."""
    if len(tokens) < 4 or tokens[0].word != "SELECT" or tokens[2].word != "(":
        return ""
    depth = 1
    end = 3
    while end < len(tokens) and depth:
        depth += (tokens[end].word == "(") - (tokens[end].word == ")")
        end += 1
    rest = words_of(tokens[end:])
    if rest[-2:] == ["FROM", "DUAL"]:
        rest = rest[:-2]
    function = tokens[1].text.upper()
    alone = not rest or len(rest) == 1 or (len(rest) == 2 and rest[0] == "AS")
    return function if alone and not depth and function in _LOCK_CALLS else ""
