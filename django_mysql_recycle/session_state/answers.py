"""What statements leave in their session for later ones to ask for, without pinning it.

A new connection has no answer, or a wrong one: 0, NULL, no warnings. So each kind of answer says
which statements leave it, and what ends it: from then on the new connection answers for itself.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

__all__ = [
    "ANSWERS",
    "ANY",
    "CALLED",
    "INSERTED",
    "NUMBERED",
    "Answer",
    "End",
    "Read",
]

# What a statement has done, as bits. Plain integers: they are added up at each INSERT.
ANY = 1  #: it has run
INSERTED = 2  #: it may have set LAST_INSERT_ID()
NUMBERED = 4  #: it has taken a value from a sequence
CALLED = 8  #: code that its text does not show


class End(Enum):
    """What the new connection has to do before its own answer is the right one."""

    STATEMENT = auto()  #: run any statement
    SELECT = auto()  #: run a SELECT
    ASKED = auto()  #: it is asked whether it has an answer of its own
    SET = auto()  #: run the statement that sets the same one


class Answer(NamedTuple):
    """One kind of answer."""

    left_by: int  #: a statement that has done one of these
    end: End
    description: str  #: for a message


ANSWERS = {
    "last statement": Answer(ANY, End.STATEMENT, "the row count and warnings of a statement"),
    "FOUND_ROWS()": Answer(ANY, End.SELECT, "FOUND_ROWS() of a SELECT"),
    "LAST_INSERT_ID()": Answer(INSERTED | CALLED, End.ASKED, "LAST_INSERT_ID() of an INSERT"),
    "@@last_gtid": Answer(ANY, End.ASKED, "@@last_gtid of a write"),
    "LASTVAL()": Answer(
        # A column's DEFAULT takes values, too.
        NUMBERED | INSERTED | CALLED,
        End.ASKED,
        "LASTVAL() of a sequence",
    ),
    # Where a text sets one it pins. A trigger or a procedure may have set it out of sight.
    "user variable": Answer(INSERTED | CALLED, End.SET, "a user variable"),
}


class Read(NamedTuple):
    """One place where a statement asks for what an earlier one has left."""

    kind: str  #: a key of ANSWERS
    name: str  #: what the text asks for; for a message
    question: str = ""  #: SQL whose answer is 0, NULL or empty where the session has none
    hidden: bool = False  #: the name may tell what a literal contains: no message shows it

    def __str__(self) -> str:
        return self.name[:1] + "..." if self.hidden else self.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"
