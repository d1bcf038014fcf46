"""Workers move money while connections are killed, the server is restarted and limits pass.

They also change their default database, begin transactions by SQL across boundaries of units of
work, set up their session in each round, and query in the middle of a statement.

``python -m tests.soak --seconds 600 --seed 7 --tls`` runs it by hand; the driver and the server
are chosen as for the tests (choice.py). Without ``--tls`` the connections are as the driver makes
them by itself. It ends with an error if a promise is broken.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import threading
import time
import uuid
from collections import Counter
from contextlib import suppress
from typing import Any

from django.db import connections, transaction
from django.db.utils import Error, ProgrammingError

from servers import Server

from .integration.admin import Admin

ACCOUNTS = 8
WORKERS = 6
FORTUNE = 1000
LOCKS = ("north", "south")
LIMIT = 2  # seconds of wait_timeout
MAX_AGE = 1  # seconds of CONN_MAX_AGE
BRANCH = "soak_branch"  #: a second database, with a table soak_note of its own

TABLES = (
    "CREATE TABLE soak_account (id INT PRIMARY KEY, balance INT NOT NULL) ENGINE=InnoDB",
    "CREATE TABLE soak_ledger (id CHAR(36) NOT NULL, amount INT NOT NULL) ENGINE=InnoDB",
    "CREATE TABLE soak_note (id CHAR(36) NOT NULL) ENGINE=InnoDB",
    "CREATE TABLE soak_numbered (id INT AUTO_INCREMENT PRIMARY KEY, name CHAR(36) NOT NULL)"
    " ENGINE=InnoDB",
    f"CREATE DATABASE {BRANCH}",
    f"CREATE TABLE {BRANCH}.soak_note (id CHAR(36) NOT NULL) ENGINE=InnoDB",
)


class Soak:
    """What the backend reported to the workers. In the end it is compared with what the server has."""

    def __init__(self, alias: str, server: Server, seed: int) -> None:
        self.alias = alias
        self.server = server
        self.seed = seed
        self.main = server.database
        self.acknowledged: set[str] = set()
        self.hooks: Counter[str] = Counter()
        #: The notes that were acknowledged, by the database that was in use.
        self.noted: dict[str, set[str]] = {self.main: set(), BRANCH: set()}
        self.errors: Counter[str] = Counter()
        self.broken: list[str] = []
        self.over = threading.Event()

    def run(self, seconds: float) -> None:
        with Admin(self.server) as admin:
            clean_up(admin)
            for table in TABLES:
                admin.rows(table)
            for number in range(ACCOUNTS):
                admin.rows("INSERT INTO soak_account VALUES (%s, %s)", number, FORTUNE)
        threads = [threading.Thread(target=self.work, args=(n,)) for n in range(WORKERS)]
        for thread in threads:
            thread.start()
        self.trouble(time.monotonic() + seconds)
        self.over.set()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads), "a worker hangs"
        self.compare()

    # ##### The workers #####

    def work(self, number: int) -> None:
        chance = random.Random(f"{self.seed} {number}")
        acts = [self.transfer] * 4 + [self.transfer_by_sql] * 2 + [self.note] * 3
        acts += [self.hold_lock, self.set_up, self.ask_for_its_number, self.ask_in_the_middle]
        acts += [self.nap]
        connection = connections[self.alias]
        try:
            while not self.over.is_set():
                try:
                    chance.choice(acts)(connection, chance)
                    if chance.random() < 0.3:
                        connection.close_if_unusable_or_obsolete()
                except Error as error:
                    code = error.args[0] if error.args else ""
                    self.errors[
                        f"{type(error).__name__} {code if isinstance(code, int) else ''}"
                    ] += 1
                    time.sleep(0.01)
            self.last_word(connection)
        except BaseException as error:
            self.broken.append(f"worker {number}: {error!r}")
            raise
        finally:
            connection.close()

    def transfer(self, connection: Any, chance: random.Random) -> None:
        name = str(uuid.uuid4())
        source, target = chance.sample(range(ACCOUNTS), 2)
        amount = chance.randint(1, 50)
        with transaction.atomic(using=self.alias):
            transaction.on_commit(lambda: self.hooks.update([name]), using=self.alias)
            with connection.cursor() as cursor:
                for account, change in sorted([(source, -amount), (target, amount)]):
                    self.move(cursor, account, change)
                    if chance.random() < 0.05:
                        time.sleep(chance.random() * 0.1)
                self.book(cursor, name, amount)
        self.acknowledged.add(name)

    def transfer_by_sql(self, connection: Any, chance: random.Random) -> None:
        """Between the two halves a unit of work may end, and with it the connection."""
        name = str(uuid.uuid4())
        source, target = chance.sample(range(ACCOUNTS), 2)
        amount = chance.randint(1, 50)
        with connection.cursor() as cursor:
            try:
                cursor.execute("BEGIN")
                (first, one), (second, other) = sorted([(source, -amount), (target, amount)])
                self.move(cursor, first, one)
                if chance.random() < 0.5:
                    connection.close_if_unusable_or_obsolete()
                self.move(cursor, second, other)
                self.book(cursor, name, amount)
                cursor.execute("COMMIT")
            except BaseException:
                for _ in range(2):  # the error of an earlier loss may come first
                    with suppress(Error):
                        cursor.execute("ROLLBACK")
                raise
        self.hooks.update([name])
        self.acknowledged.add(name)

    def move(self, cursor: Any, account: int, change: int) -> None:
        sql = f"UPDATE {self.main}.soak_account SET balance = balance + %s WHERE id = %s"
        cursor.execute(sql, [change, account])

    def book(self, cursor: Any, name: str, amount: int) -> None:
        cursor.execute(f"INSERT INTO {self.main}.soak_ledger VALUES (%s, %s)", [name, amount])

    def note(self, connection: Any, chance: random.Random) -> None:
        """The row must go to the database that was selected last, whatever happens in between."""
        database = chance.choice([self.main, BRANCH])
        with connection.cursor() as cursor:
            cursor.execute(f"USE `{database}`")
            for _ in range(chance.randint(1, 3)):
                self.nap(connection, chance)
                if chance.random() < 0.3:
                    connection.close_if_unusable_or_obsolete()
                name = str(uuid.uuid4())
                cursor.execute("INSERT INTO soak_note VALUES (%s)", [name])
                self.noted[database].add(name)

    def ask_in_the_middle(self, connection: Any, chance: random.Random) -> None:
        """Both statements must get their own answers, or the inner one is refused."""
        number, inner, countdown = chance.randrange(10**6), 0, chance.randint(1, 50)

        def profile(frame: Any, *_event: Any) -> None:
            nonlocal countdown, inner
            # Not inside Django, which holds a lock of its own for a moment.
            module = str(frame.f_globals.get("__name__")).partition(".")[0]
            countdown -= module in ("MySQLdb", "pymysql", "socket", "django_mysql_recycle")
            if countdown:
                return
            sys.setprofile(None)
            with suppress(ProgrammingError), connection.cursor() as cursor:
                cursor.execute("SELECT %s", [-number])
                inner = cursor.fetchone()[0]

        with connection.cursor() as cursor:
            sys.setprofile(profile)
            try:
                cursor.execute("SELECT %s", [number])
            finally:
                sys.setprofile(None)
            outer = cursor.fetchone()[0]
        if outer != number or inner not in (0, -number):
            self.broken.append(f"{number} was answered by {outer}, {-number} by {inner}")

    def hold_lock(self, connection: Any, chance: random.Random) -> None:
        """As long as nothing is raised, this connection must have the lock."""
        name = chance.choice(LOCKS)
        with connection.cursor() as cursor:
            cursor.execute("SELECT GET_LOCK(%s, 0)", [name])
            if cursor.fetchone()[0] != 1:
                return
            time.sleep(chance.random() * 0.2)
            cursor.execute("SELECT IS_USED_LOCK(%s) = CONNECTION_ID()", [name])
            if cursor.fetchone()[0] != 1:
                self.broken.append(f"lock {name} was lost without an error")
            cursor.execute("SELECT RELEASE_LOCK(%s)", [name])

    def set_up(self, connection: Any, chance: random.Random) -> None:
        """Rounds that set up their session. They must work with what they have set, or get an error."""
        with connection.cursor() as cursor:
            for _ in range(chance.randint(1, 5)):
                number = chance.randrange(1000)
                cursor.execute("SET SESSION group_concat_max_len = %s", [number + 1000])
                cursor.execute("SET @soak = %s", [number])
                cursor.execute("DROP TEMPORARY TABLE IF EXISTS soak_own")
                cursor.execute("CREATE TEMPORARY TABLE soak_own (a INT)")
                cursor.execute("INSERT INTO soak_own VALUES (%s)", [number])
                time.sleep(chance.random() * 0.02)
                cursor.execute(
                    "SELECT a = @soak AND @@group_concat_max_len = @soak + 1000 FROM soak_own"
                )
                if cursor.fetchone() != (1,):
                    self.broken.append("a session was not as it had been set up")
                time.sleep(chance.random() * 0.2)
            cursor.execute("DROP TEMPORARY TABLE IF EXISTS soak_own")
        connection.close_if_unusable_or_obsolete()  # the variables of the round end here

    def ask_for_its_number(self, connection: Any, chance: random.Random) -> None:
        """LAST_INSERT_ID() must be the one of the application's last INSERT, or raise."""
        name = str(uuid.uuid4())
        with connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {self.main}.soak_numbered (name) VALUES (%s)", [name])
            time.sleep(chance.random() * 0.2)
            if chance.random() < 0.5:
                cursor.execute("SELECT COUNT(*) FROM soak_note")
            table = f"{self.main}.soak_numbered"
            cursor.execute(f"SELECT name FROM {table} WHERE id = LAST_INSERT_ID()")
            if cursor.fetchone() != (name,):
                self.broken.append("LAST_INSERT_ID() was not the id of the inserted row")

    def nap(self, connection: Any, chance: random.Random) -> None:
        if chance.random() < 0.1:
            self.over.wait(LIMIT * (0.7 + chance.random()))

    def last_word(self, connection: Any) -> None:
        """No worker has to be restarted: a statement must succeed within three attempts."""
        for attempt in range(3):
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
                return
            except Error:
                if attempt == 2:
                    raise

    # ##### Trouble #####

    def trouble(self, deadline: float) -> None:
        chance = random.Random(f"{self.seed} trouble")
        next_restart = time.monotonic() + 4
        while time.monotonic() < deadline:
            time.sleep(chance.uniform(0.02, 0.3))
            if time.monotonic() > next_restart and deadline - time.monotonic() > 3:
                chance.choice([self.server.stop, self.server.kill])()
                time.sleep(chance.random() * 0.5)
                self.server.start()
                next_restart = time.monotonic() + chance.uniform(4, 8)
            with Admin(self.server) as admin:
                admin.rows(f"SET GLOBAL wait_timeout = {LIMIT}")
                admin.rows(f"SET SESSION wait_timeout = {10 * LIMIT}")
                victims = sorted(admin.connection_ids())
                for victim in chance.sample(victims, min(len(victims), chance.randint(0, 3))):
                    try:
                        admin.rows(f"KILL {victim}")
                    except Exception as error:
                        if error.args[0] != 1094:  # it has already ended
                            raise

    # ##### The truth #####

    def compare(self) -> None:
        with Admin(self.server) as admin:
            total = admin.value("SELECT SUM(balance) FROM soak_account")
            ledger = Counter(row[0] for row in admin.rows("SELECT id FROM soak_ledger"))
            notes = {
                database: Counter(
                    row[0] for row in admin.rows(f"SELECT id FROM {database}.soak_note")
                )
                for database in self.noted
            }
        noted = sum(map(len, self.noted.values()))
        counted = f"seed {self.seed}: {len(self.acknowledged)} transfers, {noted} notes, "
        print(counted + f"errors {dict(self.errors)}")  # noqa: T201
        assert not self.broken, self.broken
        assert total == ACCOUNTS * FORTUNE, f"the sum has changed to {total}"
        assert set(ledger.values()) <= {1}, "a transfer is there twice"
        for database, names in notes.items():
            assert set(names.values()) <= {1}, "a statement ran twice"
            assert self.noted[database] <= set(names), "an acknowledged statement is not there"
        assert self.acknowledged <= set(ledger), "an acknowledged commit is not there"
        assert set(self.hooks.values()) <= {1}, "a hook ran twice"
        assert self.acknowledged <= set(self.hooks), "a hook of an acknowledged commit did not run"
        assert set(self.hooks) <= set(ledger), "a hook ran for what was not committed"
        assert self.acknowledged and all(self.noted.values())


def clean_up(admin: Admin) -> None:
    for name in ("account", "ledger", "note", "numbered"):
        admin.rows(f"DROP TABLE IF EXISTS soak_{name}")
    admin.rows(f"DROP DATABASE IF EXISTS {BRANCH}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    import django
    from django.conf import settings

    from .choice import DRIVER, VENDOR
    from .integration.connections import encryption, point

    tls = " --tls" if options.tls else ""
    print(f"{DRIVER} on {VENDOR}, {options.seconds:g} s, --seed {options.seed}{tls}", flush=True)  # noqa: T201
    with Server(VENDOR) as server:
        django.setup()
        point(settings.DATABASES["default"], server)
        settings.DATABASES["default"]["CONN_MAX_AGE"] = MAX_AGE
        if options.tls:
            settings.DATABASES["default"]["OPTIONS"] = encryption(DRIVER, "tls", server)
            with connections["default"].cursor() as cursor:
                cursor.execute("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
                assert cursor.fetchone()[1], "the connection is not encrypted"
        Soak("default", server, options.seed).run(options.seconds)


if __name__ == "__main__":
    main()
