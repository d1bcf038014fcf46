"""A transaction that the server has rolled back by itself, with an error that does not say so.

If the application catches such an error, the second half of its transaction would be committed
alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.transaction import TransactionManagementError

from . import events
from .errors import code_of, may_roll_back
from .questions import no_transaction_is_open
from .session_state import Kind, Statement
from .session_state.effects import commits, rolls_back

if TYPE_CHECKING:
    from .connection import PhysicalConnection
    from .wrapper import Wrapper

__all__ = ["after_rollback", "confirm_transaction", "look_for_rollback", "transaction_refused"]


def look_for_rollback(
    wrapper: Wrapper, connection: PhysicalConnection, error: BaseException
) -> None:
    """Ask whether the transaction still exists, after an error that may have ended it."""
    if not may_roll_back(error):
        return
    begun = connection.ledger.pins.has(Kind.TRANSACTION)
    if (
        not (wrapper.in_atomic_block or not wrapper.autocommit or begun)
        or not (connection.touched or begun)
        or not connection.usable
        or connection.rolled_back is not None
        or not wrapper.guard.is_in_use(connection)
        or not no_transaction_is_open(connection)
    ):
        return
    connection.mark_rolled_back(error)
    events.rolled_back(wrapper.alias, code_of(error))
    if wrapper.in_atomic_block:
        wrapper.needs_rollback = True
        wrapper.rollback_exc = error


def after_rollback(
    wrapper: Wrapper, connection: PhysicalConnection, statement: Statement, sql: object
) -> None:
    """Before a statement that the application takes for one of the same transaction."""
    if rolls_back(sql) or (statement.enters_transaction and not connection.ran_since):
        connection.forget_rollback()
        return
    committing = commits(sql) or statement.sets_autocommit or statement.enters_transaction
    if committing or (wrapper.autocommit and not wrapper.in_atomic_block):
        # Begun by SQL, each further statement would be committed by itself.
        raise transaction_refused(wrapper, connection)
    connection.ran_after_rollback()


def transaction_refused(
    wrapper: Wrapper, connection: PhysicalConnection
) -> TransactionManagementError:
    """Undo what ran after the server's rollback. The error for it, which is raised once."""
    cause = connection.rolled_back
    if wrapper.in_atomic_block:
        wrapper.needs_rollback = True
        wrapper.rollback_exc = cause
    elif wrapper.autocommit:
        connection.forget_rollback()
    else:
        wrapper.rollback()
    error = TransactionManagementError(
        f"the server rolled back the whole transaction of {wrapper.alias!r} when it raised error "
        f"{code_of(cause) if cause else None}; what ran after the error is not committed "
        "without what ran before it. Run the whole transaction again"
    )
    error.__cause__ = cause
    return error


def confirm_transaction(connection: PhysicalConnection) -> None:
    """Before a boundary ends a transaction of SQL: ask the server whether it is still open.

    A text does not show whether its statement commits implicitly.
    """
    ledger = connection.ledger
    if not connection.usable or ledger.may_be_pending or not ledger.pins.in_transaction:
        return
    if no_transaction_is_open(connection):
        ledger.pins.transaction_ended()
