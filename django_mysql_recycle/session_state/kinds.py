"""The kinds of session state, and the kinds of answers that statements leave for later ones.

Each kind is one entry, and the entry is all that has to be said about it: the type checker refuses
one that lacks a part, and tests/unit/test_documents.py compares the documents with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

__all__ = ["ANY", "CALLED", "INSERTED", "NUMBERED", "Answer", "Boundary", "End", "Kind"]


class Boundary(Enum):
    """What becomes of state when a unit of work ends, if the connection is past its max age."""

    FORGOTTEN = auto()  #: the next unit of work sets it anew if it needs it, whatever the age
    ROLLED_BACK = auto()  #: as CLOSED, and what was not committed is undone
    CLOSED = auto()  #: Django closes the connection; the next statement raises SessionStateLost
    KEPT = auto()  #: others may rely on it: the connection is kept open, with a WARNING


@dataclass(frozen=True, kw_only=True)
class _State:
    """All that there is to say about one kind of session state."""

    label: str  #: its name in signals, log lines, counters and documents
    #: For SessionStateLost and the WARNING: "... 12 s ago". `{name}` is the name of the one piece.
    sentence: str
    ends_with: str  #: what ends it, as docs/how-it-works.md has it
    boundary: Boundary
    always: bool  #: `pin_session_state = False` does not give it up
    settable: bool  #: a statement can set it again after a loss, so that nothing is lost
    marks: bool  #: it may outlast its pin: a pool hands the connection to no other borrower
    in_expressions: bool  #: a call or a variable in an expression begins it: it survives an error
    after_loss: str  #: for SessionStateLost: what the application can do


_LOCK_FREE = (
    "The lock is free, and another session may have taken it: take it again, and check the data "
    "that it protects."
)


class Kind(Enum):
    """A kind of session state, in the order in which a message names them."""

    NAMED_LOCK = _State(
        label="named lock",
        sentence="named lock {name} taken",
        ends_with="`RELEASE_LOCK(` as often, `RELEASE_ALL_LOCKS(`",
        boundary=Boundary.KEPT,
        always=False,
        settable=False,
        marks=False,
        in_expressions=True,
        after_loss=_LOCK_FREE,
    )
    SERVICE_LOCK = _State(
        label="service lock",
        sentence="lock of the locking service taken",
        ends_with="`service_release_locks(` of the namespace, `version_tokens_unlock(`",
        boundary=Boundary.KEPT,
        always=False,
        settable=False,
        marks=False,
        in_expressions=False,
        after_loss=_LOCK_FREE,
    )
    TABLE_LOCK = _State(
        label="table lock",
        sentence="table lock ({name}) taken",
        ends_with="`UNLOCK TABLES` and the matching statements",
        boundary=Boundary.KEPT,
        always=False,
        settable=False,
        marks=False,
        in_expressions=False,
        after_loss=_LOCK_FREE,
    )
    TRANSACTION = _State(
        label="transaction",
        sentence="transaction begun by SQL",
        ends_with="`COMMIT`, `ROLLBACK`, `XA COMMIT`, `XA ROLLBACK`, "
        "Django's `commit()` and `rollback()`",
        boundary=Boundary.ROLLED_BACK,
        always=True,
        settable=False,
        marks=False,
        in_expressions=False,
        after_loss="The server has rolled back the transaction, unless XA PREPARE had run: run ROLLBACK, "
        "and all of the transaction again.",
    )
    AUTOCOMMIT_OFF = _State(
        label="autocommit off",
        sentence="autocommit switched off",
        ends_with="`SET autocommit = 1`",
        boundary=Boundary.ROLLED_BACK,
        always=True,
        settable=False,
        marks=False,
        in_expressions=False,
        after_loss="The server has rolled back what was not committed: run ROLLBACK and SET autocommit = "
        "0, and all of the transaction again.",
    )
    TEMPORARY_TABLE = _State(
        label="temporary table",
        sentence="temporary table `{name}` created",
        ends_with="dropping it",
        boundary=Boundary.CLOSED,
        always=False,
        settable=True,
        marks=False,
        in_expressions=False,
        after_loss="Create and fill the temporary table again.",
    )
    BY_HAND = _State(
        label="held by hand",
        sentence="pinned by hand{name}",
        ends_with="the end of its block",
        boundary=Boundary.KEPT,
        always=False,
        settable=False,
        marks=False,
        in_expressions=False,
        after_loss="Run the whole block of pinned() again.",
    )
    PREPARED = _State(
        label="prepared statement",
        sentence="prepared statement `{name}` made",
        ends_with="`DEALLOCATE PREPARE`",
        boundary=Boundary.CLOSED,
        always=False,
        settable=False,
        marks=False,
        in_expressions=False,
        after_loss="Prepare the statement again.",
    )
    HANDLER = _State(
        label="handler",
        sentence="handler `{name}` opened",
        ends_with="`HANDLER ... CLOSE`",
        boundary=Boundary.CLOSED,
        always=False,
        settable=False,
        marks=False,
        in_expressions=False,
        after_loss="Open the handler again.",
    )
    #: Selected by USE. It pins only while its name is not known: a new connection can select it
    #: again.
    DEFAULT_DATABASE = _State(
        label="default database",
        sentence="default database perhaps changed",
        ends_with="the answer of the server, asked before the next statement",
        boundary=Boundary.CLOSED,
        always=True,
        settable=False,
        marks=True,
        in_expressions=False,
        after_loss="Select the default database again with USE.",
    )
    SESSION_VARIABLE = _State(
        label="session variable",
        sentence="session variable {name} set",
        ends_with="the end of the unit of work; of `SET TRANSACTION` without a scope also "
        "`COMMIT` and `ROLLBACK`",
        boundary=Boundary.FORGOTTEN,
        always=False,
        settable=True,
        marks=True,
        in_expressions=False,
        after_loss="Set the session variable again.",
    )
    USER_VARIABLE = _State(
        label="user variable",
        sentence="user variable @{name} used",
        ends_with="the end of the unit of work",
        boundary=Boundary.FORGOTTEN,
        always=False,
        settable=True,
        marks=True,
        in_expressions=True,
        after_loss="Set the user variable again.",
    )
    #: What a statement leaves behind whose text is not known.
    UNKNOWN = _State(
        label="unknown state",
        sentence="state of a statement that this backend does not know, run",
        ends_with="the end of the unit of work",
        boundary=Boundary.FORGOTTEN,
        always=True,
        settable=False,
        marks=True,
        in_expressions=False,
        after_loss="Run the unit of work again from its beginning.",
    )


# What a statement has done, as bits. Plain integers: they are added up at each INSERT.
ANY = 1  #: it has run
INSERTED = 2  #: it may have set LAST_INSERT_ID()
NUMBERED = 4  #: it has taken a value from a sequence
CALLED = 8  #: code that its text does not show


class End(Enum):
    """What a new connection has to do before its own answer is the right one."""

    STATEMENT = auto()  #: run any statement
    SELECT = auto()  #: run a SELECT
    ASKED = auto()  #: it is asked whether it has an answer of its own
    SET = auto()  #: run the statement that sets the same one


@dataclass(frozen=True, kw_only=True)
class _Left:
    """All that there is to say about one kind of answer."""

    left_by: int  #: a statement that has done one of these
    end: End
    description: str  #: for a message


class Answer(Enum):
    """What a statement leaves for later ones to ask for, without pinning the connection.

    A new connection has no answer, or a wrong one: 0, NULL, no warnings.
    """

    LAST_STATEMENT = _Left(
        left_by=ANY, end=End.STATEMENT, description="the row count and warnings of a statement"
    )
    FOUND_ROWS = _Left(left_by=ANY, end=End.SELECT, description="FOUND_ROWS() of a SELECT")
    INSERT_ID = _Left(
        left_by=INSERTED | CALLED, end=End.ASKED, description="LAST_INSERT_ID() of an INSERT"
    )
    LAST_GTID = _Left(left_by=ANY, end=End.ASKED, description="@@last_gtid of a write")
    SEQUENCE_VALUE = _Left(
        left_by=NUMBERED | INSERTED | CALLED,  # a column's DEFAULT takes values, too
        end=End.ASKED,
        description="LASTVAL() of a sequence",
    )
    #: Where a text sets one it pins. A trigger or a procedure may have set it out of sight.
    USER_VARIABLE = _Left(left_by=INSERTED | CALLED, end=End.SET, description="a user variable")
