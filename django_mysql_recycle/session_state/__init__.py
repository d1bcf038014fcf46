"""Which statements pin a connection, end a pin, or read what earlier statements left behind.

`examine` answers for a text, `SessionState` keeps account for a connection. The first word and a
few substrings are enough for common statements; the tokenizer (`lexer`) and the rules (`meaning`)
are for the rest.
"""

from __future__ import annotations

from .kinds import ANY, CALLED, INSERTED, Answer, End, Kind
from .lexer import USUAL, Reading
from .meaning import judge
from .pins import SessionState
from .statements import (
    PLAIN,
    PLAIN_INSERT,
    Change,
    Key,
    Read,
    Statement,
    begins_of,
    marks,
    transactions_only,
)

__all__ = [
    "ANY",
    "INSERTED",
    "PLAIN",
    "PLAIN_INSERT",
    "USUAL",
    "Answer",
    "Change",
    "End",
    "Key",
    "Kind",
    "Read",
    "Reading",
    "SessionState",
    "Statement",
    "begins_of",
    "cache_get",
    "examine",
    "examine_callproc",
    "marks",
    "transactions_only",
]

#: Longer texts are examined each time: they are rarely sent twice, and dear to keep.
_LONGEST_CACHED = 4096
#: The upper case of a longer text costs as much as reading it, and its memory.
_LONGEST_UPPER = 32768
_MOST_CACHED = 2048

_cache: dict[object, Statement] = {}
#: What is known of a text already examined, else ``None``. Takes anything hashable.
cache_get = _cache.get

_SAVEPOINT = Statement(repeatable=False)
_CALL = Statement(calls=True, leaves=CALLED, repeatable=False)

#: By the first six letters: no other statement begins like these.
_COMMON = {
    "SELECT": PLAIN,
    "UPDATE": PLAIN,
    "DELETE": PLAIN,
    "INSERT": PLAIN_INSERT,
    "REPLAC": PLAIN_INSERT,
    "SAVEPO": _SAVEPOINT,
    "RELEAS": _SAVEPOINT,
}
_BLANK = " \t\n\r\v\f"


def examine(sql: str | bytes | bytearray, reading: Reading = USUAL) -> Statement:
    """What a text does to the session, as far as it shows. Never raises.

    `reading`: how the session reads literals; see `Reading`. The ordinary statement is `PLAIN` or
    `PLAIN_INSERT` itself, not only equal to it.
    """
    text = sql if isinstance(sql, str) else _decoded(sql)
    if len(text) > _LONGEST_UPPER:
        return judge(text, reading)
    upper = text.upper()
    statement = _COMMON.get(upper[:6]) or _common_later(upper)
    if (
        statement is None
        or "@" in upper
        or ";" in upper
        # What else could matter in these statements is called by one of these names.
        or "_LOCK" in upper
        or "_UNLOCK" in upper
        or "LAST_INSERT_ID" in upper
        or "FOUND_ROWS" in upper
        or "ROW_COUNT" in upper
        or "LASTVAL" in upper
        or "NEXTVAL" in upper
        or ("NEXT" in upper and "VALUE" in upper and "FOR" in upper)
        or "PREVIOUS" in upper
        or "WAIT_TIMEOUT" in upper
    ):
        statement = judge(text, reading)
    if reading is not USUAL:
        return statement
    if text is sql and len(text) <= _LONGEST_CACHED and statement is not _SAVEPOINT:
        if len(_cache) >= _MOST_CACHED:
            _cache.clear()
        _cache[text] = statement
    return statement


def examine_callproc(_name: str) -> Statement:
    """The same for a stored procedure called through the driver: nothing of it is in the text."""
    return _CALL


def _decoded(sql: object) -> str:
    if isinstance(sql, memoryview):
        sql = sql.tobytes()
    if isinstance(sql, (bytes, bytearray)):
        # A character beyond these may take four bytes of memory, and with it all of a long text.
        long = len(sql) > _LONGEST_UPPER and not sql.isascii()
        return sql.decode("latin-1") if long else sql.decode("utf-8", "surrogateescape")
    return str(sql)


def _common_later(upper: str) -> Statement | None:
    """The same for a text that begins with blanks, brackets or comments, or with WITH."""
    start = 0
    while True:
        head = upper[start : start + 64]
        begin = head.lstrip(_BLANK + "(\ufeff")
        if not begin:
            return None
        start += len(head) - len(begin)
        if not begin.startswith("/*"):
            break
        end = upper.find("*/", start + 2)
        if end < 0 or begin.startswith(("/*!", "/*M!")):
            return None
        start = end + 2
    verb = begin[:6]
    if verb[:4] == "WITH" and verb[4:5] in _BLANK:
        return PLAIN
    if verb == "ROLLBA" and begin.startswith("ROLLBACK TO "):
        return _SAVEPOINT  # Django's; each has a name of its own, so the cache is of no use
    return _COMMON.get(verb)
