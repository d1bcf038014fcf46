"""What is known of one statement: the data between reading SQL and keeping account of pins."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import reduce
from operator import or_
from typing import NamedTuple

from .kinds import INSERTED, Answer, End, Kind

__all__ = [
    *("NEXT_ACCESS_MODE", "NEXT_ISOLATION", "PLAIN", "PLAIN_INSERT"),
    *("RUNS_UNKNOWN", "Action", "Change", "Key", "Parameter", "Read", "Statement"),
    *("begins_of", "in_doubt", "in_turn", "marks", "together", "transactions_only"),
]


class Action(Enum):
    BEGIN = "begin"
    END = "end"
    END_ALL = "end_all"  #: every one of the kind
    RUN = "run"  #: what the text begins that was prepared; of another text it is not known
    RENAME = "rename"  #: it goes on under another name
    ASK = "ask"  #: only the server knows which ones of the kind there are after it


#: The names under which SET TRANSACTION without a scope, which COMMIT and ROLLBACK end, is a
#: session variable.
NEXT_ISOLATION = "isolation level of the next transaction"
NEXT_ACCESS_MODE = "access mode of the next transaction"


class Parameter(NamedTuple):
    """A parameter of a statement: its place, or its key."""

    key: int | str


@dataclass(frozen=True, slots=True)
class Change:
    """One piece of session state that a statement begins or ends."""

    action: Action
    kind: Kind
    #: Identity within the kind; lower-case where every server ignores case. Not in the repr: it
    #: may have been written as a literal.
    name: str = field(default="", repr=False)
    hidden: bool = False  #: the name may be a piece of a literal: no message shows it
    placeholder: int | str | None = None  #: the name is this parameter: its index, or its key
    inputs: tuple[int | str, ...] | None = None  #: the name is an expression of these parameters
    #: That expression as SQL, parameters apart, if it has the same value whenever it is evaluated.
    asked: tuple[str | Parameter, ...] = field(default=(), repr=False)
    #: How often it begins is not known: no END of a lock is known to be the last, and of USE it is
    #: not known whether it ran. Of RUN: what was prepared need not be known.
    uncounted: bool = False
    then: tuple[Change, ...] = ()  #: what begins when the prepared statement runs

    @property
    def ends(self) -> bool:
        return self.action in (Action.END, Action.END_ALL)

    def in_doubt(self) -> Change:
        """The same in a text that may be read in two ways, or may not run."""
        then = self.then or (Change(Action.BEGIN, Kind.UNKNOWN),) * (self.kind is Kind.PREPARED)
        uncounted = self.uncounted or self.action is not Action.RUN
        return replace(self, uncounted=uncounted, then=then)


#: Kind and name: what a pin and a statement that sets the same thing have in common.
Key = tuple[Kind, str]


class Read(NamedTuple):
    """One place where a statement asks for what an earlier one has left."""

    answer: Answer
    name: str  #: what the text asks for; for a message
    question: str = ""  #: SQL whose answer is 0, NULL or empty where the session has none
    hidden: bool = False  #: the name may be a piece of a literal: no message shows it

    @property
    def key(self) -> Key | None:
        """Of a user variable, what a pin of it has in common with it."""
        return (Kind.USER_VARIABLE, self.name[1:]) if self.answer.value.end is End.SET else None

    def __str__(self) -> str:
        return self.name[:1] + "..." if self.hidden else self.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"


@dataclass(frozen=True, slots=True)
class Statement:
    """What matters here about a text sent to the server. By default, nothing does."""

    changes: tuple[Change, ...] = ()  #: in the order of the text
    reads: tuple[Read, ...] = ()  #: what earlier statements have left and it asks for
    asks_only: bool = False  #: it does nothing but ask for that, and leaves nothing itself
    leaves: int = 0  #: what it does that a later statement may ask for (kinds.py)
    #: State that it sets without having read any of it. Not in the repr, for the names in it.
    sets: frozenset[Key] = field(default=frozenset(), repr=False)
    only_sets: bool = False  #: it does nothing else, whatever the session is like
    depends: frozenset[Key] = frozenset()  #: session variables that its values depend on
    single: bool = True  #: exactly one statement in the text
    repeatable: bool = True  #: may run once more if it provably never ran
    enters_transaction: bool = False  #: the whole text is BEGIN or START TRANSACTION
    ends_transaction: bool = False  #: COMMIT, ROLLBACK or SET autocommit = 1 in it
    calls: bool = False  #: runs code that the text does not show
    sets_autocommit: bool = False
    sets_sql_mode: bool = False
    mentions_wait_timeout: bool = False
    sends_file: bool = False  #: the client sends a file, as fast as the server takes it
    #: It sets how long the server waits for the client. Losing that changes no answer, but a pool
    #: hands it to no other borrower.
    sets_timeout: bool = False
    read_only: bool = False  #: declares READ ONLY: error 1792 is then the user's own doing
    lone_lock_call: str = ""  #: its only answer says whether this function got or freed the lock

    @property
    def shows_in_status(self) -> bool:
        """Whether the server's status flags show more than the text."""
        return self.sets_autocommit or self.sets_sql_mode or self.calls or not self.single

    @property
    def begins_transaction(self) -> bool:
        """Whether it begins a transaction, or may switch autocommit off."""
        begins = any(c.kind is Kind.TRANSACTION and not c.ends for c in self.changes)
        return begins or (self.sets_autocommit and not self.ends_transaction)

    def sets_all(self, lost: frozenset[Hashable]) -> bool:
        """Whether it sets all of this state again, however the session is like."""
        return lost <= self.sets and lost.isdisjoint(self.depends)

    def may_set_again(self, lost: frozenset[Hashable]) -> bool:
        """Whether it does the same in a session that lacks this state, and may set some of it."""
        return self.only_sets or self.sets_all(lost)

    @property
    def selects_database(self) -> bool:
        """It is USE, and shows the name."""
        return self.single and any(
            change.kind == Kind.DEFAULT_DATABASE and not change.uncounted for change in self.changes
        )


PLAIN = Statement()
PLAIN_INSERT = Statement(leaves=INSERTED)


def marks(change: Change) -> bool:
    """Whether it may leave something in the session of which no end is known."""
    return change.kind.value.marks or change.action is Action.RUN


def begins_of(changes: Iterable[Change]) -> tuple[Change, ...]:
    """The same where what ends is not taken for granted. The server is asked about locks."""
    changes = tuple(changes)
    begins = tuple(change for change in changes if not change.ends)
    if any(change.kind == Kind.NAMED_LOCK for change in changes):
        releases = any(change.ends and change.kind == Kind.NAMED_LOCK for change in changes)
        begins += (Change(Action.ASK, Kind.NAMED_LOCK, uncounted=releases),)
    return begins


def transactions_only(statement: Statement) -> Statement:
    """The same without the session state that ``pin_session_state = False`` gives up.

    Half a transaction must never be committed by its second half, and no statement may run in
    another database than the application has selected, whatever the settings say.
    """
    changes = (
        replace(change, uncounted=change.uncounted or change.kind is Kind.PREPARED)
        for change in statement.changes
        if _counts_always(change)
    )
    reads = tuple(read for read in statement.reads if read.answer is not Answer.USER_VARIABLE)
    return replace(statement, changes=tuple(changes), reads=reads, lone_lock_call="")


def _counts_always(change: Change) -> bool:
    return (
        change.kind.value.always
        or change.action is Action.RUN
        or any(map(_counts_always, change.then))  # PREPARE p FROM 'BEGIN'
        or (change.kind == Kind.PREPARED and change.ends)
    )


def in_doubt(one: Statement, other: Statement) -> Statement:
    """The text can be read both ways: what pins in one of them pins, what ends must in both."""
    if one == other:
        return one
    changes = one.changes
    if changes != other.changes:
        begins = begins_of((*one.changes, *other.changes))
        changes = tuple(dict.fromkeys(change.in_doubt() for change in begins))
    return replace(
        together((one, other)),
        changes=changes,
        single=one.single and other.single,
        enters_transaction=one.enters_transaction and other.enters_transaction,
        ends_transaction=one.ends_transaction and other.ends_transaction,
        sets=one.sets & other.sets,
        only_sets=one.only_sets and other.only_sets,
        read_only=one.read_only and other.read_only,
    )


def together(parts: Iterable[Statement]) -> Statement:
    """The parts of one statement, or several statements, as one."""
    parts = tuple(parts)
    return Statement(
        changes=tuple(change for part in parts for change in part.changes),
        reads=tuple(dict.fromkeys(read for part in parts for read in part.reads)),
        repeatable=all(part.repeatable for part in parts),
        enters_transaction=any(part.enters_transaction for part in parts),
        ends_transaction=any(part.ends_transaction for part in parts),
        leaves=reduce(or_, (part.leaves for part in parts), 0),
        sets=frozenset().union(*(part.sets for part in parts)),
        depends=frozenset().union(*(part.depends for part in parts)),
        calls=any(part.calls for part in parts),
        sets_autocommit=any(part.sets_autocommit for part in parts),
        sets_sql_mode=any(part.sets_sql_mode for part in parts),
        sends_file=any(part.sends_file for part in parts),
        sets_timeout=any(part.sets_timeout for part in parts),
        read_only=any(part.read_only for part in parts),
    )


#: What a statement begins that is not known, if it runs.
RUNS_UNKNOWN = Change(Action.RUN, Kind.UNKNOWN)


def _before_others(statement: Statement) -> Statement:
    """If the text fails, this one may have run all the same; the last one has not."""
    if RUNS_UNKNOWN not in statement.changes:
        return statement
    begun = Change(Action.BEGIN, Kind.UNKNOWN)
    changes = tuple(begun if c == RUNS_UNKNOWN else c for c in statement.changes)
    return replace(statement, changes=changes)


def in_turn(statements: Sequence[Statement], verbs: Sequence[str]) -> Statement:
    """The statements of one text. Each runs only if those before it have succeeded."""
    reads: list[Read] = []
    ended: set[End] = set()
    sets: frozenset[Key] = frozenset()  #: by any of those so far
    alone: frozenset[Key] = frozenset()  #: before anything else has run
    only_sets = bool(statements)
    for statement, verb in zip(statements, verbs, strict=True):
        reads += (
            read
            for read in statement.reads
            if read.answer.value.end not in ended and read.key not in sets
        )
        ended.add(End.STATEMENT)
        if verb == "SELECT":
            ended.add(End.SELECT)
        sets |= statement.sets
        if only_sets:
            alone = sets
            only_sets = statement.only_sets
    return replace(
        together((*map(_before_others, statements[:-1]), *statements[-1:])),
        reads=tuple(dict.fromkeys(reads)),
        sets=alone,
        only_sets=only_sets,
        single=False,
        repeatable=False,
        enters_transaction=False,
    )
