"""The failures that a visitor can cause. Each begins with new connections and ends with statements."""

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
PAUSE = settings.WAIT_TIMEOUT + 1
#: This backend reads wait_timeout when a connection was idle for half a second.
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
        """Run it on both lanes, except on one that still waits for an earlier statement."""
        if self._running.locked():
            raise Refused("An experiment is running.")
        if not [lane for lane in self.lanes.values() if lane.start(getattr(lane, name))]:
            raise Refused("Both connections are waiting for an answer.")

    def run_experiment(self, name: str) -> None:
        """Run it in a separate thread."""
        act = self.harmless.get(name) or self.destructive[name]
        if not self._running.acquire(blocking=False):
            raise Refused("An experiment is running.")
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
            "blocked": self.control.blocked,
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
        self._stay_idle()
        self._run_twice()

    def _lock_lost(self) -> None:
        self._begin_anew()
        self._each("lock")
        self._stay_idle()
        self._run_twice()

    def _transaction_lost(self) -> None:
        self._begin_anew()
        self._each("begin")
        self._each("insert")
        self._stay_idle()
        self._each("insert")
        self._pause("the next statements, outside the transaction", REST)
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
        self._pause("both connections are killed", REST)
        self._run_twice()

    def _restart(self) -> None:
        self._begin_anew()
        self._ask("restart", "server restarts", "restarting the server")
        self.journal.write("both", "trouble", "server runs again")
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
        self._ask("cut", "packets are dropped", "dropping all packets")
        self._pause("all packets of these connections are dropped, without an error", BEFORE_PING)
        for lane in self.lanes.values():
            lane.start(lane.insert)

    def _mend(self) -> None:
        self._ask("mend", "packets pass again", "letting packets pass again")

    def _hang_up(self) -> None:
        self._begin_anew()
        self._ask("hang up", "proxy closes", "closing the connections in the proxy")
        self._pause("the proxy has closed both connections", REST)
        self._run_twice()

    # ##### Their parts #####

    def _begin_anew(self) -> None:
        """Begin in the same way for both: with a new connection that has answered twice."""
        if self.control.blocked:
            self._mend()
        if not self.control.running:
            self._ask("start", "server starts", "starting the server")
        self._each("close")
        self._run_twice()

    def _run_twice(self) -> None:
        """The second SELECT shows whether one statement fails or the connection is lost."""
        self._each("select")
        self._pause("SELECT, a short pause, SELECT", REST)
        self._each("select")

    def _ask(self, act: str, event: str, step: str) -> None:
        self._step = step
        self.journal.write("both", "trouble", event)
        self.control.ask(act)

    def _stay_idle(self) -> None:
        text = f"{PAUSE} s without a statement, wait_timeout is {settings.WAIT_TIMEOUT} s"
        self._pause(text, PAUSE)

    def _pause(self, text: str, seconds: float) -> None:
        self._step, self._until = text, monotonic() + seconds
        threading.Event().wait(seconds)
        self._until = 0.0

    def _each(self, job: str) -> None:
        """Run it on both lanes at the same time, and wait until both have an answer."""
        deadline = monotonic() + 20
        pending = dict(self.lanes)
        started: list[threading.Event] = []
        while pending:
            for alias, lane in list(pending.items()):
                if done := lane.start(getattr(lane, job)):
                    started.append(done)
                    del pending[alias]
            if pending and monotonic() > deadline:
                raise Refused(f"No answer yet from: {', '.join(pending)}.")
            if pending:
                threading.Event().wait(0.02)
        for done in started:
            if not done.wait(max(0.0, deadline - monotonic())):
                raise Refused("No answer within 20 s.")
