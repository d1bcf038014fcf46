"""What is known of the servers behind an alias in this process: reachable, and taking writes.

One `Alias` for each alias, shared by all threads. Its lock protects a few attributes; under it
nothing is called, logged, sent or waited for.
"""

from __future__ import annotations

import threading

from . import processes

__all__ = ["Alias", "of"]


class Alias:
    """The state of one alias."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        #: Connecting has succeeded before: the settings are right.
        self.has_connected = False
        #: All tries to connect were used up, and none has succeeded since.
        self.down = False
        #: Host names that have been resolved.
        self.hosts: set[object] = set()

    # ##### Connecting #####

    def tries(self, retries: int) -> int:
        """How many further tries a connect has, of `retries` that the settings allow.

        Waiting once is enough for an outage: while it lasts each connect makes a single try. And
        where the settings are wrong, the error is to come at once.
        """
        if self.down:
            return 0
        return retries if self.has_connected else min(retries, 1)

    def connected(self, host: object) -> None:
        """Connecting has succeeded."""
        self.has_connected = True
        self.down = False
        self.hosts.add(host)

    def gave_up(self) -> None:
        """All tries of a connect were used up."""
        self.down = self.has_connected


class _Aliases:
    """Every alias of this process."""

    def __init__(self) -> None:
        self.states: dict[str, Alias] = {}

    def after_fork_in_child(self) -> None:
        # Another thread may have held a lock just then.
        known, self.states = self.states, {}
        for name, state in known.items():
            copy = self.states[name] = Alias()
            copy.has_connected, copy.hosts = state.has_connected, set(state.hosts)


_aliases = _Aliases()
processes.track(_aliases)


def of(alias: str) -> Alias:
    """The state of an alias in this process."""
    state = _aliases.states.get(alias)
    if state is None:
        state = _aliases.states.setdefault(alias, Alias())
    return state
