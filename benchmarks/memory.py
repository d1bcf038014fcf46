"""Measure 8: whether memory grows over a million statements and ten thousand recycles.

The statements run on a real server over its unix socket: autocommit, texts that are never the same
twice, transactions, named locks. The memory of the process, Python's objects, descriptors and
threads are sampled, and a line is fitted to the samples. The budget is set to find a leak: a few
bytes for each statement would exceed it. This is measured on MariaDB only, because what grows
would grow with either server.
"""

from __future__ import annotations

import gc
import os
import select
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from .admin import Admin
from .measure import OURS, Run, main
from .rows import Row, Summary, count

NAME = "memory"
TITLE = "Growth over a million statements and ten thousand recycles"
TIME_LIMIT = 300
QUICK_TIME_LIMIT = 60
#: What grows would grow on either server.
PAIRS = (("mysqlclient", "mariadb"), ("pymysql", "mariadb"))

#: Bytes for 100,000 statements, and for 1000 recycles: a fifth of a byte and 20 bytes for one.
BUDGET = 20_000

#: Samples, and those that are thrown away before.
STEPS = 20
WARM_UP = 4


class Sample(NamedTuple):
    done: int
    resident: int
    objects: int
    blocks: int
    descriptors: int
    threads: int


class Failed(Exception):
    """The memory, or something else, grows."""


def rows(run: Run) -> Iterator[Row]:
    with Admin(run.target) as admin:
        wrapper = run.wrapper(OURS, "socket")
        total = 10_000 if run.quick else 1_000_000
        unit = min(total, 100_000)
        yield from watch(run, "statements", partial(statements, wrapper), total, unit)
        for transport, full, quick, warm_up in (
            ("socket", 10_000, 200, WARM_UP),
            # Ten times as expensive. OpenSSL's memory grows for a thousand connections, with both
            # backends, and then stops growing.
            ("tls", 1000, 200, STEPS),
        ):
            if transport not in ("socket", *run.transports):
                continue
            several = [run.wrapper(OURS, transport) for _ in range(10)]
            yield from watch(
                run,
                "recycles after KILL",
                partial(recycles, several, admin),
                quick if run.quick else full,
                quick if run.quick else 1000,
                transport=transport,
                warm_up=WARM_UP if run.quick else warm_up,
            )
            for one in several:
                one.close()


def statements(wrapper: Any, first: int, last: int) -> None:
    """Run the statements with the numbers `first` to `last`, of every kind that the backend remembers."""
    from django.db import transaction

    number = first
    while number < last:
        for _ in range(8):
            with wrapper.cursor() as cursor:
                cursor.execute("DO 0")
        with wrapper.cursor() as cursor:
            cursor.execute(f"SELECT {number}, %s", [number])
            cursor.fetchall()
        number += 9
        if number % 5 == 0:
            with transaction.atomic(), wrapper.cursor() as cursor:
                cursor.execute("DO 1")
            number += 1
        if number % 7 == 0:
            with wrapper.cursor() as cursor:
                cursor.execute(f"SELECT GET_LOCK('bench{number}', 0)")
                cursor.execute(f"SELECT RELEASE_LOCK('bench{number}')")
            number += 2
        if number % 11 == 0:
            with wrapper.cursor() as cursor:
                cursor.execute(f"SET @bench{number} = 1")
            wrapper.close_if_unusable_or_obsolete()  # here a session variable stops pinning
            number += 1


def recycles(wrappers: list[Any], admin: Admin, first: int, last: int) -> None:
    """Kill each connection and run the next statement, for the numbers `first` to `last`."""
    for _ in range(first, last, len(wrappers)):
        before = []
        for wrapper in wrappers:
            wrapper.ensure_connection()
            before.append(wrapper.connection.thread_id())
            admin.kill(before[-1])
        for wrapper in wrappers:
            _await_hang_up(wrapper.connection)
        time.sleep(0.0015)  # within a millisecond of a statement the socket is not checked
        for wrapper, number in zip(wrappers, before, strict=True):
            with wrapper.cursor() as cursor:
                cursor.execute("DO 0")
            if wrapper.connection.thread_id() == number:
                raise Failed("the connection was not replaced")


def _await_hang_up(driver: Any) -> None:
    descriptor = driver._sock.fileno() if hasattr(driver, "_sock") else driver.fileno()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLRDHUP)
    if not poll.poll(10_000):
        raise Failed("KILL did not end the connection")


def watch(
    run: Run,
    name: str,
    act: Callable[[int, int], None],
    total: int,
    unit: int,
    *,
    transport: str = "socket",
    warm_up: int = WARM_UP,
) -> Iterator[Row]:
    """Do it `total` times, and report how much each `unit` of it grows."""
    step = total // STEPS
    # Made before, so that the measurement itself does not add memory.
    numbers = array("q", bytes(8 * len(Sample._fields) * (STEPS + 1)))
    for turn in range(warm_up + STEPS + 1):
        # What is allocated only once (caches, the interpreter's free lists) is no growth. So the
        # first samples are not counted.
        sample = _sample(max(0, turn - warm_up) * step)
        for number, value in enumerate(sample):
            numbers[max(0, turn - warm_up) * len(sample) + number] = value
        del sample, value
        if turn < warm_up + STEPS:
            act(turn * step, (turn + 1) * step)
    width = len(Sample._fields)
    samples = [Sample(*numbers[n * width : (n + 1) * width]) for n in range(STEPS + 1)]
    first, last = samples[0], samples[-1]
    growth = {
        "memory of the process": slope([(s.done / unit, s.resident) for s in samples]),
        "blocks": slope([(s.done / unit, s.blocks) for s in samples]),
        "objects": slope([(s.done / unit, s.objects) for s in samples]),
        "descriptors": count((last.descriptors - first.descriptors) * unit / total),
        "threads": count((last.threads - first.threads) * unit / total),
    }
    case = f"{total:,} {name}"
    memory = growth["memory of the process"]
    row = run.row(
        f"{case}: memory",
        f"bytes per {unit:,}",
        {"memory of the process": memory},
        transport=transport,
        budget=None if run.quick else BUDGET,
        budget_of="memory of the process",
        note=f"slope and its 95 % interval over {len(samples)} samples; from "
        f"{first.resident / 2**20:.1f} MiB to {last.resident / 2**20:.1f} MiB",
    )
    series = [[s.done, round(s.resident / 2**20, 3)] for s in samples]
    row["series"] = {f"MiB after {name}": series}
    yield row
    yield run.row(
        f"{case}: what Python and the kernel count",
        f"more per {unit:,}",
        {name: value for name, value in growth.items() if value is not memory},
        transport=transport,
        note=f"slopes with 95 % intervals; at the end {last.blocks} blocks of Python's allocator, "
        f"{last.objects} objects, {last.descriptors} descriptors, {last.threads} threads; the "
        "cache of judged statements is emptied whenever it is full, a sawtooth of some thousand; "
        f"taking a sample leaves a block, {STEPS} in all",
    )
    if run.quick:
        return
    if memory["low"] > BUDGET:
        raise Failed(f"{case}: grows by {memory['median']:.0f} bytes per {unit:,}")
    for what in ("objects", "blocks"):
        # The slope of a sawtooth is uncertain. Growth of one for each twenty counts.
        if growth[what]["low"] > unit / 20:
            raise Failed(f"{case}: {growth[what]['median']:.0f} more {what} per {unit:,}")
    if last.descriptors > first.descriptors or last.threads > first.threads:
        raise Failed(f"{case}: {first} became {last}")


def _sample(done: int) -> Sample:
    gc.collect()
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return Sample(
        done,
        pages * os.sysconf("SC_PAGE_SIZE"),
        len(gc.get_objects()),
        sys.getallocatedblocks(),
        len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        threading.active_count(),
    )


def slope(points: list[tuple[float, float]]) -> Summary:
    """The slope of the line of least squares, and its 95 % interval (two standard errors)."""
    size = len(points)
    mean_x = sum(x for x, _ in points) / size
    mean_y = sum(y for _, y in points) / size
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    value = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    rest = sum((y - mean_y - value * (x - mean_x)) ** 2 for x, y in points)
    reach = 2 * (rest / max(1, size - 2) / spread) ** 0.5
    return {"median": value, "low": value - reach, "high": value + reach, "samples": size}


if __name__ == "__main__":
    try:
        main(NAME, rows)
    except Failed as failure:
        sys.exit(str(failure))
