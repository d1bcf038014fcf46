"""What is known of the servers behind an alias in this process: reachable, and taking writes.

One `Alias` for each alias, shared by all threads. Its lock protects a few attributes; under it
nothing is called, logged, sent or waited for.
"""

from __future__ import annotations

import threading
from random import uniform

from . import processes

__all__ = ["Alias", "Episode", "of", "suspect_since"]

#: Seconds between two probes for a node that takes writes: they grow from the first to the longest,
#: and vary at random.
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 1.0
#: Seconds after which a probe counts as interrupted, so that another thread may probe.
_LONGEST_PROBE = 15.0


class Episode:
    """From the first refusal of a read-only node until a node of the alias takes writes."""

    def __init__(self, now: float, timeout: float) -> None:
        #: Until then statements wait. Afterwards refusals are raised at once.
        self.deadline = now + timeout
        #: A node has said itself that it is read-only.
        self.confirmed = False
        #: The log has said that the time is over.
        self.said = False
        self.next_probe = now
        self.pause = _FIRST_PAUSE
        #: A thread is probing, at most until then.
        self.probing_until = 0.0


class Alias:
    """The state of one alias."""

    def __init__(self) -> None:
        # Reentrant: a signal handler may run SQL while its own thread holds it.
        self.lock = threading.RLock()
        #: Connecting has succeeded before: the settings are right.
        self.has_connected = False
        #: All tries to connect were used up, and none has succeeded since.
        self.down = False
        #: Host names that have been resolved.
        self.hosts: set[object] = set()
        #: The node that was reached refuses to write, and no other one is known.
        self.episode: Episode | None = None
        #: When the last episode has ended, by the clock of liveness.py: a node took writes then.
        self.writer_at = 0.0
        #: Connections that were opened before this moment may lead to a node that refuses to write.
        self.suspect_at = 0.0

    # ##### A node that refuses to write #####

    def begin(self, now: float, timeout: float) -> Episode:
        """The episode that is open. One begins if there is none."""
        with self.lock:
            if self.episode is None:
                self.episode = Episode(now, timeout)
            return self.episode

    def has_writer_since(self, refused_at: float) -> bool:
        """Whether a node of the alias took writes later than this refusal."""
        return self.writer_at > refused_at

    def confirm(self, episode: Episode, now: float) -> bool:
        """A node has said itself that it is read-only. Returns whether that is news."""
        with self.lock:
            if episode.confirmed:
                return False
            episode.confirmed = True
            self.suspect_at = now
            return True

    def no_refusal(self, episode: Episode, now: float, *, takes_writes: bool) -> None:
        """What looked like the refusal of a read-only node was none, as far as the node says."""
        with self.lock:
            episode.probing_until = 0.0
            if self.episode is episode and (takes_writes or not episode.confirmed):
                self.episode = None
                if episode.confirmed:
                    self.writer_at = self.suspect_at = now

    def claim(self, episode: Episode, now: float) -> bool:
        """Whether this thread is to probe now. One does at a time, and not all the time."""
        with self.lock:
            if now < episode.next_probe or now < episode.probing_until:
                return False
            episode.probing_until = now + _LONGEST_PROBE
            return True

    def probed(self, episode: Episode, now: float, takes_writes: bool) -> None:
        """The thread that has claimed the probe has its answer."""
        pause = min(episode.pause * uniform(0.75, 1.25), _LONGEST_PAUSE)
        if now >= episode.deadline:
            pause = _LONGEST_PAUSE
        with self.lock:
            episode.probing_until = 0.0
            episode.next_probe = now + pause
            episode.pause = min(2 * episode.pause, _LONGEST_PAUSE)
            if takes_writes and self.episode is episode:
                self.episode = None
                self.writer_at = self.suspect_at = now

    def is_first_to_say(self, episode: Episode) -> bool:
        """Whether the log has not said yet that the time of the episode is over."""
        with self.lock:
            said, episode.said = episode.said, True
            return not said

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


def suspect_since(alias: str) -> float:
    """Connections of the alias that were opened before this moment may lead to a wrong node.

    By the clock of liveness.py; 0.0 if there was no refusal that a node has confirmed. A pool closes
    such connections, or judges them at their next safe point.
    """
    state = _aliases.states.get(alias)
    return 0.0 if state is None else state.suspect_at
