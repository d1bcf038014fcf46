"""A replicated primary behind HAProxy that is switched over or crashes, and threads that move money."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import count
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.utils import Error

from django_mysql_recycle import run_transaction
from servers import HAProxy, Server

from .acts import code_of, wait_for
from .admin import Admin
from .connections import STOCK, ConnectionFactory
from .queries import run
from .test_wrong_node import APPLICATION, make_application

ACCOUNTS = ["ann", "bob", "eve", "kim"]
START = 1000
OPTIONS: dict[str, dict[str, Any]] = {
    "mariadb": {"log_bin": "binlog", "log_slave_updates": True},
    "mysql": {
        "log_bin": "binlog",
        "gtid_mode": "ON",
        "enforce_gtid_consistency": "ON",
        "performance_schema": True,
    },
}


def acknowledge_at_the_replica(vendor: str, primary: Admin, replica: Admin) -> None:
    """Semi-synchronous: what the primary acknowledges survives its crash."""
    if vendor == "mariadb":
        primary.rows("SET GLOBAL rpl_semi_sync_master_wait_point = 'AFTER_SYNC'")
        primary.rows("SET GLOBAL rpl_semi_sync_master_timeout = 60000")
        primary.rows("SET GLOBAL rpl_semi_sync_master_enabled = 1")
        replica.rows("SET GLOBAL rpl_semi_sync_slave_enabled = 1")
    else:
        primary.rows("INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'")
        primary.rows("SET GLOBAL rpl_semi_sync_source_timeout = 60000")
        replica.rows("INSTALL PLUGIN rpl_semi_sync_replica SONAME 'semisync_replica.so'")
        replica.rows("SET GLOBAL rpl_semi_sync_replica_enabled = 1")
        primary.rows("SET GLOBAL rpl_semi_sync_source_enabled = 1")


def replicate(vendor: str, primary: Server, replica: Admin) -> None:
    name = {"mariadb": "MASTER", "mysql": "SOURCE"}[vendor]
    where = ", ".join(
        f"{name}_{key} = {value!r}"
        for key, value in {
            "HOST": primary.host,
            "PORT": primary.port,
            "USER": primary.user,
            "PASSWORD": primary.password,
        }.items()
    )
    if vendor == "mariadb":
        replica.rows(f"CHANGE MASTER TO {where}, MASTER_USE_GTID = slave_pos")
        replica.rows("START SLAVE")
    else:
        more = "SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1"
        replica.rows(f"CHANGE REPLICATION SOURCE TO {where}, {more}")
        replica.rows("START REPLICA")


def catch_up(vendor: str, primary: Admin, replica: Admin) -> None:
    if vendor == "mariadb":
        position = primary.value("SELECT @@gtid_binlog_pos")
        assert replica.value("SELECT MASTER_GTID_WAIT(%s, 10)", position) == 0
    else:
        position = primary.value("SELECT @@GLOBAL.gtid_executed")
        assert replica.value("SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, 10)", position) == 0


class Replicated:
    """A primary and its replica."""

    def __init__(self, vendor: str, stack: ExitStack) -> None:
        self.vendor = vendor
        servers = [
            Server(vendor, server_id=number, skip_log_bin=False, **OPTIONS[vendor])
            for number in (1, 2)
        ]
        for server in servers:
            # MySQL's identity of the server: both come from the same template.
            (server.directory / "data" / "auto.cnf").unlink(missing_ok=True)
            stack.enter_context(server)
        self.primary, self.replica = servers
        self.old, self.new = (stack.enter_context(Admin(server)) for server in servers)
        for admin in (self.old, self.new):
            make_application(admin)
        if vendor == "mariadb":
            # A replica that is not connected yet keeps nothing waiting.
            self.old.rows("SET GLOBAL rpl_semi_sync_master_wait_no_slave = 0")
        acknowledge_at_the_replica(vendor, self.old, self.new)
        replicate(vendor, self.primary, self.new)
        self.old.rows("CREATE TABLE money (owner VARCHAR(9) PRIMARY KEY, balance INT)")
        self.old.rows("CREATE TABLE ledger (number VARCHAR(40) PRIMARY KEY)")
        for owner in ACCOUNTS:
            self.old.rows("INSERT INTO money VALUES (%s, %s)", owner, START)
        catch_up(vendor, self.old, self.new)
        self.new.rows("SET GLOBAL read_only = 1")

    def crash(self, address: HAProxy) -> None:
        """The primary dies, and the orchestrator promotes the replica a second later."""
        self.primary.kill()
        time.sleep(1)
        self.new.rows(
            "STOP SLAVE IO_THREAD" if self.vendor == "mariadb" else "STOP REPLICA IO_THREAD"
        )
        wait_for(self.has_applied_all, "the replica to apply what it has received")
        self.new.rows("STOP SLAVE" if self.vendor == "mariadb" else "STOP REPLICA")
        self.new.rows("SET GLOBAL read_only = 0")
        address.disable("db1")

    def has_applied_all(self) -> bool:
        status = self.new.status(
            "SHOW SLAVE STATUS" if self.vendor == "mariadb" else "SHOW REPLICA STATUS"
        )
        word = "Slave" if self.vendor == "mariadb" else "Replica"
        return "has read all relay log" in str(status[f"{word}_SQL_Running_State"])

    def switch_over(self, address: HAProxy) -> None:
        """What an orchestrator does, and the load balancer half a second later."""
        self.old.rows("SET GLOBAL read_only = 1")
        catch_up(self.vendor, self.old, self.new)
        self.new.rows("STOP SLAVE" if self.vendor == "mariadb" else "STOP REPLICA")
        self.new.rows("SET GLOBAL read_only = 0")
        time.sleep(0.5)
        address.disable("db1")


@pytest.fixture
def replicated(vendor: str) -> Iterator[Replicated]:
    with ExitStack() as stack:
        yield Replicated(vendor, stack)


class Workers:
    """Threads that write, each with a connection of its own, and what they know of it."""

    def __init__(self) -> None:
        self.ends = threading.Event()
        self.written: list[str] = []
        self.hooks: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.threads: list[threading.Thread] = []
        self.numbers = count()

    def start(self, name: str, alias: str, work: Callable[[Any, str], None]) -> None:
        def loop() -> None:
            with closing(connections[alias]) as connection:
                while not self.ends.is_set():
                    number = f"{name} {next(self.numbers)}"
                    try:
                        work(connection, number)
                    except Error as error:
                        self.errors[f"{name} {code_of(error)}"] += 1
                    else:
                        self.written.append(number)
                    time.sleep(0.005)

        self.threads.append(threading.Thread(target=loop))
        self.threads[-1].start()

    def stop(self) -> None:
        self.ends.set()
        for thread in self.threads:
            thread.join()

    def insert(self, connection: Any, number: str) -> None:
        run(connection, "INSERT INTO ledger VALUES (%s)", number)

    def transfer(self, connection: Any, number: str) -> None:
        giver, taker = ACCOUNTS[hash(number) % 4], ACCOUNTS[(hash(number) + 1) % 4]

        def move() -> None:
            transaction.on_commit(lambda: self.hooks.update([number]), using=connection.alias)
            run(connection, "INSERT INTO ledger VALUES (%s)", number)
            for owner, amount in ((giver, -1), (taker, 1)):
                change = "UPDATE money SET balance = balance + %s WHERE owner = %s"
                run(connection, change, amount, owner)

        run_transaction(move, using=connection.alias, attempts=10)


def under_load(
    replicated: Replicated,
    address: HAProxy,
    make_connection: ConnectionFactory,
    happens: Callable[[HAProxy], None],
) -> tuple[Workers, list[str]]:
    """Threads of ours and one of stock write while it happens. Also what was written after it."""
    settings: dict[str, Any] = {"via": address, "server": replicated.primary, **APPLICATION}
    ours, stock = (make_connection(*engine, **settings) for engine in ((), (STOCK,)))
    workers = Workers()
    for _ in range(3):
        workers.start("insert", ours.alias, workers.insert)
        workers.start("transfer", ours.alias, workers.transfer)
    workers.start("stock", stock.alias, workers.insert)
    time.sleep(0.5)
    happens(address)
    switched = len(workers.written)
    time.sleep(1.5)
    workers.stop()
    return workers, workers.written[switched:]


@pytest.mark.core
def test_planned_switch_over_costs_no_error_and_moves_no_money_twice(
    replicated: Replicated,
    haproxy: Callable[..., HAProxy],
    make_connection: ConnectionFactory,
) -> None:
    address = haproxy(replicated.primary, replicated.replica)
    workers, later = under_load(replicated, address, make_connection, replicated.switch_over)
    ledger = Counter(row[0] for row in replicated.new.rows("SELECT number FROM ledger"))
    assert {error for error in workers.errors if not error.startswith("stock")} == set()
    assert ledger == Counter(workers.written)
    assert workers.hooks == Counter(n for n in workers.written if n.startswith("transfer"))
    assert replicated.new.value("SELECT SUM(balance) FROM money") == START * len(ACCOUNTS)
    assert {number.partition(" ")[0] for number in later} == {"insert", "transfer"}
    # The control: its connection stays with the old primary, where nothing is ever accepted again.
    assert workers.errors["stock 1290"] > 10


def test_crash_of_the_primary_costs_only_what_was_under_way(
    replicated: Replicated,
    haproxy: Callable[..., HAProxy],
    make_connection: ConnectionFactory,
) -> None:
    address = haproxy(replicated.primary, replicated.replica)
    workers, later = under_load(replicated, address, make_connection, replicated.crash)
    ledger = Counter(row[0] for row in replicated.new.rows("SELECT number FROM ledger"))
    errors = Counter(
        {name: n for name, n in workers.errors.items() if not name.startswith("stock")}
    )
    # At most one for each thread: an INSERT or a COMMIT whose answer was lost.
    assert {name.rpartition(" ")[2] for name in errors} <= {"2006", "2013", "2026", "2055"}
    assert errors.total() <= 6
    assert Counter(workers.written) <= ledger
    assert (ledger - Counter(workers.written)).total() <= errors.total() + workers.errors.total()
    assert max(ledger.values()) == 1
    assert workers.hooks == Counter(n for n in workers.written if n.startswith("transfer"))
    assert replicated.new.value("SELECT SUM(balance) FROM money") == START * len(ACCOUNTS)
    assert {number.partition(" ")[0] for number in later} == {"insert", "transfer"}
