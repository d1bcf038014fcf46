"""Measure 9: the connection pool under ASGI, and the CPU time of taking a connection and returning it.

The sites run side by side under uvicorn. They get requests in turn, each for a short while, again
and again. The database server, the web server and the load generator share the machine. So the
numbers compare configurations with one another. Each request runs one query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from time import thread_time
from typing import Any

from .admin import Admin
from .delayproxy import delayed
from .load import Clients
from .measure import OURS, STOCK, Run, main
from .rows import Row, Summary, count, median_interval, ratio_of, summary
from .sites import POOL, Site, sites
from .throughput import percentile
from .timing import alternate, timed

NAME = "pool"
TITLE = "The connection pool: requests under ASGI, and the CPU time of a borrowing"
TIME_LIMIT = 300
QUICK_TIME_LIMIT = 120
#: Each driver and each server once.
PAIRS = (("mysqlclient", "mariadb"), ("pymysql", "mysql"))

SIZE = 10
CLIENTS = 10
#: Ten times as many clients as connections.
CROWD = 100
#: Seconds that a round trip takes to the server that is far away.
FAR = 0.001

STOCK_CLOSING = "stock, CONN_MAX_AGE 0"
QUEUE_POOL = "dj_db_conn_pool"
OURS_POOL = "ours, pool"

CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    STOCK_CLOSING: {"ENGINE": STOCK, "CONN_MAX_AGE": 0},
    "stock, persistent": {"ENGINE": STOCK, "CONN_MAX_AGE": None},
    QUEUE_POOL: {
        "ENGINE": POOL,
        "CONN_MAX_AGE": 0,
        "POOL_OPTIONS": {"POOL_SIZE": SIZE, "MAX_OVERFLOW": 0},
    },
    OURS_POOL: {"ENGINE": OURS, "CONN_MAX_AGE": 0, "OPTIONS": {"pool": {"max_size": SIZE}}},
}

#: The highest time of a request in relation to another configuration's, for each way to the server.
BUDGETS: Mapping[str, Mapping[str, float]] = {
    "loopback": {STOCK_CLOSING: 1 / 1.25, QUEUE_POOL: 1 / 1.15},
    "TLS": {STOCK_CLOSING: 1 / 8},
    "1 ms away": {STOCK_CLOSING: 1 / 2},
}
#: The highest 99th percentile in relation to the median, with the crowd.
CROWD_BUDGET = 1.4
#: Microseconds of CPU time to take a connection and to return it.
CPU_BUDGET = 10


def rows(run: Run) -> Iterator[Row]:
    yield from borrowing(run)
    with ExitStack() as stack:
        for way in BUDGETS:
            transport = "tls" if way == "TLS" else "tcp"
            if transport not in run.transports:
                continue
            via = None
            if way == "1 ms away":
                via = stack.enter_context(delayed(run.target.host, run.target.port, FAR))
            with sites(
                run, "uvicorn", CONFIGURATIONS, CONFIGURATIONS, transport=transport, via=via
            ) as started:
                yield from steady(run, way, transport, started)
                if way == "loopback":
                    yield from crowded(run, started)


# ##### Requests #####


def steady(run: Run, way: str, transport: str, started: list[Site]) -> Iterator[Row]:
    """As many clients as connections."""
    rates, _, failures, busy = visit(started, CLIENTS, run.rounds(8, 1), 0.2 if run.quick else 0.7)
    with Admin(run.target) as admin:
        left = {site.name: count(len(admin.sessions(site.database))) for site in started}
    yield run.row(
        f"uvicorn, {way}: requests",
        "requests per second",
        {name: summary(samples) for name, samples in rates.items()},
        transport=transport,
        ratio=ratio_of(rates[OURS_POOL], rates[STOCK_CLOSING]),
        note=f"{CLIENTS} clients, pools of {SIZE} connections; the load generator took at most "
        f"{busy:.0%} of one of the cores, which the database server, the web server and it share; "
        f"the ratio is ours to stock, more is better; failed: {failures}",
    )
    for other, budget in BUDGETS[way].items():
        times = [1000 / rate for rate in rates[OURS_POOL]]
        others = [1000 / rate for rate in rates[other]]
        yield run.row(
            f"uvicorn, {way}: time per request against {other}",
            "ms, the inverse of the requests per second",
            {other: summary(others), OURS_POOL: summary(times)},
            transport=transport,
            ratio=ratio_of(times, others),
            budget=None if run.quick else budget,
            note=f"the ratio is ours to {other}, less is better",
        )
    yield run.row(
        f"uvicorn, {way}: connections open at the server",
        "connections after the last round",
        left,
        transport=transport,
    )


def crowded(run: Run, started: list[Site]) -> Iterator[Row]:
    """Ten times as many clients as connections: how evenly they wait."""
    _, latencies, failures, _ = visit(started, CROWD, run.rounds(8, 1), 0.5 if run.quick else 1.5)
    spreads: dict[str, Summary] = {}
    for name, rounds in latencies.items():
        samples = [
            percentile(ordered, 0.99) / percentile(ordered, 0.5) for ordered in rounds if ordered
        ]
        if samples:
            spreads[name] = {**median_interval(samples), "samples": len(samples)}
    yield run.row(
        f"uvicorn, {CROWD} clients: 99th percentile of a request's time by the median",
        "times the median",
        spreads,
        transport="tcp",
        budget=None if run.quick else CROWD_BUDGET,
        budget_of=OURS_POOL,
        note=f"pools of {SIZE} connections; failed: {failures}",
    )


def visit(
    started: list[Site], number: int, rounds: int, seconds: float
) -> tuple[dict[str, list[float]], dict[str, list[list[float]]], str, float]:
    """Send requests to each site in turn.

    Returns by name the requests per second of each round, and the ordered times of its requests.
    Then what failed, and the highest share of a core that the load generator took.
    """
    rates: dict[str, list[float]] = {site.name: [] for site in started}
    latencies: dict[str, list[list[float]]] = {site.name: [] for site in started}
    failed: list[str] = []
    busy = 0.0
    clients = {site.name: Clients(site.port, number) for site in started}
    try:
        for site in started:
            clients[site.name].burst(min(seconds, 0.3))  # not counted: it opens the connections
        for _ in range(rounds):
            for site in started:
                load = clients[site.name].burst(seconds)
                rates[site.name].append(max(1, len(load.latencies)) / load.seconds)
                latencies[site.name].append(sorted(load.latencies))
                busy = max(busy, load.busy / load.seconds)
                if load.failures:
                    failed.append(f"{site.name} {dict(load.failures)}")
    finally:
        for one in clients.values():
            one.__exit__()
    return rates, latencies, "; ".join(failed) or "none", busy


# ##### One borrowing #####


def borrowing(run: Run) -> Iterator[Row]:
    """Taking a connection and returning it, without the web server: CPU time and statements."""
    pooled = {**run.options("socket"), "pool": {"max_size": SIZE}}
    wrappers = {
        OURS_POOL: run.wrapper(OURS, "socket", options=pooled, CONN_MAX_AGE=0),
        QUEUE_POOL: run.wrapper(POOL, "socket", CONN_MAX_AGE=0),
        STOCK_CLOSING: run.wrapper(STOCK, "socket", CONN_MAX_AGE=0),
    }
    number = 50 if run.quick else 300
    with run.pinned() as placement, Admin(run.target) as admin:
        samples: dict[str, list[float]] = {}
        statements: dict[str, Summary] = {}
        for name, wrapper in wrappers.items():
            # In turn they would be slower: all of them are named "default".
            run.use(wrapper)
            call = _take_and_return(wrapper)
            block = timed(call, number, clock=thread_time)
            samples |= alternate({name: block}, run.rounds(60), seconds=5)
            statements[name] = count(_sent(admin, call, 20))
            wrapper.close()
    yield run.row(
        "taking a connection and returning it: CPU time",
        "us",
        {name: summary(times) for name, times in samples.items()},
        transport="socket",
        budget=None if run.quick else CPU_BUDGET,
        budget_of=OURS_POOL,
        note="the thread's CPU time of ensure_connection() and of Django's check at the end of a "
        f"request, without a statement; {placement}",
    )
    yield run.row(
        "taking a connection and returning it: sent to the server",
        "statements and pings",
        statements,
        transport="socket",
        budget=0,
        budget_of=OURS_POOL,
        note="as the server counts them; opening and closing a connection is not in it",
    )


def _take_and_return(wrapper: Any) -> Callable[[], object]:
    def call() -> None:
        wrapper.ensure_connection()
        wrapper.close_if_unusable_or_obsolete()

    return call


def _sent(admin: Admin, call: Callable[[], object], times: int) -> float:
    """How many statements and pings each call sends."""

    def counted() -> int:
        named = "('Questions', 'Com_admin_commands')"
        found = admin.rows(f"SHOW GLOBAL STATUS WHERE variable_name IN {named}")
        return sum(int(row[1]) for row in found)

    call()
    before = counted()
    own = counted() - before
    before = counted()
    for _ in range(times):
        call()
    return (counted() - before - own) / times


if __name__ == "__main__":
    main(NAME, rows)
