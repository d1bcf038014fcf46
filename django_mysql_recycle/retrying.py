"""A transaction that is run again when it is proved that nothing of it is in the database.

`Journal` notes what a run has done, as far as it matters for that; the guard writes it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from random import uniform
from time import sleep
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from django.db import connections, transaction
from django.db.utils import DEFAULT_DB_ALIAS, Error

from . import events
from .drivers.direct import unwatch_commits, watch_commits
from .errors import Proof, code_of
from .guard import guard_of
from .liveness import clock
from .session_state import Kind, Statement
from .session_state.effects import keeps_transaction
from .switchover import node_takes_writes
from .what_ran import may_have_run

if TYPE_CHECKING:
    from .connection import PhysicalConnection

__all__ = ["Journal", "retry_transaction", "run_transaction"]

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds before the second attempt. Each further pause is twice as long, up to the longest.
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0

#: Conflicts after which the same transaction may succeed. Each was rolled back by the server, or is
#: by atomic(). 1020 is such a conflict on MariaDB alone.
_CONFLICTS = {1205: "lock wait", 1213: "deadlock"}
_CONFLICTS_MARIADB = {1020: "snapshot conflict", **_CONFLICTS}

#: ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION: the session may be read-only by the user's own wish.
_READ_ONLY_TRANSACTION = 1792
#: ER_UNKNOWN_COM_ERROR: a Galera node outside its cluster refuses every statement.
_OUTSIDE_CLUSTER = 1047


class Journal:
    """What one run of a transaction has done."""

    def __init__(self) -> None:
        #: COMMIT, or what may be one, was sent. The transaction's hooks run after that.
        self.commit_sent = False
        #: A statement may have committed by itself.
        self.may_have_committed = False
        self._error: BaseException | None = None
        self._reason = ""
        self._raw: Any = None
        self._past = 0

    def will_run(self, statement: Statement, sql: object) -> None:
        """A statement is about to run."""
        self.may_have_committed |= (
            statement.calls
            or not statement.single
            or statement.sets_autocommit
            or statement.ends_transaction
            or any(change.kind is Kind.TRANSACTION for change in statement.changes)
            or not keeps_transaction(sql)
        )

    def began(self, connection: PhysicalConnection) -> None:
        """BEGIN has succeeded."""
        self.ended()
        self._raw = connection.raw
        self._past = connection.exchange.cursors
        if not watch_commits(connection.raw, self._may_commit):
            self._may_commit()

    def ended(self) -> None:
        """Nothing more belongs to the transaction."""
        if self._raw is not None:
            unwatch_commits(self._raw)

    def _may_commit(self) -> None:
        self.may_have_committed = True

    def failed(self, error: BaseException, proof: Proof, connection: PhysicalConnection) -> None:
        """A statement or COMMIT has ended with `error`."""
        if connection.raw is self._raw and connection.exchange.cursors != self._past:
            self.may_have_committed = True  # the application has used the driver's connection
        code = code_of(error)
        conflicts = _CONFLICTS_MARIADB if connection.mariadb else _CONFLICTS
        self._error, self._reason = error, ""
        if proof in (Proof.NEVER_RAN, Proof.MAY_HAVE_RUN):
            self._reason = "lost"
        elif (proof is Proof.READ_ONLY and code != _READ_ONLY_TRANSACTION) or (
            proof is Proof.WRONG_NODE and code == _OUTSIDE_CLUSTER
        ):
            self._reason = "wrong node"
        elif proof is Proof.ALIVE and code is not None:
            self._reason = conflicts.get(code, "")

    def reason_to_repeat(self, raised: BaseException) -> str:
        """Why the transaction that has ended with `raised` may run again; empty if it may not."""
        noted = self._error
        if noted is None or self.may_have_committed or not _is_copy(raised, noted):
            return ""
        if self.commit_sent and may_have_run(noted) is not False:
            return ""
        return self._reason


def _is_copy(raised: BaseException, noted: BaseException) -> bool:
    """Whether it is what Django has made of the noted error, and not one of the application's."""
    link: BaseException | None = raised
    while link is not None and link.args == noted.args:
        if link is noted:
            return True
        link = link.__cause__ or link.__context__
    return False


def run_transaction(
    function: Callable[[], T], *, using: str = DEFAULT_DB_ALIAS, attempts: int = 3
) -> T:
    """Run `function` in ``atomic(durable=True)``, again if it is proved that nothing of it is there.

    Returns what `function` returns. `using`: an alias of DATABASES. `attempts`: how often it runs
    at most (3), all in all.

    It runs again after a deadlock (1213), a lock wait timeout (1205), MariaDB's 1020, the refusal
    of a read-only node, and the loss of the connection before COMMIT was sent. The pauses before
    the further attempts grow from 0.05 s to at most 1 s, and vary at random. It never runs again if
    the answer to COMMIT was lost or COMMIT failed in a way that proves nothing, if its hooks have
    begun to run, or if a statement of it may have committed by itself: DDL, CALL, text that begins
    or ends a transaction, several statements in one text.

    `function` may run several times, so it must have no effects outside the database, must make
    its model instances itself, and must write to transactional tables only. ``on_commit`` hooks of
    an attempt that failed are discarded.

    Under TestCase, and on a connection of another backend, it runs once. Raises TypeError for
    coroutine and generator functions, ValueError for `attempts` below 1, and RuntimeError inside
    another ``atomic()`` or with autocommit off. Otherwise it raises what the last attempt raised.
    """
    _check(function, attempts)
    connection: Any = connections[using]
    guard = guard_of(connection)
    blocks = connection.atomic_blocks
    from_testcase = bool(blocks) and getattr(blocks[-1], "_from_testcase", False)
    if not from_testcase and (connection.in_atomic_block or not connection.get_autocommit()):
        raise RuntimeError(
            "run_transaction() runs a transaction of its own, and cannot do so inside atomic() or "
            "with autocommit off, because it could not run the whole transaction again. In a view "
            "under ATOMIC_REQUESTS, decorate the view with transaction.non_atomic_requests"
        )
    if from_testcase or guard is None:
        return _run(function, using)
    pause = _FIRST_PAUSE
    for attempt in range(1, attempts):
        journal = Journal()
        with guard.writing(journal):
            try:
                return _run(function, using)
            except Error as error:
                reason = journal.reason_to_repeat(error)
                if not reason or (reason == "wrong node" and node_takes_writes(guard)):
                    raise
        last = guard.connection
        events.transaction_repeated(
            connection,
            reason=reason,
            age=clock() - last.opened_at,
            idle=clock() - last.last_activity,
            attempt=attempt + 1,
            attempts=attempts,
        )
        sleep(pause * uniform(0.5, 1.5))
        pause = min(2 * pause, _LONGEST_PAUSE)
    return _run(function, using)


def _run(function: Callable[[], T], using: str) -> T:
    with transaction.atomic(using=using, durable=True):
        result = function()
        if inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result):
            # What is in it would run after COMMIT.
            if inspect.iscoroutine(result):
                result.close()
            raise TypeError(
                f"run_transaction() expected a function that does its work when it is called, and "
                f"it has returned {type(result).__name__}"
            )
    return result


def _check(function: Any, attempts: Any) -> None:
    for is_kind, name in (
        (inspect.iscoroutinefunction, "coroutine function"),
        (inspect.isgeneratorfunction, "generator function"),
        (inspect.isasyncgenfunction, "async generator function"),
    ):
        if is_kind(function) or is_kind(getattr(function, "__call__", None)):  # noqa: B004
            raise TypeError(
                f"run_transaction() expected a function that does its work when it is called, got a "
                f"{name}"
            )
    if not callable(function):
        raise TypeError(f"run_transaction() expected a function, got {type(function).__name__}")
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
        raise ValueError(f"attempts: expected a whole number >= 1, got {attempts!r}")


@overload
def retry_transaction(function: Callable[P, T]) -> Callable[P, T]: ...
@overload
def retry_transaction(
    *, using: str = DEFAULT_DB_ALIAS, attempts: int = 3
) -> Callable[[Callable[P, T]], Callable[P, T]]: ...
def retry_transaction(
    function: Callable[P, T] | None = None, *, using: str = DEFAULT_DB_ALIAS, attempts: int = 3
) -> Any:
    """A decorator: each call of the function is a `run_transaction`, with the same arguments.

    Used with or without brackets. Raises TypeError and ValueError where it decorates.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        _check(function, attempts)

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> T:
            call = functools.partial(function, *args, **kwargs)
            return run_transaction(call, using=using, attempts=attempts)

        return run

    return decorate if function is None else decorate(function)
