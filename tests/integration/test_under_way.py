"""A statement in the middle of another one, and exceptions that come when nothing is under way.

A signal handler, a destructor or a profiler may use the connection between sending a statement
and the end of its answer. The statement under way is to be completed with its own answer.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partialmethod
from itertools import count
from typing import Any

import pytest
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import DatabaseError, Error, IntegrityError, ProgrammingError

from django_mysql_recycle import pinned
from django_mysql_recycle.stock import DatabaseWrapper as MySQLDatabaseWrapper
from servers import FaultProxy, Server

from .acts import assert_works, insert, listening, owners, session_id
from .admin import Admin
from .connections import OURS, STOCK, ConnectionFactory, point, unbuffered
from .queries import connection_id, run, value

SLOW = "SELECT SLEEP(0.3) + 99"


def answer_to(connection: Any, sql: str) -> Any:
    """The answer, or the error."""
    try:
        return value(connection, sql)
    except Error as error:
        return error


@contextmanager
def handler(act: Callable[[], Any], after: float = 0.1) -> Iterator[list[Any]]:
    """Have a signal handler run `act` once, in the middle of what the block is waiting for."""
    found: list[Any] = []

    def ring(_number: int, _frame: Any) -> None:
        try:
            found.append(act())
        except Error as error:
            found.append(error)

    was = signal.signal(signal.SIGALRM, ring)
    timer = signal.setitimer(signal.ITIMER_REAL, after)
    try:
        yield found
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, was)


def driver_cursor(connection: Any) -> Any:
    with connection.connection.cursor() as cursor:
        cursor.execute("SELECT 'inner'")


def atomic(connection: Any) -> None:
    with transaction.atomic(using=connection.alias):
        run(connection, "SELECT 'inner'")


def many(connection: Any) -> None:
    with connection.cursor() as cursor:
        sql = "INSERT INTO testapp_account (owner, balance) VALUES (%s, 0)"
        cursor.executemany(sql, [["inner"]])


def call(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.callproc("nothing", [1])


def autocommit_off(connection: Any) -> None:
    connection.set_autocommit(False)


def held(connection: Any) -> None:
    with pinned(connection):
        pass


def boundary_past_the_max_age(connection: Any) -> None:
    connection.close_at = 0
    connection.close_if_unusable_or_obsolete()


#: What a handler does, and whether it is refused.
INNER: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "select": (lambda connection: run(connection, "SELECT 'inner'"), True),
    "select that reads state": (
        lambda connection: run(connection, "SELECT LAST_INSERT_ID()"),
        True,
    ),
    "insert": (lambda connection: insert(connection, "inner"), True),
    "executemany": (many, True),
    "callproc": (call, True),
    "atomic": (atomic, True),
    "cursor": (lambda connection: connection.cursor().close(), False),
    "is_usable": (lambda connection: connection.is_usable(), False),
    "pinned": (held, False),
    "boundary": (lambda connection: connection.close_if_unusable_or_obsolete(), False),
    "boundary past the max age": (boundary_past_the_max_age, False),
    "get_autocommit": (lambda connection: connection.get_autocommit(), False),
}


@pytest.mark.core
@pytest.mark.parametrize("inside", ["plain", "atomic"])
@pytest.mark.parametrize("what", INNER)
def test_statement_under_way_is_completed_whatever_a_signal_handler_does(
    make_connection: ConnectionFactory, admin: Admin, what: str, inside: str
) -> None:
    connection = make_connection(CONN_MAX_AGE=3600, CONN_HEALTH_CHECKS=True)
    act, refused = INNER[what]
    before = connection_id(connection)
    with listening(connection) as received:
        if inside == "atomic":
            with transaction.atomic(using=connection.alias):
                insert(connection, "first")
                with handler(lambda: act(connection)) as found:
                    answer = value(connection, SLOW)
                insert(connection, "second")
        else:
            insert(connection, "first")
            with handler(lambda: act(connection)) as found:
                answer = value(connection, SLOW)
            insert(connection, "second")
    assert answer == 99
    assert [isinstance(one, ProgrammingError) for one in found] == [refused]
    if refused:
        assert found[0].args[0] == 2014
    assert (owners(admin), received.recycled) == (["first", "second"], [])
    assert connection_id(connection) == before
    assert_works(connection, admin)


@pytest.mark.parametrize("method", ["commit", "rollback", "autocommit", "savepoint"])
def test_end_of_a_transaction_in_a_signal_handler_touches_nothing(
    make_connection: ConnectionFactory, admin: Admin, method: str
) -> None:
    connection = make_connection(AUTOCOMMIT=False)
    insert(connection, "first")
    before = session_id(connection)
    acts = {
        "commit": connection.commit,
        "rollback": connection.rollback,
        "autocommit": lambda: connection.set_autocommit(True),
        "savepoint": lambda: atomic(connection),
    }
    with handler(acts[method]) as found:
        assert value(connection, SLOW) == 99
    assert isinstance(found[0], ProgrammingError)
    assert owners(admin) == []
    insert(connection, "second")
    connection.commit()
    assert (owners(admin), session_id(connection)) == (["first", "second"], before)


@pytest.mark.parametrize("instrumented", [False, True])
@pytest.mark.parametrize("what", ["enter", "leave", "commit", "rollback"])
def test_end_of_a_transaction_is_completed_whatever_a_signal_handler_does(
    make_connection: ConnectionFactory,
    proxy: Callable[..., FaultProxy],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    instrumented: bool,
) -> None:
    between = proxy()
    connection = make_connection(via=between)
    before = connection_id(connection)
    owners = [(BaseDatabaseWrapper, "_commit"), (BaseDatabaseWrapper, "_rollback")]
    for owner, name in [*owners, (MySQLDatabaseWrapper, "_set_autocommit")]:
        original: Any = getattr(owner, name)
        if instrumented:
            monkeypatch.setattr(owner, name, partialmethod(original))
    connection.set_autocommit(what == "enter")
    acts = {
        "enter": lambda: connection.set_autocommit(False),
        "leave": lambda: connection.set_autocommit(True),
        "commit": connection.commit,
        "rollback": connection.rollback,
    }
    between.latency = 0.15
    with handler(lambda: value(connection, "SELECT 'inner'")) as found:
        acts[what]()
    between.latency = 0
    assert isinstance(found[0], ProgrammingError)
    assert [connection_id(connection), value(connection, "SELECT 1")] == [before, 1]


def test_control_stock_backend_mixes_answers_up_or_refuses_without_saying_why(
    make_connection: ConnectionFactory, driver: str
) -> None:
    connection = make_connection(STOCK)
    run(connection, "SELECT 1")
    with handler(lambda: value(connection, "SELECT 'inner'")) as found:
        try:
            answer = answer_to(connection, SLOW)
        except RuntimeError as error:  # of the socket's buffer, which is read twice
            answer = error
    if driver == "pymysql":
        assert answer != 99
    else:
        assert answer == 99
        assert isinstance(found[0], ProgrammingError)


def test_cursor_of_the_driver_is_refused_in_the_middle_of_a_statement(
    connection: BaseDatabaseWrapper, admin: Admin
) -> None:
    before = connection_id(connection)
    refusals = (Error, connection.Database.Error)  # type: ignore[attr-defined]

    def act() -> Any:
        with pytest.raises(refusals):
            driver_cursor(connection)

    with handler(act) as found:
        assert value(connection, SLOW) == 99
    assert found == [None]
    assert connection_id(connection) == before
    assert_works(connection, admin)


def test_other_thread_is_refused_in_the_middle_of_a_statement(
    connection: BaseDatabaseWrapper, admin: Admin
) -> None:
    before = connection_id(connection)
    connection.inc_thread_sharing()
    found: list[Any] = []

    def other() -> None:
        found.append(answer_to(connection, "SELECT 'other'"))

    def start() -> None:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    with handler(start):
        assert value(connection, SLOW) == 99
    assert isinstance(found[0], ProgrammingError)
    other()
    assert found[1] == "other"
    connection.dec_thread_sharing()
    assert connection_id(connection) == before


@pytest.fixture
def stepped(admin: Admin) -> Iterator[None]:
    admin.rows("CREATE TABLE stepped (id INT AUTO_INCREMENT PRIMARY KEY, number INT)")
    yield
    admin.rows("DROP TABLE stepped")


@pytest.mark.parametrize("inside", ["plain", "atomic"])
@pytest.mark.parametrize("what", ["select", "insert"])
def test_statement_at_any_step_of_another_one_mixes_nothing_up(
    make_connection: ConnectionFactory, admin: Admin, stepped: None, inside: str, what: str
) -> None:
    """A profiler that runs a statement at one of its events, for each of them in turn.

    Only at those in the driver and in this package: Django holds a lock of its own for a moment.
    """
    connection = make_connection()
    before = connection_id(connection)
    refused = answered = 0

    def work(number: int) -> int:
        """Each INSERT is to have its own number, and each SELECT its own answer."""
        with connection.cursor() as cursor:
            if what == "select":
                cursor.execute("SELECT %s", [number])
                return int(cursor.fetchone()[0])
            cursor.execute("INSERT INTO stepped (id) VALUES (NULL)")
            mine = cursor.lastrowid
            cursor.execute("SELECT CONNECTION_ID() > 0")
            cursor.execute("UPDATE stepped SET number = %s WHERE id = %s", [number, mine])
            assert cursor.rowcount == 1
            cursor.execute("SELECT number FROM stepped WHERE id = %s", [mine])
            return int(cursor.fetchone()[0])

    for step in count(1):
        found: list[Any] = []
        left = step

        def profile(frame: Any, *_event: Any) -> None:
            nonlocal left
            module = str(frame.f_globals.get("__name__")).partition(".")[0]
            left -= module in ("MySQLdb", "pymysql", "socket", "ssl", "django_mysql_recycle")
            if left:
                return
            sys.setprofile(None)
            with suppress(ProgrammingError):
                found.append(work(-step))  # noqa: B023

        def profiled() -> int:
            sys.setprofile(profile)
            try:
                return work(step)  # noqa: B023
            finally:
                sys.setprofile(None)

        if inside == "atomic":
            with transaction.atomic(using=connection.alias):
                insert(connection, "first")
                assert profiled() == step
                insert(connection, "second")
            assert owners(admin) == ["first", "second"]
            admin.rows("DELETE FROM testapp_account")
        else:
            assert profiled() == step
        if left > 0:
            break
        assert found in ([], [-step])
        refused += not found
        answered += bool(found)
    assert refused >= 2 and answered >= 20, (refused, answered)
    assert connection_id(connection) == before


def test_rows_being_fetched_are_not_touched_by_a_signal_handler(
    make_connection: ConnectionFactory, admin: Admin, driver: str
) -> None:
    connection = make_connection(options=unbuffered(driver))
    sql = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)"
        " SELECT i, REPEAT('x', 2000), SLEEP(0.001) FROM n"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql)
        with handler(lambda: run(connection, "SELECT 'inner'")) as found:
            rows = [row[0] for row in cursor.fetchall()]
    assert rows == list(range(1, 301))
    assert isinstance(found[0], ProgrammingError)
    assert_works(connection, admin)


class Destroyed:
    """Runs a statement when it is destroyed."""

    def __init__(self, connection: Any, found: list[Any]) -> None:
        self.connection = connection
        self.found = found

    def __del__(self) -> None:
        self.found.append(answer_to(self.connection, "SELECT 'destructor'"))


def test_connection_past_its_max_age_is_kept_between_two_statements_of_a_call(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(CONN_MAX_AGE=60)
    before = connection_id(connection)

    def given() -> Iterator[Any]:
        for owner in ("a", "b"):
            record = connection.guard.connection  # type: ignore[attr-defined]
            record.opened_at -= 1000
            record.expires_at -= 1000
            assert connection_id(connection) == before
            yield [7, owner]

    with connection.cursor() as cursor:
        cursor.executemany("DO %s + LENGTH(%s)", given())
    assert connection_id(connection) != before


def test_destructor_that_queries_between_two_statements_of_a_call_gets_its_own_answer(
    connection: BaseDatabaseWrapper, admin: Admin
) -> None:
    before = connection_id(connection)
    found: list[Any] = []

    def given() -> Iterator[Any]:
        for owner in ("a", "b", "c"):
            Destroyed(connection, found)
            yield [owner, 0]

    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        sql = "INSERT INTO testapp_account (owner, balance) VALUES (%s, 1 + %s)"
        cursor.executemany(sql, given())
        assert cursor.rowcount == 3
    assert (owners(admin), found) == (["a", "b", "c"], ["destructor"] * 3)
    assert connection_id(connection) == before


@pytest.mark.parametrize("inside", ["plain", "atomic"])
def test_error_of_another_database_out_of_a_signal_handler_is_an_interruption(
    make_connection: ConnectionFactory, admin: Admin, inside: str
) -> None:
    """It speaks of the other connection. The answer of the statement under way may still come."""
    connection, other = make_connection(), make_connection()
    insert(other, "twice")
    run(connection, "SELECT 1")

    def interrupt() -> None:
        def ring(_number: int, _frame: Any) -> None:
            insert(other, "twice")

        was = signal.signal(signal.SIGALRM, ring)
        timer = signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            with pytest.raises(IntegrityError):
                value(connection, SLOW)
        finally:
            signal.setitimer(signal.ITIMER_REAL, *timer)
            signal.signal(signal.SIGALRM, was)

    if inside == "atomic":
        with pytest.raises(DatabaseError), transaction.atomic(using=connection.alias):
            insert(connection, "lost")
            interrupt()
            insert(connection, "lost as well")
    else:
        interrupt()
    assert [value(connection, "SELECT %s + 0", n) for n in (1, 2, 3)] == [1, 2, 3]
    assert owners(admin) == ["twice"]
    assert value(other, "SELECT 5") == 5


# ##### Greenlets #####

IN_A_GREENLET = """
import json, sys
from gevent import monkey
monkey.patch_all()
import gevent
import django_mysql_recycle
django_mysql_recycle.use_driver("pymysql")
from django.conf import settings
settings.configure(DATABASES={"default": json.load(sys.stdin)})
from django.db import connection, transaction
read = []

def work():
    with connection.cursor() as cursor:  # connecting runs several statements
        cursor.execute("SELECT 1")
        read.extend(cursor.fetchall())
    connection.connection.query("SELECT 2")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT 3")
        read.extend(cursor.fetchall())
    connection.close()

for greenlet in (work, work):
    gevent.spawn(greenlet).get()
work()
print(read)
"""


def test_with_gevent_no_statement_takes_itself_for_one_under_way(server: Server) -> None:
    """Its get_ident() is that of a greenlet, and the interpreter's frames are those of threads."""
    database: dict[str, Any] = {"ENGINE": OURS, "OPTIONS": {"ssl_disabled": True}}
    point(database, server)
    done = subprocess.run(
        [sys.executable, "-c", IN_A_GREENLET],
        input=json.dumps(database),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == str([(1,), (3,)] * 3), done.stderr
