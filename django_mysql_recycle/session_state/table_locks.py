"""What locks tables, or the whole server, until something unlocks them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from .kinds import Kind
from .statements import BEGIN, END, PLAIN, Change, Statement
from .text import Token, words_of

__all__ = ["judge_backup", "judge_flush", "judge_lock", "judge_unlock"]


def judge_lock(tokens: Sequence[Token]) -> Statement:
    return _table_lock(BEGIN, "".join(words_of(tokens[1:2])))


def judge_unlock(tokens: Sequence[Token]) -> Statement:
    return _table_lock(END, "".join(words_of(tokens[1:2])))


def _table_lock(action: str, what: str) -> Statement:
    name = "tables" if what in ("TABLE", "TABLES") else what.lower()
    return Statement(changes=(Change(action, Kind.TABLE_LOCK, name),))


def judge_flush(tokens: Sequence[Token]) -> Statement:
    words = words_of(tokens)
    pairs = set(pairwise(words))
    if ("READ", "LOCK") in pairs or ("FOR", "EXPORT") in pairs:
        return _table_lock(BEGIN, "TABLES")
    return PLAIN


def judge_backup(tokens: Sequence[Token]) -> Statement:
    match words_of(tokens[:3]):
        case ["BACKUP", "STAGE", stage]:
            return _table_lock(END if stage == "END" else BEGIN, "backup stage")
        case ["BACKUP", "LOCK", *_]:
            return _table_lock(BEGIN, "backup lock")
        case ["BACKUP", "UNLOCK", *_]:
            return _table_lock(END, "backup lock")
    return PLAIN
