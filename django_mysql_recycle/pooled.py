"""A physical connection that belongs to a pool: for one borrower after another."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from .connection import PhysicalConnection
from .ledger import Ledger
from .liveness import clock
from .session_state import INSERTED, Statement

if TYPE_CHECKING:
    from .pool import Lease
    from .wrapper import Wrapper

__all__ = ["PooledConnection"]


class PooledConnection(PhysicalConnection):
    """What one borrower knows of a connection of the pool.

    The next borrower gets an object of its own (`handed_on`), and this one is as a closed
    connection from then on. So nothing that an earlier borrower still has, such as a cursor or a
    generator, can reach the session of another one.
    """

    __slots__ = ("lease", "opened_as", "was_called_in", "was_used")

    lease: Lease

    def __init__(self, *args: Any, lease: Lease, **named: Any) -> None:
        super().__init__(*args, **named)
        self.lease = lease
        #: What the driver's object was like when it was opened.
        self.opened_as: tuple[object, ...] = ()
        #: An earlier borrower has used the session.
        self.was_used = self.was_called_in = False

    # ##### The common path #####

    def may_run(self, now: float) -> bool:
        lease = self.lease
        # A lease that is held already is in the middle of something, or was interrupted there.
        if lease.held or not lease.claim():
            return False
        if self.needs_no_decision(now):
            return True
        lease.rest()
        return False

    def ordinary_succeeded(self, statement: Statement) -> None:
        self.exchange.under_way = False
        self.last_activity = clock()
        ledger = self.ledger
        if statement.leaves:
            ledger.left |= INSERTED
        if not ledger.pins.pinned:
            self.lease.rest()

    # ##### From one borrower to the next #####

    def opened(self) -> None:
        """It has been set up: remember what the driver's object is like."""
        wrapper = self._wrapper()
        if wrapper is not None:  # a subclass may have put the connection into a proxy
            settings = self.driver.settings_of(wrapper.connection)
            # Its converters may be changed in place.
            self.opened_as = tuple(dict(s) if isinstance(s, dict) else s for s in settings)

    def handed_on(self) -> PooledConnection:
        """The same session for another borrower. This object has no connection from now on."""
        other = object.__new__(PooledConnection)
        for give, value in zip(_setters, _values(self), strict=True):
            give(other, value)
        other.begin_lease()
        self.mark_returned()
        return other

    def begin_lease(self) -> None:
        """Nothing is known of the session but that it is as a new one's."""
        self.ledger = Ledger(self.last_activity)
        self.touched = self.watched = False
        self.unit_ended_at = self.last_activity
        self.was_used = True
        if not self.ready:
            self._refresh()

    def lent_to(self, lease: Lease, wrapper: Any) -> None:
        """Another borrower has it."""
        self.lease = lease
        self.exchange.wrapper = wrapper
        self.exchange.connected()

    def is_clean(self) -> bool:
        """Whether the session is as a new one would be."""
        wrapper = self._wrapper()
        if (
            not (self.opened_as and (self.ready or self._is_sound()))
            or self.dirty
            or self.ledger.marked
            or self.ledger.pins.pinned
            or self.ledger.pins.database is not None
            or self.ledger.may_be_pending
            or self.exchange.under_way
            or wrapper is None
            or self.exchange.was_used_past
            or self.driver_let_go
            or self.peer_closed()
        ):
            return False
        try:
            return (
                bool(self.raw.get_autocommit()) is bool(wrapper.settings_dict["AUTOCOMMIT"])
                and not self.driver.in_transaction(self.raw)
                and self.driver.settings_of(self.raw) == self.opened_as
            )
        except (self.driver.error, AttributeError):
            return False

    def may_be_called_in(self) -> bool:
        wrapper = self._wrapper()
        return (
            wrapper is not None
            and (self.ready or not self.usable or self._is_sound())
            and wrapper.autocommit
            and wrapper.settings_dict["AUTOCOMMIT"]
            and not wrapper.in_atomic_block
            and not wrapper._thread_sharing_count
            and not self.ledger.pins.pinned
            and self.ledger.pins.database is None
            and not self.ledger.may_be_pending
            and not self.exchange.under_way
            and not self.exchange.was_used_past
        )

    def _is_sound(self) -> bool:
        """Whether it is ready, or would be if its sql_mode were the usual one and its holder had
        nothing to report."""
        return not (
            self.descriptor is None
            or self.condition
            or self.wrong_node
            or self.executing
            or self.rolled_back
            or self.status_unknown
        )

    def is_shared(self) -> bool:
        wrapper = self._wrapper()
        return wrapper is not None and bool(wrapper._thread_sharing_count)

    def _wrapper(self) -> Wrapper | None:
        wrapper = self.exchange.wrapper
        return None if wrapper is None else wrapper()


_SLOTS = tuple(
    name
    for name in (*PhysicalConnection.__slots__, *PooledConnection.__slots__)
    if name != "__weakref__"
)
_values = attrgetter(*_SLOTS)
_setters = [getattr(PooledConnection, name).__set__ for name in _SLOTS]
