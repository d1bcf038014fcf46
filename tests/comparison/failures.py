"""The failures that each contender is tried with. Each one begins on a new connection.

A function returns one of the words of table.py, with the number of the error.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from django.core.signals import request_finished, request_started
from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import Error

from servers import FaultProxy, Namespace, Server

from ..integration.admin import Admin

#: The server's wait_timeout, and a pause that is longer.
WAIT_TIMEOUT = 2
PAUSE = 2.6
#: Longer than every limit of this backend.
PATIENCE = 35.0

APPLICATION = "application"


class Outcome(NamedTuple):
    verdict: str
    error: int | None = None


class Ground(NamedTuple):
    """The place in which a contender is tried. `connect(server, proxy)` gives a new connection."""

    server: Server
    other: Server
    admin: Admin
    connect: Callable[..., BaseDatabaseWrapper]
    before: Callable[[], None]


@contextmanager
def request() -> Iterator[None]:
    """The signals that Django sends around a request, which is all that affects a connection."""
    request_started.send(sender=None)
    try:
        yield
    finally:
        request_finished.send(sender=None)


def run(connection: BaseDatabaseWrapper, sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone() if cursor.description else None


def number(error: BaseException) -> int | None:
    code = error.args[0] if error.args else None
    return code if isinstance(code, int) else None


def attempts(ground: Ground, act: Callable[[], Any], times: int = 3) -> Outcome:
    """Try the same piece of work again and again, as the loop of a worker does."""
    first: Error | None = None
    for attempt in range(times):
        ground.before()
        try:
            act()
        except Error as error:
            first = first or error
        else:
            if attempt == 0:
                return Outcome("goes on")
            return Outcome("error once", number(first) if first else None)
    return Outcome("stays broken", number(first) if first else None)


def idle_between_requests(ground: Ground) -> Outcome:
    connection = ground.connect()
    with request():
        run(connection, "SELECT 1")
    time.sleep(PAUSE)

    def serve() -> None:
        with request():
            run(connection, "SELECT 1")

    return attempts(ground, serve)


def idle_inside(ground: Ground) -> Outcome:
    connection = ground.connect()
    request_started.send(sender=None)
    run(connection, "SELECT 1")
    time.sleep(PAUSE)
    return attempts(ground, lambda: run(connection, "SELECT 1"))


def idle_before_atomic(ground: Ground) -> Outcome:
    connection = ground.connect()
    run(connection, "SELECT 1")
    time.sleep(PAUSE)

    def transfer() -> None:
        with transaction.atomic(using=connection.alias):
            run(connection, "INSERT INTO compared (name) VALUES ('one')")
            run(connection, "INSERT INTO compared (name) VALUES ('two')")
            transaction.set_rollback(True, using=connection.alias)

    outcome = attempts(ground, transfer)
    rows = ground.admin.value("SELECT COUNT(*) FROM compared")
    return Outcome("not rolled back", outcome.error) if rows else outcome


def kill(ground: Ground, connection: BaseDatabaseWrapper) -> None:
    """KILL, and wait until this end can notice it."""
    ground.admin.kill(run(connection, "SELECT CONNECTION_ID()")[0])
    time.sleep(0.1)


def killed(ground: Ground) -> Outcome:
    connection = ground.connect()
    run(connection, "SELECT 1")
    kill(ground, connection)
    return attempts(ground, lambda: run(connection, "INSERT INTO compared (name) VALUES ('x')"))


def silent_path(ground: Ground) -> Outcome:
    """A server in a namespace. The packets of the connection are dropped, and then it is idle."""
    with Namespace() as namespace:
        with Server(
            ground.server.vendor, host=namespace.address, namespace=namespace.name
        ) as server:
            connection = ground.connect(server)
            answers: list[Outcome] = []
            blocked = threading.Event()
            ready = threading.Event()
            ports: list[int] = []

            def work() -> None:
                mine = connections[connection.alias]
                request_started.send(sender=None)
                run(mine, "SELECT 1")
                driver = getattr(mine.connection, "driver_connection", None) or mine.connection
                with socket.socket(fileno=os.dup(driver.fileno())) as sock:
                    ports.append(sock.getsockname()[1])
                ready.set()
                blocked.wait()
                time.sleep(11)  # so that this backend's ping_after has passed
                answers.append(attempts(ground, lambda: run(mine, "SELECT 1")))

            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            if not ready.wait(20):
                return Outcome("not measured")
            namespace.drop_client(ports[0])
            blocked.set()
            thread.join(11 + PATIENCE)
            hangs = thread.is_alive()
            namespace.restore()
            thread.join(30)
            return Outcome("hangs") if hangs or not answers else answers[0]


def lost_inside_atomic(ground: Ground) -> Outcome:
    connection = ground.connect()
    error: Error | None = None
    try:
        with transaction.atomic(using=connection.alias):
            run(connection, "INSERT INTO compared (name) VALUES ('first half')")
            time.sleep(PAUSE)
            run(connection, "INSERT INTO compared (name) VALUES ('second half')")
    except Error as caught:
        error = caught
    names = [name for (name,) in ground.admin.rows("SELECT name FROM compared")]
    if names == ["second half"]:
        return Outcome("commits the second half")
    if error is not None and not names:
        return Outcome("error, nothing is there", number(error))
    return Outcome(f"rows: {names}", number(error) if error else None)


def answer_lost(ground: Ground) -> Outcome:
    with FaultProxy(ground.server.host, ground.server.port) as proxy:
        connection = ground.connect(ground.server, proxy)
        run(connection, "SELECT 1")
        proxy.cut_at(b"INSERT", when="after")
        error: Error | None = None
        try:
            run(connection, "INSERT INTO compared (name) VALUES ('once')")
        except Error as caught:
            error = caught
        connection.close()
    rows = ground.admin.value("SELECT COUNT(*) FROM compared")
    if rows == 1 and error is not None:
        return Outcome("error, ran once", number(error))
    return Outcome(f"ran {rows} times", number(error) if error else None)


def duplicate_key(ground: Ground) -> Outcome:
    connection = ground.connect()
    run(connection, "INSERT INTO compared (id, name) VALUES (1, 'taken')")
    question = "SHOW GLOBAL STATUS LIKE 'Com_insert'"
    before = int(ground.admin.rows(question)[0][1])
    try:
        run(connection, "INSERT INTO compared (id, name) VALUES (1, 'again')")
    except DatabaseError:
        pass
    sent = int(ground.admin.rows(question)[0][1]) - before
    return Outcome("sent once" if sent == 1 else f"sent {sent} times")


def lock_lost(ground: Ground) -> Outcome:
    connection = ground.connect()
    run(connection, "SELECT GET_LOCK('leader', 0)")
    kill(ground, connection)
    ground.before()
    try:
        run(connection, "SELECT 1")
    except Error as error:
        named = "error that names the lock" if "leader" in str(error) else "error"
        return Outcome(named, number(error))
    return Outcome("silent")


def turned_read_only(ground: Ground) -> Outcome:
    """The primary becomes read-only, and from now on the address leads to another server."""
    with FaultProxy(ground.server.host, ground.server.port) as proxy:
        connection = ground.connect(ground.server, proxy, user=APPLICATION)

        def write() -> None:
            with request():
                ground.before()
                run(connection, "INSERT INTO compared (name) VALUES ('x')")

        write()
        ground.admin.set_global("read_only", 1)
        proxy.retarget(ground.other.host, ground.other.port)
        try:
            return attempts(ground, write, times=5)
        finally:
            connection.close()
            ground.admin.restore()


def forked(ground: Ground) -> Outcome:
    connection = ground.connect()
    session = run(connection, "SELECT CONNECTION_ID()")[0]
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            connections.close_all()  # what is usually recommended
            os.write(writing, b"%d" % run(connection, "SELECT CONNECTION_ID()")[0])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    if answer == b"%d" % session:
        return Outcome("both use one session")
    return attempts(ground, lambda: run(connection, "SELECT 1"))


FAILURES: dict[str, Callable[[Ground], Outcome]] = {
    function.__name__: function
    for function in (
        idle_between_requests,
        idle_inside,
        idle_before_atomic,
        killed,
        silent_path,
        lost_inside_atomic,
        answer_lost,
        duplicate_key,
        lock_lost,
        turned_read_only,
        forked,
    )
}
