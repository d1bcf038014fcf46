"""What the backend asks the server on its own account. Each question is one bounded round trip.

The answers are noted by the connection and its ledger.
"""

from __future__ import annotations

from itertools import count
from random import randrange
from typing import TYPE_CHECKING, Any

from .errors import PASSING, NoAnswer, code_of

if TYPE_CHECKING:
    from .connection import PhysicalConnection
    from .cursors import RecyclingCursor
    from .session_state import Read

__all__ = [
    "ask_database",
    "ask_locks",
    "is_in_step",
    "no_transaction_is_open",
    "ping",
    "read_limit",
    "reset_insert_id",
    "takes_writes",
]

#: What is asked to see whether an answer is the one to its question: no number twice.
_numbers = count(randrange(1 << 40))


def is_in_step(connection: PhysicalConnection) -> bool:
    """Whether the next answer is the one to the next question. One round trip."""
    number = next(_numbers)
    try:
        return int(connection.ask(b"SELECT %d" % number)[0][0]) == number
    except (NoAnswer, connection.driver.error, LookupError, TypeError, ValueError):
        return False


def ping(connection: PhysicalConnection) -> None:
    """Afterwards the server has answered, or the connection is marked."""
    try:
        connection.ask(b"DO 0")
    except (NoAnswer, connection.driver.error):
        pass


def reset_insert_id(connection: PhysicalConnection, reads: tuple[Read, ...]) -> None:
    """Have LAST_INSERT_ID() answer as in a new session, where no replacement is possible.

    An earlier borrower of the pool has left its number. Nothing is asked if the statement also
    reads what this borrower has left, which the question would destroy.
    """
    if connection.usable and all(map(connection.may_have_from_earlier, reads)):
        try:
            connection.ask(b"DO LAST_INSERT_ID(0)")
        except (NoAnswer, connection.driver.error):
            return
        connection.ledger.left_insert_id()


def read_limit(connection: PhysicalConnection) -> bool:
    """Read the session's ``wait_timeout`` and sql_mode. False: refused for good, so far."""
    try:
        rows = connection.ask(b"SELECT @@SESSION.wait_timeout, @@SESSION.sql_mode")
        seconds = float(rows[0][0])
        if not seconds > 0:
            raise ValueError
        connection.set_wait_timeout(seconds)
        mode = str(rows[0][1])
        connection.reads_literals(
            escapes="NO_BACKSLASH_ESCAPES" not in mode, ansi="ANSI_QUOTES" in mode
        )
    except NoAnswer:
        pass
    except (connection.driver.error, ValueError, TypeError, IndexError, KeyError) as error:
        if connection.usable:
            connection.limit_refused()
            return code_of(error) in PASSING
    return True


#: What makes a server refuse to write. The first question is for Galera: a node outside its cluster
#: answers SELECT of variables as if all were well, and refuses this one with 1047.
_WRITING = {
    True: (b"DO 0", b"SELECT @@GLOBAL.read_only, @@GLOBAL.innodb_read_only"),
    False: (b"SELECT @@GLOBAL.read_only, @@GLOBAL.super_read_only, @@GLOBAL.innodb_read_only",),
}
_OUTSIDE_CLUSTER = 1047


def takes_writes(connection: PhysicalConnection) -> bool | None:
    """Whether the node says that it takes writes. None: it does not say. No privilege is needed."""
    try:
        for question in _WRITING[connection.mariadb]:
            rows = connection.ask(question)
        return all(str(value).upper() in ("0", "OFF") for value in rows[0])
    except NoAnswer:
        return None
    except connection.driver.error as error:
        return False if code_of(error) == _OUTSIDE_CLUSTER else None
    except LookupError:
        return None  # not what a server answers


def no_transaction_is_open(connection: PhysicalConnection) -> bool:
    """Whether the server says so. In doubt it does not."""
    try:
        # Refused with 1568 while a transaction is open. Needs no privilege.
        connection.ask(b"SET TRANSACTION READ WRITE")
        # The mode that was just set for the next transaction goes with it. Refused inside an
        # XA transaction, of which the server itself admits nothing but its end.
        connection.ask(b"ROLLBACK AND NO CHAIN NO RELEASE")
    except (NoAnswer, connection.driver.error):
        return False
    return True


def _may_ask(connection: PhysicalConnection, cursor: RecyclingCursor | None) -> bool:
    # If it is closed its loss is to be reported.
    return (
        connection.usable
        and not connection.has_pending_result(cursor)
        and not connection.peer_closed()
    )


def ask_database(connection: PhysicalConnection, cursor: RecyclingCursor | None = None) -> None:
    """Ask for the default database, after a statement whose text does not show it."""
    if not _may_ask(connection, cursor):
        return
    try:
        # In hexadecimal digits it is the same whatever the character set of the session.
        digits = connection.ask(b"SELECT HEX(DATABASE())")[0][0]
        name = None
        if digits is not None:
            name = bytes.fromhex(digits.decode() if isinstance(digits, bytes) else digits).decode()
    except (NoAnswer, connection.driver.error, ValueError, IndexError):
        return  # it still pins, and the next statement asks again
    connection.ledger.pins.database_is(name)


def ask_locks(connection: PhysicalConnection, cursor: RecyclingCursor | None = None) -> None:
    """Ask which named locks are held where no answer of a statement has shown it."""
    if not _may_ask(connection, cursor):
        return
    asked = connection.ledger.pins.locks_to_ask_for()
    calls = (f"IS_USED_LOCK({name}) <=> CONNECTION_ID()" for name in asked.values())
    held: dict[Any, bool | None] = dict.fromkeys(asked)
    try:
        if asked:
            rows = connection.ask(f"SELECT CONNECTION_ID(), {', '.join(calls)}".encode())
            session, *answers = map(int, rows[0])
            # A proxy may have asked another server, which knows nothing of these locks.
            if session == connection.raw.thread_id():
                held = {key: bool(answer) for key, answer in zip(asked, answers, strict=True)}
    except (NoAnswer, connection.driver.error):
        pass
    except (ValueError, TypeError, IndexError, AttributeError):
        pass  # not what a server answers
    connection.ledger.pins.locks_answered(held)
