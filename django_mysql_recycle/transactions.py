"""The seams in Django where a transaction begins and ends; base.py has the others."""

from __future__ import annotations

import _thread
import sys
from types import FrameType
from typing import Any

from django.core.exceptions import SynchronousOnlyOperation
from django.db.utils import Error, InterfaceError, OperationalError

from . import cursors, processes
from .decider import interrupted
from .keeper import NO_RECORD
from .liveness import clock
from .processes import mark
from .record import ConnectionRecord
from .recycler import Recycler

__all__ = ["TransactionSeams"]

#: What is no interruption: the database's errors, and Django's refusal to work inside an event
#: loop, which comes before anything is done.
_HEARD = (Error, SynchronousOnlyOperation)

#: Django's wrapper, whose private methods no stubs describe.
_Wrapper: Any = object


class TransactionSeams(_Wrapper):  # type: ignore[misc]
    """What RecycleMixin changes of transactions."""

    autocommit: bool
    closed_in_transaction: bool
    connection: Any
    #: The base backend may run statements of its own where transactions begin and end.
    foreign_transactions: bool
    recycler: Recycler
    run_on_commit: list[Any]
    run_commit_hooks_on_set_autocommit_on: bool

    def get_autocommit(self) -> bool:
        # With autocommit off atomic() enters through here and a savepoint.
        recycler = self.recycler
        if recycler.boundary and self.connection is not None and self.autocommit:
            return True  # without Django's look for a running event loop
        if super().get_autocommit():
            return True
        if not (self.in_atomic_block or recycler.at_boundary() or recycler.is_connecting()):
            recycler.current()
            recycler.decide()
        return self.autocommit

    def set_autocommit(
        self, autocommit: bool, force_begin_transaction_with_broken_autocommit: bool = False
    ) -> None:
        # Django opens the connection, logs a BEGIN, sets the flag and runs on_commit hooks.
        was = self.autocommit
        try:
            recycler = self.recycler
            if not autocommit:
                recycler.off_for_atomic = force_begin_transaction_with_broken_autocommit
            if recycler.connecting and recycler.is_connecting() and recycler.carried is not None:
                self._set_autocommit(autocommit)  # the log would show it as the application's
                self.autocommit = autocommit
            else:
                super().set_autocommit(autocommit, force_begin_transaction_with_broken_autocommit)
        except BaseException as error:
            if not isinstance(error, _HEARD):
                self._mode_cut_short(autocommit, was)
            raise

    def _mode_cut_short(self, autocommit: bool, was: bool) -> None:
        """An interruption on any line between the SET and Django's flag: which mode is on?"""
        record = self.recycler.record
        if self.recycler.is_connecting() or not self.recycler.is_in_use(record):
            return
        if self.autocommit == autocommit and (autocommit or was == autocommit):
            return  # nothing was to be done, or all of it is
        record.mark_interrupted()
        self.autocommit = was
        if autocommit and not record.dirty:
            # COMMIT or ROLLBACK is done, and the next connection has autocommit on. The
            # exception that is on its way must not cost an acknowledged COMMIT its hooks.
            self.autocommit = True
            if self.run_commit_hooks_on_set_autocommit_on:
                self.run_commit_hooks_on_set_autocommit_on = False
                self.run_and_clear_commit_hooks()

    def _set_autocommit(self, autocommit: bool) -> None:
        recycler = self.recycler
        record: Any = recycler.record  # nearly always: a call of current() less
        if recycler.connecting and recycler.is_connecting():
            record = None
        elif record.connection is not self.connection or not mark[0]:
            record = recycler.current()
        if record is None:
            super()._set_autocommit(autocommit)
            return
        if record.exchange.under_way:
            recycler.refuse_in_the_middle(record)
        if not autocommit:
            self._enter(record)
        else:
            self._leave(record)

    def _enter(self, record: Any) -> None:
        """Enter a transaction: nothing has been done yet, so a loss here is repeated."""
        recycler = self.recycler
        now = clock()
        idle = now - record.contact
        # As the cursor does it before a statement, except that no cursor has looked at the thread.
        safe = (
            record.calm
            and self.autocommit
            and not self.in_atomic_block
            and not self._thread_sharing_count
            and self._thread_ident == _thread.get_ident()
            and now < record.age_due
            and (idle < cursors.WINDOW or (idle < record.quiet and not record.hung_up()))
        )
        if not safe:
            if record.rolled_back is not None:
                raise recycler.half_refused(record)
            idle = recycler.decide()
            record = recycler.record
            safe = recycler.is_safe(record)
        try:
            if self.foreign_transactions:
                self._base_sends(record, sys._getframe())
            else:
                record.exchange.under_way = True
            super()._set_autocommit(False)
        except BaseException as error:
            proof = recycler.take_note(record, error, ran=not safe)
            if not safe or not proof.is_loss or not recycler.is_in_use(record):
                raise
            if record.pins.pinned:
                raise recycler.state_lost(record, idle) from error
            recycler.repeat(record, idle)
            recycler.decide()  # receivers may have lost it again
            record = recycler.record
            try:
                if self.foreign_transactions:
                    self._base_sends(record, sys._getframe())
                else:
                    record.exchange.under_way = True
                super()._set_autocommit(False)
            except BaseException as second:
                recycler.take_note(record, second, ran=False)
                raise
        record.exchange.under_way = False
        record.contact = clock()
        record.dirty = record.dirty and (not safe or self.foreign_transactions)
        record.touched = record.dirty
        if recycler.unanswerable and not record.calm:
            recycler.note_answers()

    def _base_sends(self, record: ConnectionRecord, frame: FrameType) -> None:
        """What the base backend runs in that call is refused by nothing, and replaces nothing."""
        record.dirty = True
        record.executing = frame
        record.refresh()

    def _leave(self, record: Any) -> None:
        """Leave a transaction. No decision point: SET autocommit = 1 may be a COMMIT itself."""
        if record.dirty and self.recycler.off_for_atomic and _interruption():
            # Atomic switches autocommit on at the end of a block whose COMMIT or ROLLBACK an
            # interruption has kept from being sent. That would commit all the same.
            self._discard_transaction(record)
        clean = not record.dirty
        if clean and not record.calm and record.gone:
            # COMMIT or ROLLBACK has been acknowledged, or the server rolls back by itself. The
            # next connection has autocommit on; reconnecting now to say so might fail.
            return
        if record.interrupted:
            raise interrupted(record)
        if record.rolled_back is not None:
            raise self.recycler.half_refused(record)
        try:
            if self.foreign_transactions:
                self._base_sends(record, sys._getframe())
            else:
                record.exchange.under_way = True
            super()._set_autocommit(True)
        except BaseException as error:
            proof = self.recycler.take_note(record, error, ran=not clean)
            if clean and proof.is_loss:
                return
            raise
        record.exchange.under_way = False
        record.contact = clock()
        if record.calm:  # nothing is pinned
            record.dirty = record.touched = False
        else:
            record.pins.autocommit_seen(False, record.contact)
            record.transaction_ended()

    def _commit(self) -> None:
        # Never repeated: an error proves nothing about what the server did.
        recycler = self.recycler
        record: Any = recycler.record  # as in _set_autocommit()
        if recycler.connecting and recycler.is_connecting():
            record = None
        elif record.connection is not self.connection or not mark[0]:
            record = recycler.current()
        if record is None:
            super()._commit()
            return
        if record.exchange.under_way:
            recycler.refuse_in_the_middle(record)
        # Looked at before COMMIT is sent: what a lost connection says of itself means nothing.
        nothing_open = (
            not record.dirty and not self.foreign_transactions and recycler.nothing_is_open(record)
        )
        if record.interrupted or record.lost:
            self._commit_on_lost(record, nothing_open)
            return
        if record.rolled_back is not None:
            raise recycler.half_refused(record)
        try:
            if self.foreign_transactions:
                self._base_sends(record, sys._getframe())
            else:
                record.exchange.under_way = True
            super()._commit()
        except BaseException as error:
            recycler.take_note(record, error, ran=not nothing_open)
            if not record.lost:
                raise
            self._commit_on_lost(record, nothing_open, error)
            return
        record.exchange.under_way = False
        # Django does the same, a few lines on; an interruption in between shall not cost hooks.
        self.run_commit_hooks_on_set_autocommit_on = True
        record.contact = clock()
        if record.calm:  # nothing is pinned
            record.dirty = record.touched = False
        else:
            record.transaction_ended()

    def _commit_on_lost(
        self, record: ConnectionRecord, nothing_open: bool, error: BaseException | None = None
    ) -> None:
        """COMMIT where the connection is lost. A success only if there was nothing to commit."""
        recycler = self.recycler
        if record.pins.pinned and recycler.is_safe(record):
            lost = recycler.state_lost(record, clock() - record.contact)
            record.transaction_ended()
            raise lost from error
        if nothing_open:
            return
        if error is None:
            raise interrupted(record) if record.interrupted else _lost_before_commit(record)
        if isinstance(error, InterfaceError):
            raise _lost_before_commit(record) from error
        raise error

    def _rollback(self) -> None:
        # Django's raises if the connection is lost, which would mask the application's own
        # exception. A lost connection is as good as a ROLLBACK: the server does it.
        record = None if self.recycler.is_connecting() else self.recycler.current()
        if record is None:
            super()._rollback()
            return
        if record.exchange.under_way:
            self.recycler.refuse_in_the_middle(record)
        if not record.gone:
            try:
                if self.foreign_transactions:
                    self._base_sends(record, sys._getframe())
                else:
                    record.exchange.under_way = True
                super()._rollback()
            except BaseException as error:
                if not self.recycler.take_note(record, error).is_loss:
                    raise
            else:
                record.exchange.under_way = False
                record.contact = clock()
        if record.gone:
            # Now, not at the next statement: its locks are to go.
            self.recycler.abandon(record)
        record.transaction_ended()

    def commit(self) -> None:
        try:
            if not mark[0]:
                processes.look()
            super().commit()
        except BaseException as error:
            self._end_cut_short(error)
            raise

    def rollback(self) -> None:
        try:
            if not mark[0]:
                processes.look()
            super().rollback()
        except BaseException as error:
            self._end_cut_short(error)
            raise

    def _end_cut_short(self, error: BaseException) -> None:
        """COMMIT or ROLLBACK was cut short by an exception that is on its way to be heard.

        Atomic.__exit__ only switches autocommit on now. That must not commit what was to be
        rolled back, nor mask the exception, nor leave the hooks to the next transaction.
        """
        record = self.recycler.record
        if not isinstance(error, _HEARD) and self.recycler.is_in_use(record):
            self._discard_transaction(record)

    def _discard_transaction(self, record: ConnectionRecord) -> None:
        """Close the connection without COMMIT or ROLLBACK: the server rolls back."""
        record.mark_interrupted()
        self.recycler.abandon(record)
        record.transaction_ended()
        if not self.run_commit_hooks_on_set_autocommit_on:
            self.run_on_commit = []

    def _savepoint_allowed(self) -> bool:
        if not mark[0]:
            processes.look()
        if self.closed_in_transaction and self.recycler.record is NO_RECORD:
            # A child of fork() is in a block of its parent. As for every block whose connection
            # was closed in it, Atomic sets no savepoint and ends none.
            return False
        return bool(super()._savepoint_allowed())

    def _savepoint(self, sid: str) -> None:
        # With autocommit off Atomic.__enter__ declares the block open before its savepoint is
        # set (Django 5.2 and 6.1), and would leave it so, with rollback() forbidden in it.
        try:
            super()._savepoint(sid)
        except BaseException:
            if not self.atomic_blocks:
                self.in_atomic_block = False
            raise


def _interruption() -> bool:
    """Whether an exception that is no error of the database's is on its way."""
    error = sys.exc_info()[1]
    return error is not None and not isinstance(error, _HEARD)


def _lost_before_commit(record: ConnectionRecord) -> OperationalError:
    # PyMySQL's own is an InterfaceError, for which Atomic.__exit__ does not roll back: the hooks
    # of this transaction would be left to the next one.
    return OperationalError(record.lost_code or 2006, "the connection was lost before COMMIT")
