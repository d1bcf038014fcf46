"""Where a transaction begins and ends: what the guard does in place of the driver's bare call.

Each function is called by a method of base.py; `below` is the method of the wrapper below it, which
talks to the server.
"""

from __future__ import annotations

import _thread
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from django.core.exceptions import SynchronousOnlyOperation
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import Error, InterfaceError, OperationalError

from . import what_ran
from .connection import Condition
from .errors import Proof
from .guard import interrupted
from .liveness import clock
from .originals import djangos_own
from .rollbacks import lost_transaction, transaction_refused
from .session_state import PLAIN
from .stock import DatabaseWrapper as MySQLDatabaseWrapper

if TYPE_CHECKING:
    from .connection import PhysicalConnection
    from .guard import Guard
    from .wrapper import Wrapper

__all__ = ["cut_short", "enter", "leave", "mode_cut_short", "send_commit", "send_rollback"]

#: What is no interruption: the database's errors, and Django's refusal to work inside an event
#: loop, which comes before anything is done.
_NO_INTERRUPTION = (Error, SynchronousOnlyOperation)

#: The methods of Django's own that do nothing but call the driver, and log it where Django logs.
_DJANGOS_OWN = frozenset(
    map(
        djangos_own,
        (
            MySQLDatabaseWrapper._set_autocommit,  # type: ignore[attr-defined]
            BaseDatabaseWrapper._commit,  # type: ignore[attr-defined]
            MySQLDatabaseWrapper._rollback,  # type: ignore[attr-defined]
            BaseDatabaseWrapper._rollback,  # type: ignore[attr-defined]
        ),
    )
)


def _send(
    wrapper: Wrapper,
    connection: PhysicalConnection,
    below: Callable[..., None],
    direct: Callable[..., object],
    *args: bool,
) -> None:
    """Do what the wrapper below does: by its own method, unless that only calls the driver."""
    if wrapper.foreign_transactions:
        # What runs in that call is refused by nothing, and replaces nothing.
        connection.base_sends(sys._getframe())
        below(*args)
        return
    connection.exchange.under_way = True
    if (
        # Django does not log that autocommit is switched.
        (not args and wrapper.queries_logged)
        or getattr(below, "__func__", None) not in _DJANGOS_OWN
        # The method of Django's MySQL wrapper calls this one by its name.
        or BaseDatabaseWrapper._rollback not in _DJANGOS_OWN  # type: ignore[attr-defined]
    ):
        below(*args)
    else:
        try:
            direct(*args)
        except Exception:
            with wrapper.wrap_database_errors:
                raise


def enter(wrapper: Wrapper, below: Callable[[bool], None]) -> None:
    """Switch autocommit off. Nothing has been done yet, so a loss here is repeated."""
    guard = wrapper.guard
    guard.in_a_lease = guard.lease is not None and guard.lease.held
    connection = guard.to_send()
    if connection is None:
        below(False)
        return
    now = clock()
    idle = now - connection.last_activity
    safe = (
        connection.needs_no_decision(now)
        and wrapper.autocommit
        and not wrapper.in_atomic_block
        and not wrapper._thread_sharing_count
        # No cursor has looked at the thread.
        and wrapper._thread_ident == _thread.get_ident()
    )
    if not safe:
        if connection.rolled_back is not None:
            raise transaction_refused(wrapper, connection)
        if connection.wrong_node:
            guard.wait_for_writer(connection)
        idle = guard.decide()
        if guard.losses.in_lost_transaction():
            raise lost_transaction(wrapper)
        connection = guard.connection
        safe = guard.is_safe(connection)
    try:
        _send(wrapper, connection, below, connection.raw.autocommit, False)
    except BaseException as error:
        proof = guard.note_error(connection, error, ran=not safe)
        if not safe or not proof.is_loss or not guard.is_in_use(connection):
            raise
        connection.idle_before = idle
        if connection.ledger.pins.pinned:
            raise guard.losses.state_lost(connection, idle, PLAIN) from error
        guard.reconnect_to_repeat(connection, idle, begins=True)
        guard.decide()  # receivers may have lost it again
        connection = guard.connection
        try:
            _send(wrapper, connection, below, connection.raw.autocommit, False)
        except BaseException as second:
            proof = guard.note_error(connection, second, ran=False)
            if guard.journal is not None:
                guard.journal.failed(second, proof, connection)
            raise
    connection.transaction_entered(clean=safe and not wrapper.foreign_transactions)
    if guard.journal is not None:
        guard.journal.began(connection)
    if guard.losses.unanswerable:
        guard.losses.note_answers()


def leave(wrapper: Wrapper, below: Callable[[bool], None]) -> None:
    """Switch autocommit on. No decision point: that may be a COMMIT itself."""
    guard = wrapper.guard
    connection = guard.to_send()
    if connection is None:
        below(True)
        return
    if connection.dirty and guard.off_for_atomic and _interruption():
        # Atomic switches autocommit on at the end of a block whose COMMIT or ROLLBACK an
        # interruption has kept from being sent. That would commit all the same.
        _discard_transaction(wrapper, connection)
    clean = not connection.dirty
    if clean and not connection.usable:
        # COMMIT or ROLLBACK has been acknowledged, or the server rolls back by itself. The
        # next connection has autocommit on; reconnecting now to say so might fail.
        return
    if connection.condition is Condition.INTERRUPTED:
        raise interrupted(connection)
    if connection.rolled_back is not None:
        raise transaction_refused(wrapper, connection)
    if guard.journal is not None and not clean:
        guard.journal.commit_sent = True
    try:
        _send(wrapper, connection, below, connection.raw.autocommit, True)
    except BaseException as error:
        proof = guard.note_error(connection, error, ran=not clean)
        what_ran.note_commit(error, proof)
        if clean and proof.is_loss:
            return
        raise
    connection.committed()
    if connection.ledger.pins.pinned:
        connection.ledger.pins.autocommit_seen(False, connection.last_activity)


def send_commit(wrapper: Wrapper, below: Callable[[], None]) -> None:
    """Never repeated: an error proves nothing about what the server did."""
    guard = wrapper.guard
    if guard.losses.transaction is not None and guard.losses.in_lost_transaction():
        raise lost_transaction(wrapper, is_over=True)
    connection = guard.to_send()
    if connection is None:
        below()
        return
    # Looked at before COMMIT is sent: what a lost connection says of itself means nothing.
    nothing_open = (
        not connection.dirty
        and not wrapper.foreign_transactions
        and guard.nothing_is_open(connection)
    )
    if not connection.usable:
        _commit_on_lost(wrapper, connection, nothing_open)
        return
    if connection.rolled_back is not None:
        raise transaction_refused(wrapper, connection)
    if guard.journal is not None:
        guard.journal.commit_sent = True
    try:
        _send(wrapper, connection, below, connection.raw.commit)
    except BaseException as error:
        proof = guard.note_error(connection, error, ran=not nothing_open)
        what_ran.note_commit(error, proof)
        if guard.journal is not None:
            guard.journal.failed(error, proof, connection)
        if not proof.is_loss:
            raise
        _commit_on_lost(wrapper, connection, nothing_open, error)
        return
    # Django does the same, a few lines on; an interruption in between shall not cost hooks.
    wrapper.run_commit_hooks_on_set_autocommit_on = True
    connection.committed()


def _commit_on_lost(
    wrapper: Wrapper,
    connection: PhysicalConnection,
    nothing_open: bool,
    error: BaseException | None = None,
) -> None:
    """COMMIT where the connection is lost. A success only if there was nothing to commit."""
    guard = wrapper.guard
    if connection.ledger.pins.pinned and guard.is_safe(connection):
        lost = guard.losses.state_lost(connection, clock() - connection.last_activity)
        connection.transaction_ended()
        raise lost from error
    if nothing_open:
        return
    if error is None:
        if connection.condition is Condition.INTERRUPTED:
            raise interrupted(connection)
        raise what_ran.not_sent(_lost_before_commit(guard, connection))
    if isinstance(error, InterfaceError):
        raise _lost_before_commit(guard, connection) from error
    raise error


def send_rollback(wrapper: Wrapper, below: Callable[[], None]) -> None:
    """A lost connection is as good as a ROLLBACK: the server does it.

    Django's raises if the connection is lost, which would mask the application's own exception.
    """
    guard = wrapper.guard
    if guard.losses.transaction is not None and guard.losses.in_lost_transaction():
        guard.losses.transaction_is_over()
    connection = guard.to_send()
    if connection is None:
        below()
        return
    if connection.usable:
        try:
            _send(wrapper, connection, below, connection.raw.rollback)
        except BaseException as error:
            if not guard.note_error(connection, error).is_loss:
                raise
        else:
            connection.committed()
    if not connection.usable:
        # Now, not at the next statement: its locks are to go.
        connection.discard()
        connection.transaction_ended()


def cut_short(wrapper: Wrapper, error: BaseException) -> None:
    """COMMIT or ROLLBACK was interrupted by an exception that the application has yet to see.

    Atomic.__exit__ only switches autocommit on now. That must not commit what was to be rolled
    back, nor mask the exception, nor leave the hooks to the next transaction.
    """
    connection = wrapper.guard.connection
    if not isinstance(error, _NO_INTERRUPTION) and wrapper.guard.is_in_use(connection):
        _discard_transaction(wrapper, connection)


def mode_cut_short(wrapper: Wrapper, error: BaseException, autocommit: bool, was: bool) -> None:
    """An interruption on any line between the SET and Django's flag: which mode is on?"""
    guard = wrapper.guard
    connection = guard.connection
    if (
        isinstance(error, _NO_INTERRUPTION)
        or guard.calls.is_connecting()
        or not guard.is_in_use(connection)
    ):
        return
    if wrapper.autocommit == autocommit and (autocommit or was == autocommit):
        return  # nothing was to be done, or all of it is
    connection.mark_interrupted()
    wrapper.autocommit = was
    if autocommit and not connection.dirty:
        # COMMIT or ROLLBACK is done, and the next connection has autocommit on. The
        # exception that is on its way must not cost an acknowledged COMMIT its hooks.
        wrapper.autocommit = True
        if wrapper.run_commit_hooks_on_set_autocommit_on:
            wrapper.run_commit_hooks_on_set_autocommit_on = False
            wrapper.run_and_clear_commit_hooks()


def _discard_transaction(wrapper: Wrapper, connection: PhysicalConnection) -> None:
    """Close the connection without COMMIT or ROLLBACK: the server rolls back."""
    connection.mark_interrupted()
    connection.discard()
    connection.transaction_ended()
    if not wrapper.run_commit_hooks_on_set_autocommit_on:
        wrapper.run_on_commit = []


def _interruption() -> bool:
    """Whether an exception that is no error of the database's is on its way."""
    error = sys.exc_info()[1]
    return error is not None and not isinstance(error, _NO_INTERRUPTION)


def _lost_before_commit(guard: Guard, connection: PhysicalConnection) -> OperationalError:
    # PyMySQL's own is an InterfaceError, for which Atomic.__exit__ does not roll back: the hooks
    # of this transaction would be left to the next one.
    error = OperationalError(connection.code or 2006, "the connection was lost before COMMIT")
    if guard.journal is not None:
        guard.journal.failed(error, Proof.NEVER_RAN, connection)
    return error
