"""The connection of one backend, in its own thread.

A statement may hang in this thread. The page only reads what is recorded here.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from django.conf import settings
from django.db import connections, transaction
from django.db.backends.signals import connection_created
from django.db.utils import Error
from visits.server import connection_id, driver_name, server_name

import django_mysql_recycle
from django_mysql_recycle.signals import (
    connection_recycled,
    session_state_lost,
    statement_repeated,
)

from .journal import Journal

SELECT = "SELECT CONNECTION_ID()"
INSERT = "INSERT INTO visits_visit (at, connection_id) VALUES (UTC_TIMESTAMP(), CONNECTION_ID())"
LOCK = "bench of django_mysql_recycle"


class Lane:
    """Runs one job at a time and writes to the journal what happens."""

    def __init__(self, alias: str, journal: Journal) -> None:
        self.alias = alias
        self.engine: str = settings.DATABASES[alias]["ENGINE"]
        self.connection: int | None = None  #: the number that the server knows it by
        self.about: tuple[str, ...] = ()
        self.error = ""  #: of the last statement
        self.first_error = ""  #: the first one of the latest series of errors
        self.pins: tuple[str, ...] = ()
        self.waiting_for = ""
        self._since = self._opened = self._contact = 0.0
        self._journal = journal
        self._db: Any = None
        self._atomic: Any = None
        self._busy = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Callable[[], None], threading.Event]]
        self._jobs = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        for signal, receiver in (
            (connection_created, self._connected),
            (connection_recycled, self._recycled),
            (statement_repeated, self._repeated),
            (session_state_lost, self._state_lost),
        ):
            signal.connect(receiver)

    # ##### Asked by any thread #####

    @property
    def busy(self) -> bool:
        return self._busy.locked()

    def start(self, job: Callable[[], None]) -> threading.Event | None:
        """Start a job. Returns an event for its end, or None if another job is still running."""
        if not self._busy.acquire(blocking=False):
            return None
        if self._thread is None:
            # A daemon thread: a statement that hangs must not keep the program from ending.
            self._thread = threading.Thread(target=self._work, name=self.alias, daemon=True)
            self._thread.start()
        done = threading.Event()
        self._jobs.put((job, done))
        return done

    def snapshot(self) -> dict[str, Any]:
        """What the page shows. It does not use the driver."""
        now = monotonic()
        guard = getattr(self._db, "guard", None)
        return {
            "connection": self.connection,
            "about": self.about,
            "age": now - self._opened if self.connection else None,
            "idle": now - self._contact if self.connection else None,
            "idle_limit": getattr(getattr(guard, "connection", None), "idle_limit", None),
            "max_age": settings.DATABASES[self.alias]["CONN_MAX_AGE"],
            "pins": self.pins,
            "transaction": self._atomic is not None,
            "waiting_for": self.waiting_for,
            "waiting": now - self._since if self.waiting_for else 0,
            "error": self.error,
            "first_error": self.first_error,
        }

    # ##### Jobs, run by the lane's thread #####

    def execute(self, sql: str, params: tuple[Any, ...] = ()) -> None:
        """Run a statement, as an application does that catches the error around the block."""
        begun = self._begin(sql)
        try:
            with self._db.cursor() as cursor:
                cursor.execute(sql, params or None)
                row = cursor.fetchone() if cursor.description else None
        except Error as error:
            self._failed(sql, error, begun)
            if self._atomic is not None:
                self._leave(error)
        else:
            answer = "" if row is None else str(row[0])
            self._succeeded(sql % tuple(map(repr, params)) if params else sql, answer, begun)

    def select(self) -> None:
        self.execute(SELECT)

    def insert(self) -> None:
        self.execute(INSERT)

    def lock(self) -> None:
        # Each lane has its own name. Otherwise one would wait for the other.
        self.execute("SELECT GET_LOCK(%s, 0)", (f"{LOCK}, {self.alias}",))

    def unlock(self) -> None:
        self.execute("SELECT RELEASE_LOCK(%s)", (f"{LOCK}, {self.alias}",))

    def begin(self) -> None:
        """Enter `transaction.atomic()`, and stay in it from one statement to the next."""
        if self._atomic is not None:
            return
        begun = self._begin("enter atomic()")
        atomic = transaction.atomic(using=self.alias)
        try:
            atomic.__enter__()
        except Error as error:
            self._failed("enter atomic()", error, begun)
        else:
            self._atomic = atomic
            self._succeeded("enter atomic()", "", begun)

    def commit(self) -> None:
        self._leave(None)

    def rollback(self) -> None:
        if self._atomic is not None:
            self._db.set_rollback(True)
            self._leave(None)

    def close(self) -> None:
        """End an open transaction and close the connection, as Django does between two requests."""
        if self._atomic is not None:
            self._db.set_rollback(True)
            self._leave(None)
        if self._db.connection is not None:
            self._db.close()
            self._journal.write(self.alias, "close", "close()", connection=self.connection)
        self.connection = None
        self.error = self.first_error = ""

    def _leave(self, error: Exception | None) -> None:
        atomic, self._atomic = self._atomic, None
        if atomic is None:
            return
        how = "leave atomic()" if error is None else "leave atomic() with the error"
        begun = self._begin(how)
        try:
            atomic.__exit__(type(error) if error else None, error, None)
        except Error as another:
            self._failed(how, another, begun)
        else:
            if error is None:
                self._succeeded(how, "", begun)
            else:
                self._journal.write(self.alias, "rollback", how, connection=self.connection)

    def _begin(self, what: str) -> float:
        self._since, self.waiting_for = monotonic(), what
        return self._since

    def _succeeded(self, what: str, answer: str, begun: float) -> None:
        self._contact = monotonic()
        self.error = ""
        self._write_statement("ok", what, begun, answer=answer)

    def _failed(self, what: str, error: Exception, begun: float) -> None:
        self._note(error)
        self._write_statement("error", what, begun, answer=self.error)

    def _note(self, error: Exception) -> None:
        """Keep the first error of a series, because it says most."""
        text = f"{type(error).__name__}: {error}"
        if not self.error:
            self.first_error = text
        self.error = text

    def _write_statement(self, kind: str, what: str, begun: float, **more: Any) -> None:
        spent = monotonic() - begun
        self._journal.write(
            self.alias, kind, what, ms=spent * 1000, connection=self.connection, **more
        )

    def _work(self) -> None:
        self._db = connections[self.alias]
        while True:
            job, done = self._jobs.get()
            try:
                job()
            except Exception as error:  # an error that no statement should raise is shown, too
                self._note(error)
                self._journal.write(self.alias, "error", "unexpected", answer=self.error)
            self.waiting_for = ""
            self._look_at_pins()
            self._busy.release()
            done.set()

    def _look_at_pins(self) -> None:
        """Write down which session state the connection has, if that has changed."""
        if self._db.connection is None:
            self.connection = None
        info = django_mysql_recycle.inspect_connection(self._db)
        pins = () if info is None else info.state
        if pins != self.pins:
            self.pins = pins
            text = f"pinned: {', '.join(pins)}" if pins else "not pinned any more"
            self._journal.write(self.alias, "pin" if pins else "unpin", text)

    # ##### Signals, sent in the lane's thread #####

    def _connected(self, connection: Any, **_: Any) -> None:
        if connection is not self._db:
            return
        self.connection = connection_id(connection)
        self.about = (driver_name(connection), server_name(connection))
        self._opened = self._contact = monotonic()
        self._journal.write(
            self.alias, "connect", f"connection {self.connection}", connection=self.connection
        )

    def _recycled(self, connection: Any, **facts: Any) -> None:
        if connection is self._db:
            text = "recycled: {reason} (age {age:.1f} s, idle {idle:.1f} s)".format(**facts)
            self._journal.write(self.alias, "recycle", text, connection=self.connection)

    def _repeated(self, connection: Any, reason: str, **_: Any) -> None:
        if connection is self._db:
            self._journal.write(
                self.alias, "repeat", f"the statement never ran ({reason}), so it is run again"
            )

    def _state_lost(self, connection: Any, state: tuple[str, ...], **_: Any) -> None:
        if connection is self._db:
            self._journal.write(self.alias, "lost", f"session state lost: {', '.join(state)}")
