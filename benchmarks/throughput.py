"""Measure 6: requests per second, and requests that fail, with everything that a user could use.

The sites run side by side. They get requests in turn, each for a short while, again and again. The
database server, the web server and the load generator share the machine. So the numbers compare
configurations with one another, and do not say what a machine of your own would achieve. A KILL
that ends a running statement is an error in every configuration, because the statement may have
run. Not measured are PyMySQL on MariaDB, mysqlclient on MySQL, TLS and unix sockets, and PyMySQL on
MySQL under other web servers.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .admin import Admin
from .load import Clients, Load
from .measure import Run, main
from .own import own_server
from .rows import Row, Summary, count, ratio_of, summary
from .sites import CONFIGURATIONS, Site, sites

NAME = "throughput"
TITLE = "Requests per second and requests failed, one query each"
TIME_LIMIT = 180
#: Each driver and each server once. The second pair has gunicorn gthread only.
PAIRS = (("mysqlclient", "mariadb"), ("pymysql", "mysql"))
QUICK_TIME_LIMIT = 90

CLIENTS = 8
OURS_PERSISTENT = "ours, persistent"
OURS_CLOSING = "ours, CONN_MAX_AGE 0"
STOCK_PERSISTENT = "stock, persistent"
#: Only under ASGI, where each request has a connection and Django advises against persistent ones.
WSGI = [name for name in CONFIGURATIONS if name != OURS_CLOSING]

#: A quick run starts fewer sites.
QUICK = (STOCK_PERSISTENT, "dj_db_conn_pool", OURS_PERSISTENT)

#: Seconds of wait_timeout, and between two kills.
SHORT = 1
KILL_EVERY = 0.02


class Tally:
    """The results of all rounds of one configuration."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.rounds: list[list[float]] = []
        self.total = Load()
        self.kills = 0
        self.open = 0

    def add(self, load: Load) -> None:
        self.rates.append(len(load.latencies) / load.seconds)
        self.rounds.append(sorted(load.latencies))
        self.total.add(load)

    def time(self, share: float) -> Summary:
        """A percentile in milliseconds, of all requests that succeeded, with the range over the rounds."""
        rounds = [percentile(ordered, share) for ordered in self.rounds if ordered]
        return {
            "median": percentile(sorted(self.total.latencies), share),
            "low": min(rounds, default=0.0),
            "high": max(rounds, default=0.0),
            "samples": len(self.total.latencies),
        }

    @property
    def per_million(self) -> float:
        failed = self.total.failures.total()
        return failed / max(1, self.total.requests) * 1e6


def rows(run: Run) -> Iterator[Row]:
    full = (run.driver, run.vendor) != PAIRS[1]
    steady = ["gunicorn sync", "gunicorn gthread", "uvicorn"] if full else ["gunicorn gthread"]
    if run.quick:
        steady = steady[-2:]
    for web_server in steady:
        names = list(CONFIGURATIONS) if web_server == "uvicorn" else WSGI
        if run.quick:
            names = [name for name in names if name in QUICK]
        # It has one more site, and its results vary less.
        rounds = run.rounds(4 if web_server == "uvicorn" else 5, 1)
        with sites(run, web_server, names) as started:
            with Admin(run.target) as admin:
                tallies = measure(started, rounds, 0.2 if run.quick else 0.7, admin=admin)
            yield from rows_of(run, web_server, tallies)
            yield run.row(
                f"{web_server}: connections open at the server",
                "connections, the most after a round",
                {name: count(tally.open) for name, tally in tallies.items()},
                transport="tcp",
                note="counted after each round, while no client asks"
                + (
                    "; Django advises against persistent connections under ASGI"
                    * (web_server == "uvicorn")
                ),
            )
            if web_server != "gunicorn gthread":
                continue
            with killing(run, started) as kills:
                tallies = measure(started, run.rounds(6, 1), 0.2 if run.quick else 0.6, kills)
            case = f"{web_server}, KILL every {KILL_EVERY * 1e3:.0f} ms"
            yield from rows_of(run, case, tallies)
        if web_server == "gunicorn gthread":
            with (
                own_server(run, wait_timeout=SHORT) as short,
                sites(short, web_server, names) as started,
            ):
                # While the others get requests, each site is idle for longer than wait_timeout.
                seconds = (SHORT + 0.6) / (len(names) - 1)
                tallies = measure(started, run.rounds(7, 2), seconds)
                yield from rows_of(run, f"{web_server}, bursts, wait_timeout {SHORT} s", tallies)


def measure(
    started: list[Site],
    rounds: int,
    seconds: float,
    kills: dict[str, int] | None = None,
    admin: Admin | None = None,
) -> dict[str, Tally]:
    """Send requests to each site for some seconds, `rounds` times, in the same order in each round."""
    tallies = {site.name: Tally() for site in started}
    clients = {site.name: Clients(site.port, CLIENTS) for site in started}
    try:
        # Not counted, because the first requests import what the view needs and open connections.
        for site in started:
            clients[site.name].burst(min(seconds, 0.3))
        for _ in range(rounds):
            for site in started:
                if kills is not None:
                    kills["now"] = started.index(site) + 1
                before = dict(kills or {})
                tallies[site.name].add(clients[site.name].burst(seconds))
                if kills is not None:
                    tallies[site.name].kills += kills[site.database] - before[site.database]
                if admin is not None:
                    open_now = len(admin.sessions(site.database))
                    tallies[site.name].open = max(tallies[site.name].open, open_now)
    finally:
        for one in clients.values():
            one.__exit__()
    return tallies


def percentile(ordered: list[float], share: float) -> float:
    """The percentile in milliseconds. `ordered` has seconds."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


def rows_of(run: Run, case: str, tallies: dict[str, Tally]) -> Iterator[Row]:
    """Rows: requests per second, their times, and those that failed."""
    ratio = ratio_of(tallies[OURS_PERSISTENT].rates, tallies[STOCK_PERSISTENT].rates)
    busy = max(t.total.busy / t.total.seconds for t in tallies.values())
    yield run.row(
        f"{case}: requests",
        "requests per second",
        {name: summary(tally.rates) for name, tally in tallies.items()},
        transport="tcp",
        ratio=ratio,
        note=f"{CLIENTS} clients; the load generator took at most {busy:.0%} of one of the cores, "
        "which the database server, the web server and it share; the ratio is ours to stock, both "
        "persistent: more is better",
    )
    for what, share in (("median", 0.5), ("99th percentile", 0.99)):
        yield run.row(
            f"{case}: time of a request, {what}",
            "ms",
            {name: tally.time(share) for name, tally in tallies.items()},
            transport="tcp",
            note="of all requests that succeeded; low and high: the least and the greatest round",
        )
    yield run.row(
        f"{case}: requests that failed",
        "per million requests",
        {name: count(tally.per_million) for name, tally in tallies.items()},
        transport="tcp",
        note="; ".join(f"{name}: {_failures(tally)}" for name, tally in tallies.items()),
    )


def _failures(tally: Tally) -> str:
    failures = tally.total.failures
    kinds = ", ".join(f"{number} {kind}" for kind, number in failures.most_common())
    killed = f", {tally.kills} kills" if tally.kills else ""
    return f"{failures.total()} of {tally.total.requests}{f' ({kinds})' if kinds else ''}{killed}"


@contextmanager
def killing(run: Run, started: list[Site]) -> Iterator[dict[str, int]]:
    """Kill a random connection of the site that gets requests, again and again.

    Gives the number of kills for each database. The key "now" names the site that gets requests.
    """
    kills: dict[str, Any] = {site.database: 0 for site in started} | {"now": 0}
    over = threading.Event()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            with Admin(run.target) as admin:
                while not over.wait(random.uniform(0, 2 * KILL_EVERY)):
                    if not kills["now"]:
                        continue
                    database = started[kills["now"] - 1].database
                    if sessions := admin.sessions(database):
                        admin.kill(random.choice(sessions))
                        kills[database] += 1
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="administrator")
    thread.start()
    try:
        yield kills
    finally:
        over.set()
        thread.join()
    if failed:
        raise failed[0]


if __name__ == "__main__":
    main(NAME, rows)
