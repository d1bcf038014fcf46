"""Calls of the functions for named locks: how often they run, and for which lock.

A beginning may be counted too often and an end too rarely: the lock then pins for too long. The
other way round it would be lost in silence.
"""

from __future__ import annotations

from collections.abc import Sequence

from .statements import BEGIN, END, END_ALL, NAMED_LOCK, Change
from .text import (
    DOUBLE,
    MARKER,
    SIGN,
    STRING,
    VARIABLE,
    WORD,
    Source,
    Token,
    split_at_commas,
    unquoted,
    words_of,
)

__all__ = ["LOCK_CALLS", "judge_locks"]

LOCK_CALLS = {"GET_LOCK": BEGIN, "RELEASE_LOCK": END, "RELEASE_ALL_LOCKS": END_ALL}

#: A lock's name that takes more tokens is told by its beginning.
_LONGEST_NAME = 32

#: With one of these an expression may be evaluated for several rows, or twice for one.
_REPEATING = {
    *("FROM", "WHERE", "GROUP", "HAVING", "ORDER", "UNION", "EXCEPT", "INTERSECT", "STATEMENT"),
    *("CASE", "IN", "BETWEEN", "DISTINCT", "OVER"),
}
#: These evaluate what they are given once at most. BENCHMARK() and NULLIF() do not.
_ONCE_WITHIN = {"(", "=", ",", "NOT", "SELECT", "DO", "IF", "IFNULL", "COALESCE", "ISNULL", "CAST"}
#: What stands behind a call in the brackets of these, if their value keeps 1 apart from the rest.
_SAME_ANSWER = {"COALESCE": [",", "0"], "IFNULL": [",", "0"], "IF": [",", "1", ",", "0"]}


def judge_locks(
    source: Source, tokens: Sequence[Token], calls: Sequence[int]
) -> tuple[tuple[Change, ...], str]:
    """What the calls at these places of a statement do.

    Also the function whose answer is the only value that the statement returns.
    """
    listed = _listed(tokens)
    if len(listed) != len(calls):  # something else stands there, or one call within another
        once = _once(tokens, calls)
        begins = [index for index in calls if LOCK_CALLS[tokens[index].text.upper()] == BEGIN]
        return tuple(_change(source, tokens, at, uncounted=at not in once) for at in begins), ""
    changes = tuple(_change(source, tokens, index) for index in calls)
    lone = tokens[0].word == "SELECT" and len(calls) == 1
    return changes, tokens[calls[0]].text.upper() if lone else ""


def _listed(tokens: Sequence[Token]) -> list[str]:
    """The functions of a statement that is a list of nothing but calls of these.

    All of them run exactly once. Empty for any other statement.
    """
    if tokens[0].word not in ("SELECT", "DO") or _is_skimmed(tokens):
        return []
    if words_of(tokens[-2:]) == ["FROM", "DUAL"]:
        tokens = tokens[:-2]
    parts = list(split_at_commas(tokens[1:]))
    functions = [_answering(part) for part in parts]
    return functions if LOCK_CALLS.keys() >= set(functions) else []


def _answering(tokens: Sequence[Token]) -> str:
    """The function that is called and whose answer is the value, perhaps with an alias.

    COALESCE(..., 0), IFNULL(..., 0), IF(..., 1, 0), = 1 and brackets may stand around it.
    """
    words = words_of(tokens)
    behind = []
    start = 0
    while words[start : start + 1] == ["("] or (
        words[start + 1 : start + 2] == ["("] and words[start] in _SAME_ANSWER
    ):
        behind.append([*_SAME_ANSWER.get(words[start], ()), ")"])
        start += 1 if words[start] == "(" else 2
    if words[start + 1 : start + 2] != ["("]:
        return ""
    depth = 1
    end = start + 2
    while end < len(words) and depth:
        depth += (words[end] == "(") - (words[end] == ")")
        end += 1
    while behind or words[end : end + 2] == ["=", "1"]:
        expected = ["=", "1"] if words[end : end + 1] == ["="] else behind.pop()
        if words[end : end + len(expected)] != expected:
            return ""
        end += len(expected)
    rest = words[end:]
    alias = not rest or len(rest) == 1 or (len(rest) == 2 and rest[0] == "AS")
    return tokens[start].text.upper() if alias and not depth else ""


def _once(tokens: Sequence[Token], calls: Sequence[int]) -> set[int]:
    """Those of the calls that run once at most."""
    words = words_of(tokens)
    if words[-2:] == ["FROM", "DUAL"]:
        words = words[:-2]
    parts = split_at_commas(tokens[1:])
    if (
        words[0] not in ("SELECT", "DO", "SET")
        or not _REPEATING.isdisjoint(words)
        or _is_skimmed(tokens)
        # A system variable's value may be evaluated twice, once to check it (seen with
        # character_set_client on MariaDB 10.11 and MySQL 9.7).
        or (words[0] == "SET" and any(part[0].kind != VARIABLE for part in parts if part))
    ):
        return set()
    at = set(calls)
    once = set()
    around: list[bool] = []  # for each open bracket: whether it is none of these
    strange = 0
    for index, word in enumerate(words):
        if word == "(":
            around.append(words[index - 1] not in _ONCE_WITHIN)
            strange += around[-1]
        elif word == ")" and around:
            strange -= around.pop()
        elif not strange and index in at:
            once.add(index)
    return once


def _is_skimmed(tokens: Sequence[Token]) -> bool:
    """Whether there is more between the tokens, which nobody has looked at."""
    return any(token.kind == SIGN and not token.text for token in tokens)


def _change(
    source: Source, tokens: Sequence[Token], call: int, *, uncounted: bool = False
) -> Change:
    action = LOCK_CALLS[tokens[call].text.upper()]
    if action == END_ALL:
        return Change(END_ALL, NAMED_LOCK)
    name = _first_argument(tokens[call + 2 : call + 2 + _LONGEST_NAME])
    if len(name) == 1 and name[0].kind == MARKER:
        parameter = source.parameter(name[0])
        return Change(action, NAMED_LOCK, placeholder=parameter, uncounted=uncounted)
    literal = name[1:] if len(name) > 1 and _is_introducer(name[0]) else name
    if literal and all(token.kind in (STRING, DOUBLE) for token in literal):
        value = "".join(unquoted(token, source.reading) for token in literal)
        return Change(action, NAMED_LOCK, value, uncounted=uncounted)
    expression = ""
    for token in name:
        blank = " " if expression[-1:].isalnum() and token.kind != SIGN else ""
        written = source.text[token.start : token.end]
        expression += blank + (written.lower() if token.kind == WORD else written)
    inputs = tuple(source.parameter(token) for token in name if token.kind == MARKER)
    # Of such an expression the same text need not have the same value later.
    changing = len(name) == _LONGEST_NAME or any(
        token.kind == VARIABLE or token.word in ("@@", "SELECT") for token in name
    )
    return Change(action, NAMED_LOCK, expression, inputs=inputs, uncounted=uncounted or changing)


def _first_argument(tokens: Sequence[Token]) -> Sequence[Token]:
    depth = 0
    for index, token in enumerate(tokens):
        if not depth and token.word in (",", ")"):
            return tokens[:index]
        depth += (token.word == "(") - (token.word == ")")
    return tokens


def _is_introducer(token: Token) -> bool:
    return token.kind == WORD and (token.word == "N" or token.word.startswith("_"))
