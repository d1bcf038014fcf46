"""What tests of faults do again and again: lose a connection, interrupt, listen, look at rows."""

from __future__ import annotations

import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.db.utils import Error
from django.dispatch import Signal

from django_mysql_recycle.signals import (
    connection_recycled,
    session_state_lost,
    statement_repeated,
)

from .admin import Admin
from .connections import Connection
from .queries import run, value

#: Long enough for an error to count as one on a connection that had been idle, and for the
#: session's wait_timeout to be read.
REST = 0.55


def insert(connection: Connection, owner: str, balance: int = 0) -> None:
    run(connection, "INSERT INTO testapp_account (owner, balance) VALUES (%s, %s)", owner, balance)


def owners(admin: Admin) -> list[str]:
    """Who is in the table, as another session sees it."""
    return [row[0] for row in admin.rows("SELECT owner FROM testapp_account ORDER BY owner")]


def balances(admin: Admin) -> dict[str, int]:
    """Each account's balance, as another session sees it."""
    rows = admin.rows("SELECT owner, balance FROM testapp_account")
    assert len(rows) == len(dict(rows))
    return dict(rows)


def session_id(connection: Connection) -> int:
    """The server's id of the connection, by the driver's memory: no statement."""
    return int(connection.connection.thread_id())


def descriptor(connection: Connection) -> int:
    driver = connection.connection
    return int(driver._sock.fileno() if hasattr(driver, "_sock") else driver.fileno())


def wait_for(condition: Callable[[], Any], what: str, *, timeout: float = 10) -> Any:
    """Poll until `condition()` is true, and return its value."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {timeout:g} s for {what}"
        time.sleep(0.005)
    return found


def wait_until_hung_up(connection: Connection, *, timeout: float = 10) -> None:
    """Return once the other end's hang-up has arrived here."""
    poll = select.poll()
    poll.register(descriptor(connection), select.POLLIN | select.POLLRDHUP)
    assert poll.poll(timeout * 1000), "the other end has not closed it"
    time.sleep(0.002)  # in the first millisecond after a statement the socket is not checked


def kill(admin: Admin, connection: Connection) -> None:
    """KILL the connection, and return once this end can know it. The client sends nothing for it."""
    admin.kill(session_id(connection))
    wait_until_hung_up(connection)


def rest(connection: Connection, seconds: float = REST) -> None:
    """Let the connection have rested for so long without waiting: only its clock is set back.

    For rests that matter to the backend alone. A server's own clock needs a real rest.
    """
    record = connection.guard.connection  # type: ignore[attr-defined]
    ledger = record.ledger
    nothing_left = ledger.nothing_left_at == record.last_activity
    record.last_activity -= seconds
    if nothing_left:
        ledger.nothing_left_at = record.last_activity


def code_of(error: BaseException) -> Any:
    return error.args[0] if error.args else None


def assert_works(connection: Connection, admin: Admin) -> None:
    """The connection is sound: it answers what it is asked, on a session that the server lists."""
    for number in (7, 8):
        assert value(connection, "SELECT %s + 0", number) == number
    assert value(connection, "SELECT CONNECTION_ID()") in admin.connection_ids()


class Received:
    """What the signals have said of one thread's connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.recycled: list[str] = []
        self.repeated: list[str] = []
        self.lost: list[dict[str, Any]] = []

    def _recycled(self, *, connection: Any, reason: str, **facts: Any) -> None:
        if connection is self.connection:
            self.recycled.append(reason)

    def _repeated(self, *, connection: Any, reason: str, **facts: Any) -> None:
        if connection is self.connection:
            self.repeated.append(reason)

    def _lost(self, *, connection: Any, **facts: Any) -> None:
        if connection is self.connection:
            self.lost.append(facts)


@contextmanager
def receiving(sender: Signal, receiver: Callable[..., Any]) -> Iterator[None]:
    """Connect a receiver to a signal for the block."""
    sender.connect(receiver)
    try:
        yield
    finally:
        sender.disconnect(receiver)


@contextmanager
def listening(connection: Connection) -> Iterator[Received]:
    """Collect what the signals say of this connection."""
    received = Received(connection)
    with (
        receiving(connection_recycled, received._recycled),
        receiving(statement_repeated, received._repeated),
        receiving(session_state_lost, received._lost),
    ):
        yield received


class Hooks(list[object]):
    """The names of the `on_commit` hooks that have run; see the fixture `hooks`."""

    def register(self, connection: Connection, name: object) -> None:
        transaction.on_commit(lambda: self.append(name), using=connection.alias)


def in_a_driver(frame: Any) -> bool:
    """Whether the code that was running is a driver's, called by an application and not by `del`."""
    module = str(frame.f_globals.get("__name__"))
    at_once = module.partition(".")[0] in ("MySQLdb", "pymysql", "socket", "ssl") or (
        # The attributes that watch a driver's connection stand in place of its methods.
        module.startswith("django_mysql_recycle.drivers.")
    )
    # mysqlclient's commit() has no Python frame of its own.
    if not at_once and frame.f_code.co_name not in ("_commit", "_rollback", "_send"):
        return False
    while frame is not None:
        if frame.f_code.co_name in ("__del__", "close", "_close"):
            return False
        frame = frame.f_back
    return True


@contextmanager
def alarm(
    seconds: float,
    error: type[BaseException],
    *,
    where: Callable[[Any], object] = bool,
) -> Iterator[None]:
    """Raise `error` in the main thread after so many seconds: a soft time limit, a Ctrl-C.

    `where`: only while such a frame is running, or else a moment later. An exception that strikes
    between two lines of Django or of the standard library breaks what no backend can mend.
    """

    def ring(number: int, frame: Any) -> None:
        if where(frame):
            raise error
        signal.setitimer(signal.ITIMER_REAL, 0.00003)

    was = signal.signal(signal.SIGALRM, ring)
    # pytest-timeout may be using the same timer.
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    start = time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, was)
        if left:
            rest = max(0.01, left - (time.monotonic() - start))
            signal.setitimer(signal.ITIMER_REAL, rest, interval)


@contextmanager
def soon(seconds: float, act: Callable[[], Any]) -> Iterator[None]:
    """Do something in another thread while the block is busy; its exception fails the test."""
    failures: list[BaseException] = []

    def work() -> None:
        time.sleep(seconds)
        try:
            act()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if failures:
        raise failures[0]


def outcome(act: Callable[[], Any]) -> Error | None:
    """Run and return the database error it ends with, or None."""
    try:
        act()
    except Error as error:
        return error
    return None
