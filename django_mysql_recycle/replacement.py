"""Replacing a connection: close the old one, open a new one, carry over what is the wrapper's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.backends.signals import connection_created
from django.db.utils import OperationalError

from . import events
from .calls import Calls
from .connection import PhysicalConnection
from .errors import NoAnswer, code_of
from .losses import Ending, RefusedDatabase

if TYPE_CHECKING:
    from .wrapper import Wrapper

__all__ = ["Replacement", "WrapperState"]

#: The server's errors for a database that may not be used, or does not exist.
NO_SUCH_DATABASE = (1044, 1049)


@dataclass(slots=True)
class WrapperState:
    """What belongs to the wrapper and not to the connection, and outlives a replacement.

    Django's connect() resets the first three.
    """

    autocommit: bool
    run_on_commit: list[Any]
    run_hooks: bool
    #: Receivers are notified once there is another connection, which may take more than one try.
    ending: Ending | None = None

    @classmethod
    def of(cls, wrapper: Wrapper, ending: Ending) -> WrapperState:
        hooks = wrapper.run_commit_hooks_on_set_autocommit_on
        return cls(wrapper.autocommit, wrapper.run_on_commit, hooks, ending)


class Replacement:
    """The replacements of one wrapper's connections."""

    def __init__(self, wrapper: Callable[[], Wrapper], calls: Calls) -> None:
        self.wrapper = wrapper
        self._calls = calls
        #: What the next connection takes over.
        self.state: WrapperState | None = None
        #: The default database that the next connection has to select; None: that of its settings.
        self.database: str | None = None
        #: The connection that get_new_connection() has made for the connect() under way.
        self.made: PhysicalConnection | None = None
        #: How many forks it has come out of as a child: a receiver may fork inside of connect().
        self.forks = 0

    def replace(self, connection: PhysicalConnection, ending: Ending) -> None:
        """Close a connection and open a new one through Django's connect()."""
        wrapper = self.wrapper()
        self.state = WrapperState.of(wrapper, ending)
        self.database = connection.ledger.pins.database
        if self.database is not None:
            self.remember_database(connection)
        wrapper.connection = None
        connection.close()
        with wrapper.wrap_database_errors:
            wrapper.connect()
        if wrapper.connection is None:
            raise OperationalError(
                2006,
                f"a receiver of connection_created has closed the new connection of "
                f"{wrapper.alias!r}",
            )

    def restore(self, state: WrapperState) -> None:
        """Give the new connection what the wrapper had before Django's connect() reset it."""
        wrapper, made = self.wrapper(), self.made
        if wrapper.autocommit != state.autocommit:
            watched = made is not None and not wrapper.foreign_transactions
            if made is not None and watched:
                made.exchange.under_way = True  # the driver sends it past its query()
            wrapper.set_autocommit(state.autocommit)
            if made is not None:
                made.exchange.under_way = False
        wrapper.run_on_commit = state.run_on_commit
        wrapper.run_commit_hooks_on_set_autocommit_on = state.run_hooks

    def notify(self, ending: Ending) -> None:
        """There is a new connection in the place of one that was replaced."""
        calls = self._calls
        is_notifying = calls.is_notifying()
        outer, calls.notifying = calls.notifying, sys._getframe()
        try:
            events.recycled(
                self.wrapper(),
                reason=ending.reason,
                age=ending.age,
                idle=ending.idle,
                idle_limit=ending.idle_limit,
                max_age=ending.max_age,
                # What a receiver's own SQL meets is counted and logged: no receiver is called
                # inside itself.
                signal=ending.signal and not is_notifying,
            )
        finally:
            calls.notifying = outer

    # ##### The default database #####

    def remember_database(self, connection: PhysicalConnection) -> None:
        """The connection in use is about to go: keep what USE has selected for the next one."""
        pins = connection.ledger.pins
        name = None if pins.pinned and pins.database_unknown else pins.database
        opened_in_it = name is not None and name == connection.opened_in
        if opened_in_it and not connection_created.has_listeners(type(self.wrapper())):
            name = None  # the next connection will be in it without more
        self.database = name

    def select_database(self, connection: PhysicalConnection) -> RefusedDatabase | None:
        """Select the remembered default database on a new connection, before anything uses it.

        Returns it if the server refuses it. Raises what makes the connection unusable, as a failure
        to connect.
        """
        name = self.database or ""
        refused = None
        quoted = name.replace("`", "``")
        try:
            connection.ask(f"USE `{quoted}`".encode(connection.raw.encoding, "surrogateescape"))
        except NoAnswer as error:
            raise OperationalError(
                2013, f"no answer to USE while connecting to {self.wrapper().alias!r}"
            ) from error
        except (connection.driver.error, UnicodeError) as error:
            code = code_of(error) if isinstance(error, connection.driver.error) else 1049
            if code not in NO_SUCH_DATABASE:
                raise
            refused = RefusedDatabase(name, code, self.state.ending if self.state else None)
        else:
            connection.ledger.pins.database_is(name)
        return refused
