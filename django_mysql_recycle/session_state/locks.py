"""Calls of the functions for named locks: how often they run, and for which lock.

A beginning may be counted too often and an end too rarely: the lock then pins for too long. The
other way round it would be lost in silence.
"""

from __future__ import annotations

from collections.abc import Sequence

from .kinds import Kind
from .statements import ASK, BEGIN, END, END_ALL, Change, Parameter
from .text import (
    DOUBLE,
    MARKER,
    SIGN,
    STRING,
    VARIABLE,
    WORD,
    Source,
    Token,
    is_stretch,
    split_at_commas,
    unquoted,
    words_of,
)

__all__ = ["LOCK_CALLS", "judge_locks"]

#: What each function does to which kind of lock.
LOCK_CALLS = {
    "GET_LOCK": (BEGIN, Kind.NAMED_LOCK),
    "RELEASE_LOCK": (END, Kind.NAMED_LOCK),
    "RELEASE_ALL_LOCKS": (END_ALL, Kind.NAMED_LOCK),
    # MySQL's locking service and version tokens. These fail rather than answer 0, and a release
    # frees all locks of a namespace.
    "SERVICE_GET_READ_LOCKS": (BEGIN, Kind.SERVICE_LOCK),
    "SERVICE_GET_WRITE_LOCKS": (BEGIN, Kind.SERVICE_LOCK),
    "SERVICE_RELEASE_LOCKS": (END, Kind.SERVICE_LOCK),
    "VERSION_TOKENS_LOCK_SHARED": (BEGIN, Kind.SERVICE_LOCK),
    "VERSION_TOKENS_LOCK_EXCLUSIVE": (BEGIN, Kind.SERVICE_LOCK),
    "VERSION_TOKENS_UNLOCK": (END, Kind.SERVICE_LOCK),
}
#: The namespace of the locking service in which version tokens are locked.
_VERSION_TOKENS = "version_token_locks"

#: Functions whose value depends on what they are given alone, and on the default database.
_SAME_VALUE = {
    *("CONCAT", "CONCAT_WS", "DATABASE", "SCHEMA", "LEFT", "RIGHT", "SUBSTR", "SUBSTRING", "TRIM"),
    *("LOWER", "UPPER", "LCASE", "UCASE", "REPLACE", "LPAD", "RPAD", "HEX", "CRC32"),
    *("MD5", "SHA", "SHA1", "SHA2"),
}

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
#: What may stand behind a value and keeps 1 apart from 0 and NULL.
_COMPARISONS = [
    *(["=", "1"], ["=", "TRUE"], ["<", "=", ">", "1"], ["IS", "TRUE"]),
    *([">", "0"], [">", "=", "1"], ["<", ">", "0"], ["!", "=", "0"]),
]


def judge_locks(
    source: Source, tokens: Sequence[Token], calls: Sequence[int]
) -> tuple[tuple[Change, ...], str]:
    """What the calls at these places of a statement do.

    Also the function whose answer is the only value that the statement returns. Where a lock may
    or may not be held afterwards, the server is to be asked: the last change says so.
    """
    functions = [tokens[index].text.upper() for index in calls]
    does = [LOCK_CALLS[function] for function in functions]
    if len(_listed(tokens)) == len(calls):
        changes = tuple(_change(source, tokens, index) for index in calls)
        if tokens[0].word == "SELECT" and len(calls) == 1 and does[0][1] == Kind.NAMED_LOCK:
            return changes, functions[0]
        if (BEGIN, Kind.NAMED_LOCK) in does:
            changes += (Change(ASK, Kind.NAMED_LOCK),)
        return changes, ""
    # Something else stands there, or one call within another.
    once = _once(tokens, calls)
    begins = tuple(
        _change(source, tokens, index, uncounted=index not in once)
        for index, (action, _) in zip(calls, does, strict=True)
        if action == BEGIN
    )
    if any(kind == Kind.NAMED_LOCK for _, kind in does):
        releases = any(action != BEGIN for action, kind in does if kind == Kind.NAMED_LOCK)
        begins += (Change(ASK, Kind.NAMED_LOCK, uncounted=releases),)
    return begins, ""


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

    COALESCE(..., 0), IFNULL(..., 0), IF(..., 1, 0), comparisons and brackets may stand around it.
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
    while True:
        compared = (c for c in _COMPARISONS if words[end : end + len(c)] == c)
        expected = next(compared, None) or (behind.pop() if behind else [])
        if words[end : end + len(expected)] != expected:
            return ""
        if not expected:
            break
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
    """Whether there is more between the tokens, which was not read."""
    return any(map(is_stretch, tokens))


def _change(
    source: Source, tokens: Sequence[Token], call: int, *, uncounted: bool = False
) -> Change:
    function = tokens[call].text.upper()
    action, kind = LOCK_CALLS[function]
    if action == END_ALL:
        return Change(END_ALL, kind)
    if function.startswith("VERSION"):
        return Change(action, kind, _VERSION_TOKENS)
    name = _first_argument(tokens[call + 2 : call + 2 + _LONGEST_NAME])
    if len(name) == 1 and name[0].kind == MARKER:
        parameter = source.parameter(name[0])
        return Change(action, kind, placeholder=parameter, uncounted=uncounted)
    literal = name[1:] if len(name) > 1 and _is_introducer(name[0]) else name
    if literal and all(token.kind in (STRING, DOUBLE) for token in literal):
        value = "".join(unquoted(token, source.reading) for token in literal)
        return Change(action, kind, value, uncounted=uncounted)
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
    return Change(
        action,
        kind,
        expression,
        hidden=any(token.kind in (STRING, DOUBLE) for token in name),
        inputs=inputs,
        asked=_asked(source, name),
        uncounted=uncounted or changing,
    )


def _asked(source: Source, name: Sequence[Token]) -> tuple[str | Parameter, ...]:
    """The SQL of a name, if evaluating it once more does nothing and has the same value."""
    parts: list[str | Parameter] = []
    for token, following in zip(name, [*words_of(name[1:]), ""], strict=False):
        written = token.word or source.text[token.start : token.end]
        if token.kind == MARKER:
            parts.append(Parameter(source.parameter(token)))
        elif (
            (token.kind == WORD and token.word in _SAME_VALUE and following == "(")
            or (token.kind == WORD and token.word.isdigit())
            or (token.kind == SIGN and token.word in ("(", ")", ","))
            or (token.kind == STRING and written.isascii() and not set(written) & set("%\\"))
        ):
            parts.append(written)
        else:
            return ()
    return tuple(parts) if len(name) < _LONGEST_NAME else ()


def _first_argument(tokens: Sequence[Token]) -> Sequence[Token]:
    depth = 0
    for index, token in enumerate(tokens):
        if not depth and token.word in (",", ")"):
            return tokens[:index]
        depth += (token.word == "(") - (token.word == ")")
    return tokens


def _is_introducer(token: Token) -> bool:
    return token.kind == WORD and (token.word == "N" or token.word.startswith("_"))
