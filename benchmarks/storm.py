"""Measure 7: connections that were opened together and reach their max age together.

Threads run units of work, as requests do, every fifth of a second each. The server is asked how
many connections it has accepted so far. This is measured with mysqlclient on MariaDB only, because
the result depends on the backend's decisions and not on the driver.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from .admin import Admin
from .measure import OURS, STOCK, Run, main
from .rows import Row, Summary, count

NAME = "storm"
TITLE = "Connections that reach their max age together"
TIME_LIMIT = 120
QUICK_TIME_LIMIT = 45
#: The backend's decisions are measured, which are the same with each driver and server.
PAIRS = (("mysqlclient", "mariadb"),)

PERIOD = 0.2
BIN = 0.1

#: The engine and OPTIONS["recycle"].
VARIANTS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "stock": (STOCK, None),
    "ours, jitter 0": (OURS, {"jitter": 0}),
    "ours, jitter 5 % (default)": (OURS, {}),
    "ours, jitter 50 %": (OURS, {"jitter": 0.5}),
}


class Storm:
    """Threads, each with a connection. Records what the server counted and how long statements took."""

    def __init__(self, run: Run, name: str, size: int, max_age: float) -> None:
        self._run = run
        self._engine, recycle = VARIANTS[name]
        self._options = run.options("tcp") | ({} if recycle is None else {"recycle": recycle})
        self._max_age = max_age
        self._together = threading.Barrier(size + 1)
        self._over = threading.Event()
        self.latencies: list[float] = []
        self.counted: list[tuple[float, int]] = []
        self.errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._work) for _ in range(size)]

    def last(self, seconds: float) -> None:
        for thread in self._threads:
            thread.start()
        try:
            with Admin(self._run.target) as admin:
                self._together.wait(30)
                began = time.monotonic()
                while (now := time.monotonic() - began) < seconds:
                    self.counted.append((now, admin.connections_so_far()))
                    time.sleep(BIN / 3)
        finally:
            self._over.set()
            self._together.abort()
            for thread in self._threads:
                thread.join()
        if self.errors:
            raise self.errors[0]

    def _work(self) -> None:
        wrapper = self._run.wrapper(
            self._engine, "tcp", options=self._options, CONN_MAX_AGE=self._max_age
        )
        try:
            self._together.wait(30)
            self._unit_of_work(wrapper)
            # Not at the same time as the others.
            self._over.wait(random.uniform(0, PERIOD))
            while not self._over.wait(PERIOD):
                began = time.perf_counter()
                self._unit_of_work(wrapper)
                self.latencies.append(time.perf_counter() - began)
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            self.errors.append(error)
        finally:
            wrapper.close()
            # The run closes it again, from its own thread.
            wrapper.inc_thread_sharing()

    def _unit_of_work(self, wrapper: Any) -> None:
        wrapper.close_if_unusable_or_obsolete()
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchall()
        wrapper.close_if_unusable_or_obsolete()


def bins_of(counted: list[tuple[float, int]], width: float) -> list[tuple[float, float]]:
    """The increase in each bin, by the end of the bin. `counted` has totals at certain times."""
    bins = []
    before, end = float(counted[0][1]), width
    for (t0, n0), (t1, n1) in pairwise(counted):
        while t0 <= end < t1:
            now = n0 + (n1 - n0) * (end - t0) / (t1 - t0)
            bins.append((round(end, 3), now - before))
            before, end = now, end + width
    return bins


def rows(run: Run) -> Iterator[Row]:
    size, max_age = (20, 1.0) if run.quick else (200, 6.0)
    most: dict[str, Summary] = {}
    times: dict[str, Summary] = {}
    series: dict[str, list[list[float]]] = {}
    for name in VARIANTS:
        storm = Storm(run, name, size, max_age)
        storm.last(max_age * 2.3)
        bins = bins_of(storm.counted, BIN)
        # All of them were opened at once, too, which no setting can spread.
        most[name] = count(round(max(number for end, number in bins if end > max_age / 4)))
        ordered = sorted(storm.latencies)
        times[name] = {
            "median": ordered[len(ordered) * 99 // 100] * 1000,
            "low": ordered[len(ordered) // 2] * 1000,
            "high": ordered[-1] * 1000,
            "samples": len(ordered),
        }
        series[name] = [[end, round(number / BIN, 1)] for end, number in bins]
    case = f"{size} connections opened together, CONN_MAX_AGE {max_age:g} s"
    row = run.row(
        f"{case}: the most connects in {BIN * 1000:.0f} ms",
        "connects",
        most,
        transport="tcp",
        note="as the server counts them, over two lives of the connections, their opening "
        "excluded; jitter is a share of CONN_MAX_AGE, so that an hour is spread over 600 times "
        "as long as this; the series is in connects per second",
    )
    row["series"] = series
    yield row
    yield run.row(
        f"{case}: time of a unit of work with one statement",
        "ms",
        times,
        transport="tcp",
        note="99th percentile; low: median; high: the longest; "
        f"{size} threads of one Python process, {PERIOD:g} s between two statements of each",
    )


if __name__ == "__main__":
    main(NAME, rows)
