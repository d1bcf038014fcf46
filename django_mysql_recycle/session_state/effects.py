"""What a statement can do to the transaction that it runs in, by its text.

Asked on rare paths: for the first statements of a transaction, and once the server has rolled one
back. Doubt counts as the answer with the graver consequence, which each function names.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

from .lexer import USUAL, Source, tokenise, words_of

__all__ = [
    "changes_rows_only",
    "commits",
    "keeps_transaction",
    "may_touch_tables",
    "may_write",
    "only_reads",
    "rolls_back",
]

#: Of the statements that begin like this one, those without a table touch no storage engine.
_TABLELESS = re.compile(r"\s*(?:SELECT|SET|DO)\b", re.IGNORECASE)
_SAVEPOINT = re.compile(r"\s*(?:SAVEPOINT|RELEASE|ROLLBACK\s+TO)\b", re.IGNORECASE)
#: A table, a sequence, a name in quotes, or a comment that may hide one of them.
_PERHAPS_A_TABLE = re.compile(
    r"FROM|TABLE|VALUE|CALL|UPDATE|INSERT|DELETE|REPLACE|NEXTVAL|SETVAL|[`\"#;]|/\*|--",
    re.IGNORECASE,
)
_CALL = re.compile(r"([\w$.]+)\s*\(")
#: Functions of the servers' own that read no table; a stored function may read any.
_HARMLESS = re.compile(
    r"""
    ABS | AND | CAST | COALESCE | CONCAT | CONNECTION_ID | CONVERT | CURDATE
    | CURRENT_TIMESTAMP | CURRENT_USER | CURTIME | DATABASE | FOUND_ROWS | GET_LOCK | GREATEST
    | IF | IFNULL | IN | IS_FREE_LOCK | IS_USED_LOCK | LAST_INSERT_ID | LEAST | LOWER | MD5
    | NOT | NOW | NULLIF | OR | RAND | RELEASE_ALL_LOCKS | RELEASE_LOCK | REPEAT | ROW_COUNT
    | SCHEMA | SELECT | SESSION_USER | SHA1 | SHA2 | SLEEP | SYSDATE | UNIX_TIMESTAMP | UPPER
    | USER | UTC_TIMESTAMP | UUID | VERSION
    """,
    re.IGNORECASE | re.VERBOSE,
)

_QUERY = re.compile(r"[\s(]*(?:SELECT|SHOW)\b", re.IGNORECASE)
#: FOR UPDATE, LOCK IN SHARE MODE, INTO OUTFILE.
_NOT_ONLY_A_QUERY = re.compile(r"\b(?:FOR|SHARE|INTO)\b", re.IGNORECASE)

#: They commit what is open before they do anything else.
_COMMITTING = re.compile(
    r"""
    ALTER | ANALYZE | BEGIN | CACHE | CHANGE | CHECK | COMMIT | CREATE | DROP | FLUSH | GRANT
    | IMPORT | INSTALL | LOCK | OPTIMIZE | PURGE | RENAME | REPAIR | RESET | RESTART | REVOKE
    | START | STOP | TRUNCATE | UNINSTALL | UNLOCK
    """,
    re.IGNORECASE | re.VERBOSE,
)

_ROWS = {"DELETE", "INSERT", "LOAD", "REPLACE", "SELECT", "TABLE", "UPDATE", "VALUES", "WITH"}
_WRITES = {"CALL", "DELETE", "INSERT", "LOAD", "REPLACE", "UPDATE"}
#: Of the others, those that leave the transaction as it is.
_KEEP = {"DESC", "DESCRIBE", "DO", "EXPLAIN", "RELEASE", "SAVEPOINT", "SHOW"}
#: SET STATEMENT ... FOR runs another statement; the others change accounts.
_SET_AND_COMMIT = {"DEFAULT", "PASSWORD", "STATEMENT"}


def may_touch_tables(sql: Any) -> bool:
    """Whether it can have begun a transaction at the server. In doubt it can."""
    if not isinstance(sql, str) or len(sql) > 4096:
        return True
    if _SAVEPOINT.match(sql):
        return False
    if _TABLELESS.match(sql) is None or _PERHAPS_A_TABLE.search(sql):
        return True
    return not all(map(_HARMLESS.fullmatch, _CALL.findall(sql)))


def commits(sql: Any) -> bool:
    """Whether it commits, by itself or before it begins. In doubt it does not."""
    verb, *others = _words(sql)
    return _COMMITTING.fullmatch(verb) is not None and others[:1] != ["TEMPORARY"]


def changes_rows_only(sql: Any) -> bool:
    """Whether it reads or changes rows, and the server undoes all of it if it fails.

    In doubt it does not. Of DDL a part may stay, such as the first table of a DROP TABLE.
    """
    return _words(sql)[0] in _ROWS


def keeps_transaction(sql: Any) -> bool:
    """Whether it neither begins nor commits nor ends a transaction. In doubt it does."""
    verb, *others = _words(sql)
    second = others[0] if others else ""
    if verb == "SET":
        return second not in _SET_AND_COMMIT
    if verb == "LOAD":
        return second in ("DATA", "XML")
    if verb == "ROLLBACK":
        return "TO" in others
    return verb in _ROWS or verb in _KEEP


def only_reads(sql: Any) -> bool:
    """Whether it is a query that writes nothing and locks no row. In doubt it is not.

    What a stored function writes is not seen.
    """
    return (
        isinstance(sql, str)
        and _QUERY.match(sql) is not None
        and _NOT_ONLY_A_QUERY.search(sql) is None
    )


def may_write(sql: Any) -> bool:
    """Whether a read-only node would refuse it. In doubt it would not."""
    verb = _words(sql)[0]
    return verb in _WRITES or _COMMITTING.fullmatch(verb) is not None


def rolls_back(sql: Any) -> bool:
    """Whether it is a ROLLBACK of the whole transaction. In doubt it is not."""
    verb, *others = _words(sql)
    return verb == "ROLLBACK" and "TO" not in others


def _words(sql: Any) -> list[str]:
    """The first words of a text, at least one."""
    if isinstance(sql, (bytes, bytearray)):
        sql = bytes(sql[:4096]).decode("utf-8", "surrogateescape")
    tokens = tokenise(Source(sql if isinstance(sql, str) else "", USUAL))
    words = words_of(list(islice((token for token in tokens if token.word != "("), 9)))
    return words or [""]
