"""The troubles that a person can cause, each from new connections to the statement after it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.utils import Error

from .control import Control, Refused
from .journal import Journal
from .lanes import Lane

#: Longer than the wait_timeout of the connections.
SILENCE = settings.WAIT_TIMEOUT + 1
#: After half a second of rest our backend reads wait_timeout.
REST = 0.7
#: Longer than ping_after.
BEFORE_PING = 1.3

STATEMENTS = ("select", "insert", "lock", "unlock", "begin", "commit", "rollback", "close")


class Bench:
    """Both lanes, the journal, and one experiment at a time."""

    def __init__(self) -> None:
        self.control = Control()
        self.journal = Journal()
        self.lanes = {alias: Lane(alias, self.journal) for alias in ("stock", "ours")}
        self.harmless: dict[str, Callable[[], None]] = {
            "idle": self._idle,
            "lock-lost": self._lock_lost,
            "transaction-lost": self._transaction_lost,
        }
        self.destructive: dict[str, Callable[[], None]] = {
            "kill": self._kill,
            "restart": self._restart,
            "stop": self._stop,
            "start": self._start,
            "cut": self._cut,
            "mend": self._mend,
            "hang-up": self._hang_up,
        }
        self._running = threading.Lock()
        self._step = ""
        self._until = 0.0

    def run_statement(self, name: str) -> None:
        """On both lanes; one that still waits for an earlier statement is left alone."""
        if self._running.locked():
            raise Refused("an experiment is under way")
        if not [lane for lane in self.lanes.values() if lane.start(getattr(lane, name))]:
            raise Refused("both connections are waiting for an answer")

    def run_experiment(self, name: str) -> None:
        """In a thread of its own."""
        act = self.harmless.get(name) or self.destructive[name]
        if not self._running.acquire(blocking=False):
            raise Refused("an experiment is under way")
        threading.Thread(target=self._perform, args=(act,), name=name, daemon=True).start()

    def state(self, since: int) -> dict[str, Any]:
        now = monotonic()
        return {
            "journal": self.journal.name,
            "now": now,
            "events": self.journal.since(since),
            "wait_timeout": settings.WAIT_TIMEOUT,
            "lanes": {alias: lane.snapshot() for alias, lane in self.lanes.items()},
            "experiment": self._running.locked(),
            "step": self._step,
            "left": max(0.0, self._until - now),
            "running": self.control.running,
            "silent": self.control.silent,
        }

    # ##### Experiments #####

    def _perform(self, act: Callable[[], None]) -> None:
        try:
            act()
        except (Refused, Error) as error:
            self.journal.write("both", "refused", str(error))
        finally:
            self._step = ""
            self._until = 0.0
            self._running.release()

    def _idle(self) -> None:
        self._begin_anew()
        self._be_silent()
        self._run_twice()

    def _lock_lost(self) -> None:
        self._begin_anew()
        self._each("lock")
        self._be_silent()
        self._run_twice()

    def _transaction_lost(self) -> None:
        self._begin_anew()
        self._each("begin")
        self._each("insert")
        self._be_silent()
        self._each("insert")
        self._pause("the same, outside of it", REST)
        self._run_twice()

    def _kill(self) -> None:
        self._begin_anew()
        numbers = [lane.connection for lane in self.lanes.values() if lane.connection is not None]
        self.journal.write("both", "trouble", "KILL")
        try:
            for number in numbers:
                with connection.cursor() as cursor:
                    cursor.execute("KILL %s", [number])
        finally:
            connection.close()
        self._pause("killed", REST)
        self._run_twice()

    def _restart(self) -> None:
        self._begin_anew()
        self._ask("restart", "server restarts", "restarting the server")
        self.journal.write("both", "trouble", "server is back")
        self._run_twice()

    def _stop(self) -> None:
        self._begin_anew()
        self._ask("stop", "server stops", "stopping the server")
        self._run_twice()

    def _start(self) -> None:
        self._ask("start", "server starts", "starting the server")
        self._run_twice()

    def _cut(self) -> None:
        self._begin_anew()
        self._ask("cut", "path falls silent", "cutting the path")
        self._pause("nothing passes any more, and nobody says so", BEFORE_PING)
        for lane in self.lanes.values():
            lane.start(lane.insert)

    def _mend(self) -> None:
        self._ask("mend", "path mended", "mending the path")

    def _hang_up(self) -> None:
        self._begin_anew()
        self._ask("hang up", "proxy hangs up", "hanging up")
        self._pause("the proxy has hung up", REST)
        self._run_twice()

    # ##### Their parts #####

    def _begin_anew(self) -> None:
        """The same start for both: a new connection that has answered twice."""
        if self.control.silent:
            self._mend()
        if not self.control.running:
            self._ask("start", "server starts", "starting the server")
        self._each("close")
        self._run_twice()

    def _run_twice(self) -> None:
        """Is it one statement that fails, or the connection?"""
        self._each("select")
        self._pause("SELECT, a short rest, SELECT", REST)
        self._each("select")

    def _ask(self, act: str, event: str, step: str) -> None:
        self._step = step
        self.journal.write("both", "trouble", event)
        self.control.ask(act)

    def _be_silent(self) -> None:
        text = f"{SILENCE} s of silence, wait_timeout is {settings.WAIT_TIMEOUT} s"
        self._pause(text, SILENCE)

    def _pause(self, text: str, seconds: float) -> None:
        self._step, self._until = text, monotonic() + seconds
        threading.Event().wait(seconds)
        self._until = 0.0

    def _each(self, job: str) -> None:
        """On both lanes at once, until both have an answer."""
        deadline = monotonic() + 20
        pending = dict(self.lanes)
        started: list[threading.Event] = []
        while pending:
            for alias, lane in list(pending.items()):
                if done := lane.start(getattr(lane, job)):
                    started.append(done)
                    del pending[alias]
            if pending and monotonic() > deadline:
                raise Refused(f"no answer yet: {', '.join(pending)}")
            if pending:
                threading.Event().wait(0.02)
        for done in started:
            if not done.wait(max(0.0, deadline - monotonic())):
                raise Refused("no answer within 20 s")
