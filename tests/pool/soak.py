"""64 threads share 8 connections while connections are killed. Each answer must be the asker's.

The threads move money, set up their sessions, take locks, rest with rows that they have not fetched
yet, and leave cursors and generators behind, which other threads fetch from, close or collect.

``python -m tests.pool.soak --seconds 600 --seed 7`` runs it by hand. The driver and the server are
chosen as for the tests (choice.py). It ends with an error if a promise is broken.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any

from django.db import connections, transaction
from django.db.utils import Error

from servers import Server

from ..integration.admin import Admin
from .places import killing
from .sockets import Sockets

SIZE = 8
THREADS = 64
ACCOUNTS = 8
FORTUNE = 1000
ROWS = 200
#: Seconds that a borrower may wait. A holder that rests for a second gives its connection away.
TIMEOUT = 10
POOL = {"max_size": SIZE, "timeout": TIMEOUT}

DEFINITIONS = (
    "CREATE TABLE pool_account (id INT PRIMARY KEY, balance INT NOT NULL) ENGINE=InnoDB",
    "CREATE TABLE pool_transfer (id CHAR(36) NOT NULL, amount INT NOT NULL) ENGINE=InnoDB",
    "CREATE TABLE pool_note (id INT AUTO_INCREMENT PRIMARY KEY, name CHAR(36) NOT NULL)"
    " ENGINE=InnoDB",
    "CREATE TABLE pool_digit (digit INT PRIMARY KEY) ENGINE=InnoDB",
    "CREATE FUNCTION pool_soak() RETURNS INT READS SQL DATA RETURN @soak",
    "CREATE PROCEDURE pool_twice(a INT) BEGIN SELECT a; SELECT a; END",
)
#: Many rows with one number.
MANY = "SELECT %s + 0 FROM pool_digit a, pool_digit b, pool_digit c"


class Broken(Exception):
    """A promise is broken."""


class Leftover:
    """A cursor or a generator whose borrowing is over, and the number that its rows must have."""

    def __init__(self, number: int, rows: Any) -> None:
        self.number = number
        self.rows = rows

    def fetch(self) -> list[Any]:
        fetchall: Callable[[], Any] | None = getattr(self.rows, "fetchall", None)
        return list(fetchall() if fetchall else self.rows)

    def close(self) -> None:
        self.rows.close()


class PoolSoak:
    """The answers that the threads got. In the end it is compared with what the server has."""

    def __init__(self, alias: str, server: Server, seed: int) -> None:
        self.alias = alias
        self.server = server
        self.seed = seed
        self.right = 0
        self.acknowledged: set[str] = set()
        self.hooks: Counter[str] = Counter()
        self.notes: set[str] = set()
        self.errors: Counter[str] = Counter()
        self.broken: list[str] = []
        self.leftovers: deque[Leftover] = deque()
        self.waited = 0.0
        self.over = threading.Event()

    def run(self, seconds: float) -> None:
        with Admin(self.server) as admin:
            clean_up(admin)
            for definition in DEFINITIONS:
                admin.rows(definition)
            for number in range(ACCOUNTS):
                admin.rows("INSERT INTO pool_account VALUES (%s, %s)", number, FORTUNE)
            admin.rows("INSERT INTO pool_digit VALUES (0), (1), (2), (3), (4), (5)")
        threads = [threading.Thread(target=self.work, args=(n,)) for n in range(THREADS)]
        chance = random.Random(f"{self.seed} trouble")
        with Sockets(self.server) as sockets:
            with killing(self.server, 0.1, chance) as kills:
                for thread in threads:
                    thread.start()
                self.over.wait(seconds)
                self.over.set()
                for thread in threads:
                    thread.join(60)
                killed = kills()
            assert not any(thread.is_alive() for thread in threads), "a thread hangs"
        print(  # noqa: T201
            f"seed {self.seed}: {self.right} right answers, {len(self.acknowledged)} transfers,"
            f" {killed} kills, longest wait {self.waited:.1f} s, errors {dict(self.errors)}"
        )
        assert not self.broken, self.broken
        assert sockets.most <= SIZE, f"{sockets.most} connections were open"
        self.compare()

    # ##### The threads #####

    def work(self, which: int) -> None:
        chance = random.Random(f"{self.seed} {which}")
        acts = [self.ask] * 12 + [self.transfer] * 9 + [self.note] * 6 + [self.pick_up] * 6
        acts += [self.leave_behind] * 3
        acts += [self.leave_behind, self.leave_behind_unread, self.rest_with_rows]
        acts += [self.set_up, self.hold_lock]
        connection = connections[self.alias]
        try:
            while not self.over.is_set():
                began = time.monotonic()
                try:
                    chance.choice(acts)(connection, chance)
                    self.end_unit(connection, chance)
                except Error as error:
                    self.count(error)
                    connection.close()
                self.waited = max(self.waited, time.monotonic() - began)
        except BaseException as error:
            self.broken.append(f"thread {which}: {error!r}")
            self.over.set()
            raise
        finally:
            connection.close()

    def count(self, error: Error) -> None:
        code = error.args[0] if error.args and isinstance(error.args[0], int) else error
        self.errors[f"{type(error).__name__} {code}"] += 1
        if type(error).__name__ in ("PoolTimeout", "TooManyRequests", "PoolClosed"):
            raise Broken(str(error)) from error

    def end_unit(self, connection: Any, chance: random.Random) -> None:
        """Return the connection as Django does, or close it, or keep it and rest."""
        way = chance.random()
        if way < 0.7:
            connection.close_if_unusable_or_obsolete()
        elif way < 0.9:
            connection.close()
        elif way < 0.91:
            self.over.wait(1.2)

    def value(self, connection: Any, sql: str, *parameters: Any) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchone()[0] if cursor.description else None

    def check(self, number: int, found: Any, what: str) -> None:
        if set(found) - {number}:
            raise Broken(f"{what}: {number} was answered by {sorted(set(found))[:5]}")
        self.right += 1

    def ask(self, connection: Any, chance: random.Random) -> None:
        """The session is like a new one, whatever the one before has done with the connection."""
        number = chance.randrange(10**9)
        with connection.cursor() as cursor:
            # A stored function, because a statement that names the variable itself would bind the
            # session to this borrower.
            cursor.execute("SELECT %s + 0, pool_soak()", [number])
            answer, variable = cursor.fetchone()
        self.check(number, [answer], "a question")
        if variable is not None:
            raise Broken(f"@soak was {variable}")

    def transfer(self, connection: Any, chance: random.Random) -> None:
        name, amount = str(uuid.uuid4()), chance.randint(1, 50)
        source, target = chance.sample(range(ACCOUNTS), 2)
        fails = chance.random() < 0.1
        try:
            with transaction.atomic(using=self.alias):
                transaction.on_commit(lambda: self.hooks.update([name]), using=self.alias)
                for account, change in sorted([(source, -amount), (target, amount)]):
                    sql = "UPDATE pool_account SET balance = balance + %s WHERE id = %s"
                    self.value(connection, sql, change, account)
                with transaction.atomic(using=self.alias):
                    self.value(
                        connection, "INSERT INTO pool_transfer VALUES (%s, %s)", name, amount
                    )
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            return
        self.acknowledged.add(name)

    def note(self, connection: Any, chance: random.Random) -> None:
        """LAST_INSERT_ID() must be that of this borrower's INSERT."""
        name = str(uuid.uuid4())
        self.value(connection, "INSERT INTO pool_note (name) VALUES (%s)", name)
        self.notes.add(name)
        sql = "SELECT name FROM pool_note WHERE id = LAST_INSERT_ID()"
        if (found := self.value(connection, sql)) != name:
            raise Broken(f"LAST_INSERT_ID() was that of {found}")

    def leave_behind(self, connection: Any, chance: random.Random) -> None:
        """A cursor with rows that are not fetched yet, or a generator over them."""
        number = chance.randrange(10**9)
        cursor = connection.cursor()
        cursor.execute(MANY, [number])
        first = cursor.fetchone()
        self.check(number, first, "the first row")

        def generate() -> Iterator[Any]:
            while row := cursor.fetchone():
                yield row

        self.give_away(connection, Leftover(number, chance.choice([cursor, generate()])))

    def leave_behind_unread(self, connection: Any, chance: random.Random) -> None:
        """A cursor whose second result set is unread."""
        number = chance.randrange(10**9)
        cursor = connection.cursor()
        cursor.callproc("pool_twice", [number])
        self.give_away(connection, Leftover(number, cursor))

    def give_away(self, connection: Any, leftover: Leftover) -> None:
        connection.close_if_unusable_or_obsolete()
        if connection.connection is None:
            self.leftovers.append(leftover)

    def pick_up(self, connection: Any, chance: random.Random) -> None:
        """Fetch from what another thread has left, close it, or let it be collected."""
        try:
            leftover = self.leftovers.popleft()
        except IndexError:
            return
        mine = chance.randrange(10**9)
        cursor = connection.cursor()
        cursor.execute(MANY, [mine])
        self.check(mine, cursor.fetchone(), "the first row")
        act = chance.choice(["fetch", "close", "collect"])
        if act == "fetch":
            try:
                rows = leftover.fetch()
            except Error:
                pass  # the connection that had them was closed before they were read
            else:
                self.check(leftover.number, [row[0] for row in rows], "another thread's rows")
        elif act == "close":
            leftover.close()
        del leftover
        if act == "collect" and chance.random() < 0.05:
            gc.collect()
        rest = [row[0] for row in cursor.fetchall()]
        if len(rest) != 6**3 - 1:
            raise Broken(f"{len(rest)} rows were left of {6**3 - 1}")
        self.check(mine, rest, "the rows after another thread's were dropped")
        cursor.close()

    def rest_with_rows(self, connection: Any, chance: random.Random) -> None:
        """Another thread takes the connection meanwhile. The rows were read and stay readable."""
        number = chance.randrange(10**9)
        cursor = connection.cursor()
        cursor.execute(MANY, [number])
        first = cursor.fetchmany(10)
        self.over.wait(1.2)
        rows = [row[0] for row in [*first, *cursor.fetchall()]]
        if len(rows) != 6**3:
            raise Broken(f"{len(rows)} rows of {6**3}")
        self.check(number, rows, "rows after a rest")
        self.ask(connection, chance)

    def set_up(self, connection: Any, chance: random.Random) -> None:
        number = chance.randrange(1000)
        with connection.cursor() as cursor:
            cursor.execute("SET @soak = %s", [number])
            cursor.execute("CREATE TEMPORARY TABLE pool_own (a INT)")
            cursor.execute("INSERT INTO pool_own VALUES (%s)", [number])
            if chance.random() < 0.05:
                self.over.wait(1.2)  # it may not be taken away
            cursor.execute("SELECT a = @soak FROM pool_own")
            if cursor.fetchone() != (1,):
                raise Broken("a session was not as it had been set up")
        connection.close()

    def hold_lock(self, connection: Any, chance: random.Random) -> None:
        if self.value(connection, "SELECT GET_LOCK('pool_soak', 0)") == 1:
            if chance.random() < 0.1:
                self.over.wait(1.2)  # it may not be taken away
            if self.value(connection, "SELECT IS_USED_LOCK('pool_soak') = CONNECTION_ID()") != 1:
                raise Broken("a lock was lost without an error")
        connection.close()

    # ##### The truth #####

    def compare(self) -> None:
        with Admin(self.server) as admin:
            total = admin.value("SELECT SUM(balance) FROM pool_account")
            transfers = Counter(row[0] for row in admin.rows("SELECT id FROM pool_transfer"))
            notes = Counter(row[0] for row in admin.rows("SELECT name FROM pool_note"))
        assert total == ACCOUNTS * FORTUNE, f"the sum has changed to {total}"
        assert set(transfers.values()) <= {1}, "a transfer is there twice"
        assert set(notes.values()) <= {1}, "a statement ran twice"
        assert self.notes <= set(notes), "an acknowledged statement is not there"
        assert self.acknowledged <= set(transfers), "an acknowledged commit is not there"
        assert set(self.hooks.values()) <= {1}, "a hook ran twice"
        assert self.acknowledged <= set(self.hooks), "a hook of a commit did not run"
        assert set(self.hooks) <= set(transfers), "a hook ran for what was not committed"
        assert self.acknowledged and self.notes and self.right
        self.leftovers.clear()
        gc.collect()
        assert self.sessions() == SIZE, "a slot is lost"

    def sessions(self) -> int:
        """How many connections can be in transactions at the same time."""
        together, found = threading.Barrier(SIZE), set()

        def hold() -> None:
            connection = connections[self.alias]
            with transaction.atomic(using=self.alias):
                found.add(self.value(connection, "SELECT CONNECTION_ID()"))
                together.wait(30)
            connection.close()

        threads = [threading.Thread(target=hold) for _ in range(SIZE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(found)


def clean_up(admin: Admin) -> None:
    for name in ("account", "transfer", "note", "digit"):
        admin.rows(f"DROP TABLE IF EXISTS pool_{name}")
    admin.rows("DROP PROCEDURE IF EXISTS pool_twice")
    admin.rows("DROP FUNCTION IF EXISTS pool_soak")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    import django
    from django.conf import settings

    from ..choice import DRIVER, VENDOR
    from ..integration.connections import point

    print(f"{DRIVER} on {VENDOR}, {options.seconds:g} s, --seed {options.seed}", flush=True)  # noqa: T201
    with Server(VENDOR) as server:
        django.setup()
        database = settings.DATABASES["default"]
        point(database, server)
        database["OPTIONS"] = {**database.get("OPTIONS", {}), "pool": POOL}
        PoolSoak("default", server, options.seed).run(options.seconds)


if __name__ == "__main__":
    main()
