"""The fault matrix: what becomes of a first statement after each fault, in each situation.

A cell is one connection in one situation. Cells are prepared side by side, struck all at once, and
then run their first statement one after the other, so that hundreds of them share one restart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.db.utils import Error

from django_mysql_recycle import SessionStateLost
from servers import FaultProxy, Server

from ..testapp.models import Item
from .acts import session_id, wait_until_hung_up
from .admin import Admin
from .connections import Connection, ConnectionFactory, log_in_once
from .queries import run, value

Wrapper = Connection

SUCCEEDS, RAISES = "succeeds", "raises"

#: Longer than any bound that the settings of the unresponsive network allow.
PATIENCE = 4.0

# First statements. Each leaves traces that show how often it ran.

ITEM = "INSERT INTO testapp_item (name, created) VALUES (%s, NOW())"


def select(connection: Wrapper, tag: str) -> None:
    run(connection, "SELECT balance FROM testapp_account WHERE owner = %s", tag)


def insert(connection: Wrapper, tag: str) -> None:
    run(connection, ITEM, tag)


def update(connection: Wrapper, tag: str) -> None:
    run(connection, "UPDATE testapp_account SET balance = balance + 10 WHERE owner = %s", tag)


def orm_create(connection: Wrapper, tag: str) -> None:
    Item.objects.using(connection.alias).create(name=tag)


def executemany(connection: Wrapper, tag: str) -> None:
    with connection.cursor() as cursor:
        # Both drivers make one statement of it; several would be no transaction on any backend.
        cursor.executemany(
            "INSERT INTO testapp_item (name, created) VALUES (%s, %s)",
            [(f"{tag} 1", "2000-01-01"), (f"{tag} 2", "2000-01-01")],
        )


def callproc(connection: Wrapper, tag: str) -> None:
    with connection.cursor() as cursor:
        cursor.callproc("matrix_add_item", [tag])


def enter_atomic(connection: Wrapper, tag: str) -> None:
    with transaction.atomic(using=connection.alias):
        run(connection, ITEM, f"{tag} 1")
        run(connection, ITEM, f"{tag} 2")


FIRST: dict[str, Callable[[Wrapper, str], None]] = {
    "select": select,
    "insert": insert,
    "update": update,
    "ORM create": orm_create,
    "executemany": executemany,
    "callproc": callproc,
    "atomic": enter_atomic,
}

# Situations.


def first_half(connection: Wrapper, tag: str) -> None:
    run(connection, "UPDATE testapp_account SET balance = balance + 1 WHERE owner = %s", tag)


@contextmanager
def plain(connection: Wrapper, tag: str) -> Iterator[None]:
    run(connection, "SELECT 1")
    yield


@contextmanager
def atomic(connection: Wrapper, tag: str) -> Iterator[None]:
    with transaction.atomic(using=connection.alias):
        first_half(connection, tag)
        yield


@contextmanager
def savepoint(connection: Wrapper, tag: str) -> Iterator[None]:
    with transaction.atomic(using=connection.alias):
        first_half(connection, tag)
        with transaction.atomic(using=connection.alias):
            yield


@contextmanager
def autocommit_off(connection: Wrapper, tag: str) -> Iterator[None]:
    connection.set_autocommit(False)
    first_half(connection, tag)
    with committing(connection):
        yield


@contextmanager
def autocommit_off_and_clean(connection: Wrapper, tag: str) -> Iterator[None]:
    connection.set_autocommit(False)
    run(connection, "SELECT 1")
    connection.rollback()
    with committing(connection):
        yield


@contextmanager
def committing(connection: Wrapper) -> Iterator[None]:
    try:
        yield
        connection.commit()
    except Error:
        connection.rollback()
        raise
    finally:
        connection.set_autocommit(True)


def by_sql(begin: str, *ends: str, half: bool = False) -> Any:
    """A situation that begins and ends with SQL; {tag} distinguishes the cells."""

    @contextmanager
    def situation(connection: Wrapper, tag: str) -> Iterator[None]:
        run(connection, begin.format(tag=tag))
        if half:
            first_half(connection, tag)
        yield
        for end in ends:
            run(connection, end.format(tag=tag))

    return situation


@dataclass(frozen=True)
class Situation:
    enter: Any
    transactional: bool = False  #: the first statement and a first half belong together
    pins: bool = False
    safe: bool = False  #: nothing can be lost with the connection


SITUATIONS: dict[str, Situation] = {
    "plain": Situation(plain, safe=True),
    "atomic": Situation(atomic, transactional=True),
    "savepoint": Situation(savepoint, transactional=True),
    "autocommit off": Situation(autocommit_off, transactional=True),
    "autocommit off, after rollback": Situation(autocommit_off_and_clean, safe=True),
    "BEGIN": Situation(by_sql("BEGIN", "COMMIT", half=True), transactional=True, pins=True),
    "XA": Situation(
        by_sql("XA START '{tag}'", "XA END '{tag}'", "XA COMMIT '{tag}' ONE PHASE", half=True),
        transactional=True,
        pins=True,
    ),
    "SET autocommit = 0": Situation(
        by_sql("SET autocommit = 0", "COMMIT", "SET autocommit = 1", half=True),
        transactional=True,
        pins=True,
    ),
    "named lock": Situation(
        by_sql("SELECT GET_LOCK('{tag}', 0)", "SELECT RELEASE_LOCK('{tag}')"), pins=True
    ),
    "table lock": Situation(by_sql("LOCK TABLES matrix_locked READ", "UNLOCK TABLES"), pins=True),
    "temporary table": Situation(
        by_sql("CREATE TEMPORARY TABLE t (a INT)", "DROP TEMPORARY TABLE t"), pins=True
    ),
    "prepared statement": Situation(
        by_sql("PREPARE p FROM 'SELECT 1'", "DEALLOCATE PREPARE p"), pins=True
    ),
    "handler": Situation(by_sql("HANDLER testapp_item OPEN AS h", "HANDLER h CLOSE"), pins=True),
    "session variable": Situation(by_sql("SET SESSION sql_select_limit = 99"), pins=True),
    "user variable": Situation(by_sql("SET @v = 1"), pins=True),
}

# Faults.

LOST_BEFORE = ("idle", "KILL", "restart", "crash", "unresponsive network")
CUT = ("cut before arrival", "answer cut off")
FAULTS = (*LOST_BEFORE, *CUT)

#: A proxy has no unix socket, packets are dropped on their way between hosts.
TRANSPORTS: dict[str, tuple[str, ...]] = {
    "idle": ("tcp", "tls", "socket"),
    "KILL": ("tcp", "tls", "socket"),
    "restart": ("tcp", "tls", "socket"),
    "crash": ("tcp", "tls", "socket"),
    "unresponsive network": ("tcp",),
    "cut before arrival": ("tcp", "tls"),
    "answer cut off": ("tcp", "tls"),
}


def expected(fault: str, situation: str, first: str) -> str:
    """What the design promises for a cell of ours."""
    where = SITUATIONS[situation]
    if where.safe and fault in LOST_BEFORE:
        return SUCCEEDS
    if situation == "plain" and first == "atomic":
        return SUCCEEDS  # the cut meets the entry into the transaction: nothing has been done yet
    return RAISES


@dataclass(eq=False)
class Cell:
    engine: str
    transport: str
    fault: str
    situation: str
    first: str
    tag: str
    connect: Callable[[], Wrapper]
    error: Exception | None = None
    took: float = 0.0
    works_again: bool = False
    same_session: bool = False
    _stack: ExitStack = field(default_factory=ExitStack)

    def prepare(self) -> None:
        self.connection = self.connect()
        self.connection.ensure_connection()
        self.session = session_id(self.connection)
        self._stack.enter_context(SITUATIONS[self.situation].enter(self.connection, self.tag))

    def act(self) -> None:
        """Run the first statement, leave the situation, and see whether the connection works."""
        start = time.monotonic()
        try:
            with self._stack:
                FIRST[self.first](self.connection, self.tag)
        except Exception as error:
            self.error = error
        self.took = time.monotonic() - start
        for _ in range(2):  # a loss of state that is not reported yet is raised first
            try:
                self.works_again = value(self.connection, "SELECT 5 + 0") == 5
                break
            except SessionStateLost:
                continue
            except Exception:
                break
        driver = self.connection.connection
        self.same_session = driver is not None and session_id(self.connection) == self.session

    def judge(self, balances: dict[str, int], items: dict[str, int]) -> str:
        """The verdict, by the rows in the tables."""
        where = SITUATIONS[self.situation]
        balance = balances[self.tag]
        half = balance % 10
        if self.first in ("executemany", "atomic"):
            one, two = items.get(f"{self.tag} 1", 0), items.get(f"{self.tag} 2", 0)
            if one != two:
                return "HALF DONE"
            ran = one
        else:
            ran = balance // 10 if self.first == "update" else items.get(self.tag, 0)
        if ran > 1 or half > 1:
            return "RUNS TWICE"
        if self.took > PATIENCE:
            return "hangs"
        if self.error is None:
            if (self.first != "select" and ran != 1) or (where.transactional and half != 1):
                return "LOSES A WRITE WITHOUT AN ERROR"
            if (where.pins or where.transactional) and not self.same_session:
                return "LOSES STATE WITHOUT AN ERROR"
        elif where.transactional and (ran or half):
            return "HALF DONE"
        verdict = SUCCEEDS if self.error is None else RAISES
        return verdict if self.works_again else f"{verdict}, stays broken"


class Matrix:
    """Runs cells against one server."""

    def __init__(self, factory: ConnectionFactory, server: Server, admin: Admin) -> None:
        self._factory = factory
        self._server = server
        self._admin = admin
        self.close()
        admin.rows("CREATE TABLE matrix_locked (a INT)")
        admin.rows(
            "CREATE PROCEDURE matrix_add_item(tag VARCHAR(50))"
            " INSERT INTO testapp_item (name, created) VALUES (tag, NOW())"
        )

    def close(self) -> None:
        self._admin.rows("DROP TABLE IF EXISTS matrix_locked")
        self._admin.rows("DROP PROCEDURE IF EXISTS matrix_add_item")

    def run(
        self,
        engine: str,
        fault: str,
        transports: Sequence[str],
        *,
        via: FaultProxy | None = None,
        firsts: Iterable[str] = FIRST,
    ) -> dict[Cell, str]:
        """Strike all cells of a fault and return their verdicts."""
        options = {"init_command": "SET SESSION wait_timeout = 1"} if fault == "idle" else {}

        def connect(transport: Any) -> Callable[[], Wrapper]:
            return lambda: self._factory(
                engine, transport=transport, via=via, options=options, CONN_MAX_AGE=None
            )

        cells = [
            Cell(engine, transport, fault, situation, first, "", connect(transport))
            for transport in transports
            for situation in SITUATIONS
            for first in firsts
        ]
        self.prepare(cells)
        if fault in LOST_BEFORE:
            self._lose(fault, cells)
        for cell in cells:
            if via is not None:
                # No rest: the backend is not to look before the statement.
                run(cell.connection, "SELECT 1")
                if fault == "cut before arrival":
                    via.cut_next_request()
                else:
                    via.swallow_next_reply()
            cell.act()
        return self.judge(cells)

    def prepare(self, cells: Sequence[Cell], *, connect: bool = True) -> None:
        for number, cell in enumerate(cells):
            cell.tag = f"cell {number}"
        rows = ", ".join(f"('{cell.tag}', 0)" for cell in cells)
        self._admit_all()
        self._admin.empty_tables()
        self._admin.rows(f"INSERT INTO testapp_account (owner, balance) VALUES {rows}")
        if connect:
            for cell in cells:
                cell.prepare()

    def judge(self, cells: Sequence[Cell]) -> dict[Cell, str]:
        balances = dict(self._admin.rows("SELECT owner, balance FROM testapp_account"))
        items = dict(self._admin.rows("SELECT name, COUNT(*) FROM testapp_item GROUP BY name"))
        self._factory.close()
        return {cell: cell.judge(balances, items) for cell in cells}

    def _lose(self, fault: str, cells: Sequence[Cell]) -> None:
        if fault == "KILL":
            for cell in cells:
                self._admin.rows(f"KILL {cell.session}")
        elif fault == "restart":
            self._server.restart()
        elif fault == "crash":
            self._server.kill()
            self._server.start()
        for cell in cells:
            wait_until_hung_up(cell.connection)
        self._admit_all()  # a server started again has forgotten it
        if self._factory.driver == "mysqlclient":
            log_in_once(self._server)

    def _admit_all(self) -> None:
        self._admin.set_global("max_connections", 2000)
