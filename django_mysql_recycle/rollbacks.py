"""A transaction that the server has rolled back by itself, with an error that may not say so.

If the application catches the error, the second half of its transaction would be committed alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.transaction import TransactionManagementError

from . import events
from .errors import code_of, may_roll_back
from .questions import no_transaction_is_open
from .session_state import Kind, Statement
from .session_state.effects import commits, only_reads, rolls_back
from .what_ran import not_sent

if TYPE_CHECKING:
    from .connection import PhysicalConnection
    from .wrapper import Wrapper

__all__ = [
    "after_loss",
    "after_rollback",
    "confirm_transaction",
    "look_for_rollback",
    "lost_transaction",
    "transaction_refused",
]


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


def after_loss(wrapper: Wrapper, statement: Statement, sql: object) -> None:
    """Before a statement that may belong to a transaction of SQL that was lost with its connection.

    On the new connection it would be committed by itself.
    """
    losses = wrapper.guard.losses
    if not losses.in_lost_transaction() or (statement.single and only_reads(sql)):
        return
    begins, ends = statement.begins_transaction, statement.ends_transaction
    connection = wrapper.guard.connection
    begun = (  # by the driver's own objects
        connection.look_for_autocommit(wrapper.autocommit) or connection.ledger.pins.in_transaction
    )
    if begun or rolls_back(sql) or (begins and not ends and statement.single):
        losses.transaction_is_over()
        return
    # After COMMIT AND CHAIN the application takes its next statements for a transaction.
    raise lost_transaction(wrapper, is_over=(ends or commits(sql)) and not begins)


def lost_transaction(wrapper: Wrapper, *, is_over: bool = False) -> TransactionManagementError:
    """The error for what would be committed alone. `is_over`: it was to end the transaction."""
    losses = wrapper.guard.losses
    ending = losses.transaction
    if is_over:
        losses.transaction_is_over()
    text = (
        f"the connection of {wrapper.alias!r} was lost ({ending.summary if ending else ''}) in a "
        "transaction that SQL had begun, and this statement would be committed without what ran "
        "before it. End the transaction with ROLLBACK, and run the whole transaction again"
    )
    return not_sent(TransactionManagementError(text))


def confirm_transaction(connection: PhysicalConnection) -> None:
    """Before a boundary ends a transaction of SQL: ask the server whether it is still open.

    A text does not show whether its statement commits implicitly.
    """
    ledger = connection.ledger
    if not connection.usable or ledger.may_be_pending or not ledger.pins.in_transaction:
        return
    if no_transaction_is_open(connection):
        ledger.pins.transaction_ended()
