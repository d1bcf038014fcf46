"""SET: each assignment is judged by itself, for only some of them change the session."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from .kinds import INSERTED, Kind
from .lexer import Token, TokenKind, dotted_name, split_at_commas, words_of
from .statements import (
    NEXT_ACCESS_MODE,
    NEXT_ISOLATION,
    PLAIN,
    Action,
    Change,
    Key,
    Statement,
    together,
)

__all__ = ["judge_set"]

_ELSEWHERE = {"GLOBAL", "PERSIST", "PERSIST_ONLY"}  #: not this session's
_SCOPES = {"SESSION", "LOCAL", *_ELSEWHERE}

#: How long the server waits for the client: losing it changes no answer.
_HARMLESS = re.compile(r"(?:wait|interactive|net_\w*)_timeout")
#: Switched off and on again around a piece of work; on is what every connection begins with.
_CHECKS = {"foreign_key_checks", "unique_checks"}
_ISOLATION, _READ_ONLY = "transaction_isolation", "transaction_read_only"
#: Without a scope, ``@@`` before one of these means the next transaction alone, on MySQL.
_MODES = {_ISOLATION, _READ_ONLY}
#: The same variable by another name.
_OTHER_NAMES = {"tx_isolation": _ISOLATION, "tx_read_only": _READ_ONLY}
_OTHER_NAMES["identity"] = "last_insert_id"
_ON = {"1", "ON", "TRUE", "DEFAULT"}

#: What SET NAMES and SET CHARACTER SET set. Of the last two, each also sets the other.
_CONNECTION = ("character_set_connection", "collation_connection")
_CHARACTER_SETS = ("character_set_client", "character_set_results", *_CONNECTION)

#: What a literal means, and with which collation it is kept in a variable.
_MEANING_OF_TEXT = frozenset((Kind.SESSION_VARIABLE, name) for name in _CHARACTER_SETS)
#: The same for "..." and for a backslash.
_MEANING_OF_QUOTES = frozenset({(Kind.SESSION_VARIABLE, "sql_mode")})

_NUMBERS = re.compile(r"[-+*.]|[0-9].*|TRUE|FALSE|NULL")
#: Functions that need no brackets. They depend on other variables, the time zone for one.
_CALLS = re.compile(r"CURRENT_\w+|LOCALTIME\w*|UTC_\w+")


def _sets(*names: str) -> Statement:
    keys = [(Kind.SESSION_VARIABLE, name) for name in names]
    changes = tuple(Change(Action.BEGIN, *key) for key in keys)
    return Statement(changes=changes, sets=frozenset(keys), only_sets=True)


#: No server takes it, or it sets what this backend cannot read.
_UNKNOWN = replace(
    _sets("?"), sets=frozenset(), only_sets=False, sets_autocommit=True, sets_sql_mode=True
)


def judge_set(tokens: Sequence[Token]) -> Statement:
    """The whole statement, from SET on."""
    words = [token.word for token in tokens]
    scope = words[1] if words[1:2] and words[1] in _SCOPES else ""
    what = words[2:] if scope else words[1:]
    match what:
        case ["TRANSACTION", after, *_] if after not in ("=", ":"):
            return _judge_transaction(what, scope)
        case ["PASSWORD", *_] | ["DEFAULT", "ROLE", *_]:
            return PLAIN
        case ["ROLE", *_]:
            return _sets("role")
        case ["RESOURCE", "GROUP", *_]:
            return replace(_sets("resource group"), sets=frozenset(), only_sets=False)
    # A scope without @@ also holds for the assignments after it that name none (seen on
    # MariaDB 10.11 and MySQL 9.7, documented for MySQL).
    scope = "SESSION"
    judged = []
    for assignment in split_at_commas(tokens[1:]):
        if len(assignment) > 1 and assignment[0].word in _SCOPES:
            scope = assignment[0].word
            assignment = assignment[1:]
        judged.append(_judge_assignment(assignment, scope))
    return replace(together(judged), only_sets=all(one.only_sets for one in judged))


def _judge_transaction(words: Sequence[str], scope: str) -> Statement:
    if scope in _ELSEWHERE:
        return Statement(only_sets=True)
    pairs = set(pairwise(words))
    names = []
    if "ISOLATION" in words:
        names.append(_ISOLATION if scope else NEXT_ISOLATION)
    if not pairs.isdisjoint({("READ", "ONLY"), ("READ", "WRITE")}):
        names.append(_READ_ONLY if scope else NEXT_ACCESS_MODE)
    return replace(_sets(*names), read_only=("READ", "ONLY") in pairs) if names else _UNKNOWN


def _judge_assignment(tokens: Sequence[Token], scope: str) -> Statement:
    words = [token.word for token in tokens]
    any_scope = True
    match words:
        case ["NAMES", *_] | ["CHARSET", *_] | ["CHARACTER" | "CHAR", "SET", *_]:
            return _sets(*_CHARACTER_SETS)
        case ["@@", named, ".", *_] if named in _SCOPES:
            scope, tokens = named, tokens[3:]
        case ["@@", *_]:
            scope, tokens, any_scope = "SESSION", tokens[1:], False
    if tokens and tokens[0].kind is TokenKind.VARIABLE:
        # That it changes is found wherever a variable stands; here, what it takes.
        value = _after_sign(tokens[1:])
        sets = frozenset({(Kind.USER_VARIABLE, tokens[0].text.lower())})
        return Statement(sets=sets, only_sets=_is_constant(value), depends=_meaning_of(value))
    name, rest = dotted_name(tokens)
    name = _OTHER_NAMES.get(name.lower(), name.lower())
    value = _after_sign(rest)
    if not name or not value:
        return _UNKNOWN
    certain = _is_constant(value) or (
        len(value) == 1
        and not _CALLS.fullmatch(value[0].word)
        and value[0].kind is not TokenKind.VARIABLE
    )
    if scope in _ELSEWHERE:
        return Statement(only_sets=certain)
    if _HARMLESS.fullmatch(name):
        return Statement(only_sets=certain, sets_timeout=True)
    if name == "autocommit":
        # Whether it is off is seen on the connection, where no text can deceive.
        on = _is_on(value)
        return Statement(repeatable=False, ends_transaction=on, sets_autocommit=True, only_sets=on)
    hidden = tokens[0].kind is TokenKind.DOUBLE
    if name in _CHECKS and _is_on(value):
        return replace(_sets(name), changes=(Change(Action.END, Kind.SESSION_VARIABLE, name),))
    names = {*_CONNECTION} if name in _CONNECTION else {name}
    if "@@" in words_of(value) or (name in _MODES and not any_scope):
        names = set()  # it may have read the same one; or it is another one
    return Statement(
        changes=(Change(Action.BEGIN, Kind.SESSION_VARIABLE, name, hidden),),
        sets_sql_mode=name == "sql_mode",
        sets=frozenset((Kind.SESSION_VARIABLE, one) for one in names),
        only_sets=certain,
        depends=frozenset() if all(t.text.isascii() for t in value) else _MEANING_OF_TEXT,
        leaves=INSERTED if name == "last_insert_id" else 0,
        read_only=name == _READ_ONLY and _is_on(value),
    )


def _meaning_of(value: Sequence[Token]) -> frozenset[Key]:
    if all(token.word for token in value):
        return frozenset()  # numbers
    quotes = any(token.kind is TokenKind.DOUBLE or "\\" in token.text for token in value)
    return _MEANING_OF_TEXT | (_MEANING_OF_QUOTES if quotes else frozenset())


def _after_sign(tokens: Sequence[Token]) -> Sequence[Token]:
    """The value that is assigned; nothing if none is."""
    words = words_of(tokens[:2])
    return tokens[1:] if words[:1] == ["="] else tokens[2:] if words == [":", "="] else ()


def _is_constant(value: Sequence[Token]) -> bool:
    """A literal, a parameter, or numbers: the same in every session, texts apart."""
    if len(value) == 1 and (value[0].may_be_text or value[0].kind is TokenKind.MARKER):
        return True
    return bool(value) and all(_NUMBERS.fullmatch(token.word) for token in value)


def _is_on(value: Sequence[Token]) -> bool:
    if len(value) != 1:
        return False
    return (value[0].text.upper() if value[0].may_be_text else value[0].word) in _ON
