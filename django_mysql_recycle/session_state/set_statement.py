"""SET: each assignment is judged by itself, for only some of them change the session."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from .statements import (
    BEGIN,
    END,
    NEXT_TRANSACTION,
    PLAIN,
    SESSION_VARIABLE,
    Change,
    Statement,
    together,
)
from .text import DOUBLE, STRING, VARIABLE, Token, dotted_name, split_at_commas

__all__ = ["judge_set"]

_SESSION = {"SESSION", "LOCAL"}
_ELSEWHERE = {"GLOBAL", "PERSIST", "PERSIST_ONLY"}  #: not this session's
_SCOPES = _SESSION | _ELSEWHERE

#: How long the server waits for the client: losing it changes no answer.
_HARMLESS = re.compile(r"(?:wait|interactive|net_\w*)_timeout")
#: Switched off and on again around a piece of work; on is what every connection begins with.
_CHECKS = {"foreign_key_checks", "unique_checks"}
_READ_ONLY = {"transaction_read_only", "tx_read_only"}
#: These set what LAST_INSERT_ID() answers.
_INSERT_ID = {"last_insert_id", "identity"}
_ON = {"1", "ON", "TRUE", "DEFAULT"}

_UNKNOWN = Statement(changes=(Change(BEGIN, SESSION_VARIABLE, "?"),), sets_autocommit=True)


def judge_set(tokens: Sequence[Token]) -> Statement:
    """The whole statement, from SET on."""
    words = [token.word for token in tokens]
    scope = words[1] if words[1:2] and words[1] in _SCOPES else ""
    what = words[2:] if scope else words[1:]
    match what:
        case ["TRANSACTION", after, *_] if after not in ("=", ":"):
            if scope in _ELSEWHERE:
                return PLAIN
            read_only = ("READ", "ONLY") in pairwise(what)
            name = "transaction" if scope else NEXT_TRANSACTION
            return Statement(changes=(_begin(name),), read_only=read_only)
        case ["PASSWORD", *_] | ["DEFAULT", "ROLE", *_]:
            return PLAIN
        case ["ROLE", *_]:
            return Statement(changes=(_begin("role"),))
        case ["RESOURCE", "GROUP", *_]:
            return Statement(changes=(_begin("resource group"),))
    # A scope without @@ also holds for the assignments after it that name none (seen on
    # MariaDB 10.11 and MySQL 9.7, documented for MySQL).
    scope = "SESSION"
    judged = []
    for assignment in split_at_commas(tokens[1:]):
        if len(assignment) > 1 and assignment[0].word in _SCOPES:
            scope = assignment[0].word
            assignment = assignment[1:]
        judged.append(_judge_assignment(assignment, scope))
    return together(judged)


def _judge_assignment(tokens: Sequence[Token], scope: str) -> Statement:
    words = [token.word for token in tokens]
    match words:
        case ["NAMES", *_]:
            return Statement(changes=(_begin("names"),))
        case ["CHARSET", *_] | ["CHARACTER" | "CHAR", "SET", *_]:
            return Statement(changes=(_begin("character set"),))
        case ["@@", named, ".", *_] if named in _SCOPES:
            scope, tokens = named, tokens[3:]
        case ["@@", *_]:
            scope, tokens = "SESSION", tokens[1:]
    if tokens and tokens[0].kind == VARIABLE:
        return PLAIN  # a user variable: they are found wherever they stand
    name, rest = dotted_name(tokens)
    name = name.lower()
    sign = [token.word for token in rest[:2]]
    if not name or not (sign[:1] == ["="] or sign == [":", "="]):
        return _UNKNOWN
    value = rest[1:] if sign[0] == "=" else rest[2:]
    if scope in _ELSEWHERE or _HARMLESS.fullmatch(name):
        return PLAIN
    if name == "autocommit":
        # Whether it is off is seen on the connection, where no text can deceive.
        return Statement(repeatable=False, ends_transaction=_is_on(value), sets_autocommit=True)
    if name in _CHECKS and _is_on(value):
        return Statement(changes=(Change(END, SESSION_VARIABLE, name),))
    return Statement(
        changes=(_begin(name),),
        inserts=name in _INSERT_ID,
        read_only=name in _READ_ONLY and _is_on(value),
    )


def _begin(name: str) -> Change:
    return Change(BEGIN, SESSION_VARIABLE, name)


def _is_on(value: Sequence[Token]) -> bool:
    if len(value) != 1:
        return False
    quoted = value[0].kind in (STRING, DOUBLE)
    return (value[0].text.upper() if quoted else value[0].word) in _ON
