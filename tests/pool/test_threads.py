"""More threads than connections: none has to wait for long while another one rests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from apscheduler.executors.pool import ThreadPoolExecutor as JobThreads
from apscheduler.schedulers.background import BackgroundScheduler
from dj_db_conn_pool.core import pool_container
from django.db import connections, transaction

from servers import Server
from tests.integration.acts import wait_for
from tests.integration.admin import Admin
from tests.integration.connections import ConnectionFactory
from tests.integration.queries import value

from .load import SYNC_MIX, Load
from .places import STOCK, Site
from .sockets import Sockets

SIZE = 3
THREADS = 9
QUEUE_POOL = "dj_db_conn_pool.backends.mysql"

Pooled = Callable[..., str]


@pytest.fixture
def pooled(make_connection: ConnectionFactory) -> Pooled:
    """`pooled(max_size=...)` is an alias with a pool."""

    def make(**pool: Any) -> str:
        return make_connection(options={"pool": {"max_size": SIZE, "timeout": 8, **pool}}).alias

    return make


def ask_in_each_thread(alias: str, rounds: int = 2, pause: float = 0.0) -> list[tuple[int, int]]:
    """Let each of nine threads ask a question, twice, and none of them close anything in between."""
    together = threading.Barrier(THREADS)
    pairs: list[tuple[int, int]] = []

    def work(number: int) -> None:
        try:
            for turn in range(rounds):
                together.wait(60)
                question = 10 * number + turn
                pairs.append((question, value(connections[alias], "SELECT %s + 0", question)))
                time.sleep(pause)
        except BaseException:
            together.abort()
            raise
        finally:
            connections[alias].close()

    with ThreadPoolExecutor(THREADS) as executor:
        futures = [executor.submit(work, number) for number in range(THREADS)]
        errors = [error for one in futures if (error := one.exception())]
    # The others have only seen that they are no longer complete.
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    return pairs


@pytest.mark.timeout(90)
def test_threads_of_an_executor_live_on_after_a_query_and_others_get_their_connection(
    pooled: Pooled, server: Server
) -> None:
    alias = pooled()
    with Sockets(server) as sockets:
        pairs = ask_in_each_thread(alias)
    assert len(pairs) == 2 * THREADS and all(asked == answered for asked, answered in pairs)
    assert sockets.most <= SIZE
    assert connections[alias].pool_stats()["called_in"] >= THREADS - SIZE


def test_threads_of_an_executor_starve_on_another_pool(
    make_connection: ConnectionFactory,
) -> None:
    """The control: dj_db_conn_pool waits for a connection that no thread returns."""
    alias = make_connection(
        QUEUE_POOL,
        POOL_OPTIONS={"POOL_SIZE": SIZE, "MAX_OVERFLOW": 0, "TIMEOUT": 2},
    ).alias
    try:
        with pytest.raises(Exception, match=r"QueuePool limit"):
            ask_in_each_thread(alias)
    finally:
        pool_container.get(alias).dispose()


def test_threads_of_an_executor_hold_a_connection_each_on_the_stock_backend(
    make_connection: ConnectionFactory, server: Server
) -> None:
    alias = make_connection(STOCK).alias
    with Sockets(server) as sockets:
        assert len(ask_in_each_thread(alias, pause=0.3)) == 2 * THREADS
    assert sockets.most >= THREADS


@pytest.mark.timeout(90)
def test_jobs_of_a_scheduler_share_the_connections_of_the_pool(
    pooled: Pooled, server: Server
) -> None:
    """Nothing closes a connection between two jobs of APScheduler."""
    alias = pooled()
    pairs: list[tuple[int, int]] = []

    def job(number: int) -> None:
        pairs.append((number, value(connections[alias], "SELECT %s + 0", number)))
        time.sleep(0.3)  # so that no thread runs two jobs

    scheduler = BackgroundScheduler(executors={"default": JobThreads(THREADS)})
    scheduler.start()
    try:
        with Sockets(server) as sockets:
            for number in range(THREADS):
                scheduler.add_job(job, args=[number])
            wait_for(lambda: len(pairs) == THREADS, "the jobs", timeout=30)
    finally:
        scheduler.shutdown()
    assert all(asked == answered for asked, answered in pairs)
    assert sockets.most <= SIZE


@pytest.mark.timeout(90)
def test_threads_that_ask_again_and_again_let_others_have_a_turn(pooled: Pooled) -> None:
    """Each thread looks for work three times a second, and none of them closes its connection."""
    alias = pooled(timeout=4)
    end = time.monotonic() + 5

    def poll(number: int) -> list[int]:
        answers = []
        try:
            while time.monotonic() < end:
                answers.append(int(value(connections[alias], "SELECT %s + 0", number)))
                time.sleep(0.3)
        finally:
            connections[alias].close()
        return answers

    with ThreadPoolExecutor(THREADS) as executor:
        for number, answers in enumerate(executor.map(poll, range(THREADS))):
            assert answers and set(answers) == {number}


@pytest.mark.timeout(90)
def test_transaction_that_rests_keeps_its_connection(pooled: Pooled, admin: Admin) -> None:
    alias = pooled(max_size=1)
    waits, over = threading.Event(), threading.Event()

    def wait_for_it() -> int:
        waits.set()
        try:
            number = int(value(connections[alias], "SELECT CONNECTION_ID()"))
            assert over.is_set()
            return number
        finally:
            connections[alias].close()

    with ThreadPoolExecutor(1) as executor:
        with transaction.atomic(using=alias):
            mine = value(connections[alias], "SELECT CONNECTION_ID()")
            other = executor.submit(wait_for_it)
            assert waits.wait(10)
            time.sleep(2)  # longer than a connection that may be taken is left alone
            assert value(connections[alias], "SELECT CONNECTION_ID()") == mine
            over.set()
        connections[alias].close()
        assert other.result(20) == mine
    assert connections[alias].pool_stats()["called_in"] == 0


@pytest.mark.load
@pytest.mark.timeout(90)
def test_streams_in_threads_that_rest_do_not_starve_each_other(
    run_site: Callable[..., Site], server: Server
) -> None:
    """Twelve event streams of gunicorn's threads, each with a pause of 1.5 s after each line."""
    site = run_site("gthread", pool={"max_size": SIZE, "timeout": 8})
    with Sockets(server) as sockets:
        answers = site.at_once(*[f"/stream/{n}/?pause=1.5" for n in range(12)])
    assert [given.body.split() for given in answers] == [[str(n)] * 3 for n in range(12)]
    assert sockets.most <= SIZE
    assert site.state()["pool"]["called_in"] > 0


@pytest.mark.load
@pytest.mark.timeout(3600)
def test_requests_in_threads_share_the_connections_of_the_pool(
    run_site: Callable[..., Site], server: Server, admin: Admin, requests: int
) -> None:
    site = run_site("gthread", pool={"max_size": SIZE})
    load = Load(site.port, SYNC_MIX, requests=requests, clients=12, seed=1, hang_up=0.1)
    with Sockets(server) as sockets:
        report = load.run()
    print(f"{report}, {sockets.most} connections")  # noqa: T201
    assert not report.wrong
    assert not report.errors
    assert sockets.most <= SIZE
    assert admin.value("SELECT SUM(balance) FROM testapp_account") == 0
    assert len(site.sessions_of(SIZE)) == SIZE
