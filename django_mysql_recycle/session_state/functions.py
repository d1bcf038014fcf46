"""Functions and variables, wherever in a statement they stand.

The functions that matter are watched by name: those for locks, and those that ask for what an
earlier statement has left. Any other one, and a stored one, begins nothing that is known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from .assignments import Assignments, judge_assignments
from .kinds import INSERTED, NUMBERED, Answer, Kind
from .lexer import (
    Source,
    Token,
    TokenKind,
    dotted_name,
    is_stretch,
    split_at_commas,
    unquoted,
    words_of,
)
from .statements import Action, Change, Parameter, Read, Statement

__all__ = ["ASKING_CALLS", "judge_functions"]

#: What each function does to which kind of lock.
_LOCK_CALLS = {
    "GET_LOCK": (Action.BEGIN, Kind.NAMED_LOCK),
    "RELEASE_LOCK": (Action.END, Kind.NAMED_LOCK),
    "RELEASE_ALL_LOCKS": (Action.END_ALL, Kind.NAMED_LOCK),
    # MySQL's locking service and version tokens. These fail rather than answer 0, and a release
    # frees all locks of a namespace.
    "SERVICE_GET_READ_LOCKS": (Action.BEGIN, Kind.SERVICE_LOCK),
    "SERVICE_GET_WRITE_LOCKS": (Action.BEGIN, Kind.SERVICE_LOCK),
    "SERVICE_RELEASE_LOCKS": (Action.END, Kind.SERVICE_LOCK),
    "VERSION_TOKENS_LOCK_SHARED": (Action.BEGIN, Kind.SERVICE_LOCK),
    "VERSION_TOKENS_LOCK_EXCLUSIVE": (Action.BEGIN, Kind.SERVICE_LOCK),
    "VERSION_TOKENS_UNLOCK": (Action.END, Kind.SERVICE_LOCK),
}
#: The namespace of the locking service in which version tokens are locked.
_VERSION_TOKENS = "version_token_locks"

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

#: Functions that do nothing but answer.
ASKING_CALLS = {*_READING_CALLS, "LAST_INSERT_ID", "LASTVAL"}

#: Statements in which an unquoted name before an @ is an account.
_NAME_ACCOUNTS = {"GRANT", "REVOKE", "SHOW", "SET", "CREATE", "ALTER", "DROP", "RENAME", "KILL"}

#: Functions whose value depends on what they are given alone, and on the default database.
_SAME_VALUE = {
    *("CONCAT", "CONCAT_WS", "DATABASE", "SCHEMA", "LEFT", "RIGHT", "SUBSTR", "SUBSTRING", "TRIM"),
    *("LOWER", "UPPER", "LCASE", "UCASE", "REPLACE", "LPAD", "RPAD", "HEX", "CRC32"),
    *("MD5", "SHA", "SHA1", "SHA2"),
}
#: Of a lock's name that takes more tokens only the beginning is read.
_LONGEST_NAME = 32
#: With one of these a call may run for several rows, or for none.
_CLAUSES = {
    *("FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "UNION", "EXCEPT", "INTERSECT", "INTO")
}

_NOTHING = Token(TokenKind.SIGN, "", "", 0, 0)


def judge_functions(source: Source, tokens: Sequence[Token]) -> Statement:
    locks: list[int] = []
    variables: dict[str, Change] = {}
    reads: list[Read] = []
    leaves = 0
    words = words_of(tokens)
    written = _written(tokens, words)
    assignments = Assignments()
    if written:
        places = {tokens[index].start for index in written if index < len(tokens)}
        assignments = judge_assignments(source, tokens, places)
    for index, (token, following) in enumerate(pairwise((*tokens, _NOTHING))):
        if token.kind is TokenKind.VARIABLE:
            if not _is_account(tokens, words, index):
                name = token.text.lower()
                # It may be the rest of an address in a literal that was read wrongly.
                quoted = source.text[token.start + 1 : token.start + 2] in ("'", '"')
                hidden = quoted or "." in name
                variables[name] = Change(Action.BEGIN, Kind.USER_VARIABLE, name, hidden)
                if index not in written and token.start not in assignments.late_reads:
                    reads.append(Read(Answer.USER_VARIABLE, f"@{name}", hidden=hidden))
        elif token.word == "@@":
            if index not in written:
                place = index + (3 if words[index + 2 : index + 3] == ["."] else 1)
                system = (token.text.upper() for token in tokens[place : place + 1])
                reads.extend(filter(None, map(_READ_VARIABLES.get, system)))
        elif words[index + 1 : index + 3] == ["VALUE", "FOR"]:
            if token.word == "PREVIOUS":
                reads.append(_last_value(tokens[index + 3 :]))
            leaves |= NUMBERED * (token.word == "NEXT")
        elif following.word == "(" and token.may_be_name:
            function = token.text.upper()
            if function in _LOCK_CALLS:
                locks.append(index)
            elif function in _READING_CALLS:
                reads.append(_READING_CALLS[function])
            elif function == "LASTVAL":
                reads.append(_last_value(tokens[index + 2 :]))
            elif function == "NEXTVAL":
                leaves |= NUMBERED
            elif function == "LAST_INSERT_ID":
                if words[index + 2 : index + 3] == [")"]:
                    reads.append(_INSERT_ID)
                else:
                    leaves |= INSERTED
    changes, lone = _judge_locks(source, tokens, locks) if locks else ((), "")
    return Statement(
        changes=(*changes, *variables.values()),
        reads=tuple(dict.fromkeys(reads)),
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


def _is_account(tokens: Sequence[Token], words: Sequence[str], index: int) -> bool:
    """'user'@'host' rather than a variable; no expression has a name or literal before the @."""
    before = tokens[index - 1]
    if not index or before.kind is TokenKind.SIGN or before.kind is TokenKind.VARIABLE:
        return False
    if before.kind is not TokenKind.WORD:
        return True
    joined = before.end == tokens[index].start
    return joined and words[0] in _NAME_ACCOUNTS and "SELECT" not in words


def _written(tokens: Sequence[Token], words: Sequence[str]) -> set[int]:
    """Where variables stand that the statement sets without reading them."""
    written: set[int] = set()
    if words[0] == "SET":
        index = 1
        for assignment in split_at_commas(tokens[1:]):
            written.add(index)
            index += len(assignment) + 1
    elif words[0] == "CALL":
        written.update(range(len(tokens)))
    elif words[0] == "LOAD":
        read_in = words.index("SET") if "SET" in words else len(words)
        names = {token.text for token in tokens[:read_in] if token.kind is TokenKind.VARIABLE}
        written.update(i for i, t in enumerate(tokens) if i < read_in or t.text in names)
    for index, token in enumerate(tokens[1:], 1):
        if token.kind is TokenKind.VARIABLE and (
            words[index - 1] == "INTO"
            or (words[index - 1] == "," and index - 2 in written)
            or words[index + 1 : index + 3] == [":", "="]
        ):
            written.add(index)
    return written


def _judge_locks(
    source: Source, tokens: Sequence[Token], calls: Sequence[int]
) -> tuple[tuple[Change, ...], str]:
    """What the calls at these places of a statement do.

    Also the function whose answer is the only value that the statement returns. Where a lock may
    or may not be held afterwards, the server is to be asked: the last change says so. A beginning
    may be counted too often and an end too rarely: the lock then pins for too long. The other way
    round it would be lost without an error.
    """
    changes = tuple(_lock_change(source, tokens, call) for call in calls)
    named = [change for change in changes if change.kind is Kind.NAMED_LOCK]
    behind = _behind(tokens, calls)
    if behind is not None and (_is_alias(behind) or not named):
        if named and tokens[0].word == "SELECT":
            return changes, tokens[calls[0]].text.upper()
        begun = any(not change.ends for change in named)
        return (*changes, *[Change(Action.ASK, Kind.NAMED_LOCK)] * begun), ""
    begins = tuple(replace(change, uncounted=True) for change in changes if not change.ends)
    releases = any(change.ends for change in named)
    asks = [Change(Action.ASK, Kind.NAMED_LOCK, uncounted=releases)] * bool(named)
    return (*begins, *asks), ""


def _behind(tokens: Sequence[Token], calls: Sequence[int]) -> Sequence[Token] | None:
    """What stands behind a call that runs exactly once; ``None`` if it is not certain to do so.

    It does if it is the first thing in the list of a SELECT or DO, which has no other clauses.
    """
    if words_of(tokens[-2:]) == ["FROM", "DUAL"]:
        tokens = tokens[:-2]
    words = words_of(tokens)
    if calls != [1] or words[0] not in ("SELECT", "DO") or not _CLAUSES.isdisjoint(words):
        return None
    depth = 0
    for index, word in enumerate(words):
        depth += (word == "(") - (word == ")")
        if word == ")" and not depth:
            return None if any(map(is_stretch, tokens)) else tokens[index + 1 :]
    return None


def _is_alias(tokens: Sequence[Token]) -> bool:
    words = words_of(tokens)
    return not words or (len(words) == 1 + (words[0] == "AS") and tokens[-1].may_be_name)


def _lock_change(source: Source, tokens: Sequence[Token], call: int) -> Change:
    function = tokens[call].text.upper()
    action, kind = _LOCK_CALLS[function]
    if action is Action.END_ALL:
        return Change(action, kind)
    if function.startswith("VERSION"):
        return Change(action, kind, _VERSION_TOKENS)
    name = next(split_at_commas(tokens[call + 2 : call + 2 + _LONGEST_NAME]))
    depth = 0
    for place, token in enumerate(name):  # the bracket that ends the call
        depth += (token.word == "(") - (token.word == ")")
        if depth < 0:
            name = name[:place]
            break
    if len(name) == 1 and name[0].kind is TokenKind.MARKER:
        return Change(action, kind, placeholder=source.parameter(name[0]))
    introduced = len(name) > 1 and (name[0].word == "N" or name[0].word.startswith("_"))
    literal = name[introduced:]
    if literal and all(token.may_be_text for token in literal):
        return Change(action, kind, "".join(unquoted(token, source.reading) for token in literal))
    expression = ""
    for token in name:
        blank = " " if expression[-1:].isalnum() and token.kind is not TokenKind.SIGN else ""
        written = source.text[token.start : token.end]
        expression += blank + (written.lower() if token.kind is TokenKind.WORD else written)
    # Of such an expression the same text need not have the same value later.
    changing = len(name) == _LONGEST_NAME or any(
        token.kind is TokenKind.VARIABLE or token.word in ("@@", "SELECT") for token in name
    )
    return Change(
        action,
        kind,
        expression,
        hidden=any(token.may_be_text for token in name),
        inputs=tuple(source.parameter(t) for t in name if t.kind is TokenKind.MARKER),
        asked=() if changing else _asked(source, name),
        uncounted=changing,
    )


def _asked(source: Source, name: Sequence[Token]) -> tuple[str | Parameter, ...]:
    """The SQL of a name, if evaluating it once more does nothing and has the same value."""
    parts: list[str | Parameter] = []
    for token, following in zip(name, [*words_of(name[1:]), ""], strict=False):
        written = token.word or source.text[token.start : token.end]
        if token.kind is TokenKind.MARKER:
            parts.append(Parameter(source.parameter(token)))
        elif (
            (token.word in _SAME_VALUE and following == "(")
            or (token.kind is TokenKind.WORD and token.word.isdigit())
            or token.word in ("(", ")", ",")
            or (
                token.kind is TokenKind.STRING
                and written.isascii()
                and not set(written) & set("%\\")
            )
        ):
            parts.append(written)
        else:
            return ()
    return tuple(parts)
