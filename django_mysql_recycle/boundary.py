"""Django's boundaries: its checks between two units of work, and closing.

Each function is called by the method of Django's wrapper of that name in base.py; the last
argument is Django's own method.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from django.db.backends.base.base import BaseDatabaseWrapper

from . import events, processes, questions
from .errors import NoAnswer
from .liveness import clock
from .originals import djangos_own
from .rollbacks import confirm_transaction

if TYPE_CHECKING:
    from .connection import PhysicalConnection
    from .wrapper import Wrapper

_djangos_check = djangos_own(BaseDatabaseWrapper.close_if_unusable_or_obsolete)

__all__ = [
    "close",
    "close_if_health_check_failed",
    "close_if_unusable_or_obsolete",
    "is_usable",
]


def is_usable(wrapper: Wrapper) -> bool:
    """Django's ping waits for ever on an unresponsive network."""
    guard = wrapper.guard
    connection = guard.current()
    if connection is None or not connection.usable:
        return False
    if connection.ledger.pending_result is not None or guard.in_the_middle(connection):
        return True  # a ping would fail or destroy the rows
    if connection.lease is not None and not connection.lease.claim():
        return False  # another borrower of the pool has it
    try:
        connection.ask(b"DO 0")
    except (NoAnswer, connection.driver.error):
        return connection.usable and not connection.wrong_node
    finally:
        guard.rest()
    return True


def close_if_health_check_failed(wrapper: Wrapper, djangos: Callable[[], None]) -> None:
    """Called for every cursor and at both ends of a transaction."""
    guard = wrapper.guard
    connection = guard.current()
    if connection is None or wrapper.in_atomic_block or connection.is_executing():
        return
    if guard.in_the_middle(connection):
        return
    if not wrapper.autocommit and (connection.dirty or wrapper.settings_dict["AUTOCOMMIT"]):
        return  # inside a transaction, or leaving one
    _check(wrapper, djangos)


def _check(wrapper: Wrapper, djangos: Callable[[], None]) -> None:
    calls = wrapper.guard.calls
    outer = calls.django_check
    try:
        calls.django_check = sys._getframe()
        djangos()
    finally:
        calls.django_check = outer


def close_if_unusable_or_obsolete(wrapper: Wrapper, djangos: Callable[[], None]) -> None:
    """Django closes what is too old or has met errors. What holds a lock stays open."""
    if not processes.mark[0]:
        processes.look()
    guard = wrapper.guard
    connection, close_at = guard.connection, wrapper.close_at
    pinned = connection.ledger.pins.pinned
    too_old = close_at is not None and monotonic() >= close_at
    if (
        connection.ready
        and not (pinned or too_old or wrapper.errors_occurred or wrapper.in_atomic_block)
        and connection.raw is wrapper.connection
        and not connection.exchange.under_way
        and wrapper.autocommit == wrapper.settings_dict["AUTOCOMMIT"]
        and not guard.losses.unanswerable
        and getattr(djangos, "__func__", None) is _djangos_check
    ):
        # Nothing for Django's check to do: it would find that out in four calls.
        wrapper.health_check_done = False
        connection.unit_ended()
        return
    if guard.in_the_middle(connection):
        return  # a signal handler in the middle of a statement
    if guard.lease is not None and (
        guard.held_by_hand or wrapper._thread_sharing_count or wrapper.in_atomic_block
    ):
        return  # others rely on it; whatever its age, the pool gets all the others back
    held: tuple[str, ...] = ()
    if pinned and too_old:
        held = _held_past_max_age(wrapper, connection)
    try:
        if held:
            wrapper.close_at = None
        _check(wrapper, djangos)
    finally:
        if held:
            wrapper.close_at = close_at
    max_age = guard.max_age.between_statements
    if held and close_at is not None and max_age and wrapper.connection is not None:
        age = monotonic() - close_at + max_age
        if guard.connection.kept(age / max_age):
            events.kept(wrapper.alias, age=age, max_age=max_age, state=held)
    if not wrapper.in_atomic_block:
        guard.unit_of_work_ended()


def _held_past_max_age(wrapper: Wrapper, connection: PhysicalConnection) -> tuple[str, ...]:
    """The kinds of state for which Django's check shall not close the connection for its age.

    Empty: Django decides as ever.
    """
    if (
        not wrapper.guard.is_in_use(connection)
        or wrapper.in_atomic_block
        or wrapper.guard.max_age.closes_at_boundary
        or not connection.usable
        or (not connection.ledger.may_be_pending and connection.peer_closed())
    ):
        return ()
    confirm_transaction(connection)
    return connection.ledger.pins.held


def close(wrapper: Wrapper, djangos: Callable[[], None]) -> None:
    """Django closes and forgets. State that is lost by it may have to be reported.

    That is state that was lost before, and state that Django's own check at a boundary ends by
    closing. CONN_MAX_AGE = 0 closes at each boundary by the user's own wish: only a transaction
    that has written something is reported there, so that its second half is never committed alone.
    """
    processes.look()
    guard = wrapper.guard
    losses, replacement, connection = guard.losses, guard.replacement, guard.connection
    losses.pending()
    connecting, notifying = guard.calls.is_connecting(), guard.calls.is_notifying()
    at_boundary = guard.calls.in_django_check()
    outlives = at_boundary and not guard.max_age.closes_at_boundary
    # A receiver's close() is another matter.
    if not (notifying or connecting):
        losses.closed_by_application(outlives=outlives)
    if not guard.is_in_use(connection):
        djangos()
        replacement.state = None
        if not (at_boundary or connecting):
            replacement.database = losses.refused = None
        return
    ledger = connection.ledger
    if at_boundary:
        ledger.pins.end_unit_of_work()
        if connection.usable:
            connection.look_for_autocommit(wrapper.autocommit)
        confirm_transaction(connection)
    if connecting:
        pass  # a receiver's: what is to be selected is to be selected on the next one
    elif outlives or notifying:
        if ledger.pins.database_unknown:
            questions.ask_database(connection)
        replacement.remember_database(connection)
    else:
        replacement.database = losses.refused = None
    pinned = ledger.pins.pinned
    if pinned and connection.usable and not ledger.may_be_pending and connection.peer_closed():
        connection.mark_lost("closed")
    raised = pinned and (outlives or (ledger.pins.uncommitted if at_boundary else True))
    if pinned and (not connection.usable or (raised and at_boundary)):
        # First of all: once it is closed, an interruption would keep the loss from being known.
        wrapper.validate_thread_sharing()
        idle = clock() - connection.last_activity
        reason = _why_closed(wrapper, connection)
        losses.state_lost(connection, idle, raised=raised, reason=reason)
    djangos()
    replacement.state = None  # closed by the application: the next connection starts as new
    if pinned:
        ledger.forget()
    if wrapper.connection is None:
        connection.forget_raw()


def _why_closed(wrapper: Wrapper, connection: PhysicalConnection) -> str:
    """Why Django's check at a boundary has closed a living connection."""
    if connection.wrong_node:
        return "wrong node"
    too_old = wrapper.close_at is not None and monotonic() >= wrapper.close_at
    return "max age" if too_old else "closed"
