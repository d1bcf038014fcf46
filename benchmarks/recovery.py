"""Measure 5: the time from a dead connection to a row that has been read.

Connections of both backends are opened side by side and lost together, and then each runs a
statement. The stock backend raises an error, and raises it again at each statement. So what is
timed there is close() and the same statement again, which its user has to write. A server that was
restarted gets the statement as soon as it accepts clients again. On the unresponsive network all
settings are the defaults, and the wait is observed for 34 s, on MariaDB only, because no server is
involved. Not measured is keepalive, which ends such a connection while it is not used.
"""

from __future__ import annotations

import select
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from servers import FaultProxy, Server

from .admin import Admin, wait_for
from .measure import OURS, STOCK, Run, main
from .outage import Asking, ready_again
from .own import own_server
from .rows import Row, ratio_of, summary
from .silent import Unresponsive

NAME = "recovery"
TITLE = "From a dead connection to a row"
TIME_LIMIT = 120
QUICK_TIME_LIMIT = 60

#: close() and the same statement are timed, because the stock backend fails until then.
AFTER_CLOSE = "stock, error until close()"
CLOSING = "stock, close() after each error"


class Pairs:
    """Connections of both backends, one of each at a time, over one transport."""

    def __init__(self, run: Run, transport: str, number: int, **settings: Any) -> None:
        self.run = run
        self.transport = transport
        self.pairs = [
            (run.wrapper(STOCK, transport, **settings), run.wrapper(OURS, transport, **settings))
            for _ in range(number)
        ]
        for wrapper in self.wrappers():
            ask(wrapper)

    def wrappers(self) -> list[Any]:
        return [wrapper for pair in self.pairs for wrapper in pair]

    def measure(self, case: str) -> Row:
        """Run a statement on each of them. All of them have been closed by the other end."""
        for wrapper in self.wrappers():
            await_hang_up(wrapper)
        times: dict[str, list[float]] = {AFTER_CLOSE: [], "ours": []}
        first: Counter[str] = Counter()
        second: Counter[str] = Counter()
        for counted in (first, second):
            counted.update(outcome(stock) for stock, _ in self.pairs)
        for number, (stock, ours) in enumerate(self.pairs):
            for wrapper in (stock, ours) if number % 2 else (ours, stock):
                began = time.perf_counter()
                if wrapper is stock:
                    stock.close()
                ask(wrapper)
                elapsed = (time.perf_counter() - began) * 1000
                times["ours" if wrapper is ours else AFTER_CLOSE].append(elapsed)
        for wrapper in self.wrappers():
            wrapper.close()
        return self.run.row(
            case,
            "ms",
            {name: summary(samples) for name, samples in times.items()},
            transport=self.transport,
            ratio=ratio_of(times["ours"], times[AFTER_CLOSE]),
            note=f"stock without close(): {_counted(first)}, asked once more: {_counted(second)}; "
            "stays broken",
        )


def rows(run: Run) -> Iterator[Row]:
    # It waits for most of its time, so it runs in the background.
    network = Unresponsive(run) if run.vendor == "mariadb" else None
    try:
        for transport in run.transports:
            yield from _hang_ups(run, transport)
        yield from _outages(run)
        if network is not None:
            yield from network.rows()
    finally:
        if network is not None:
            network.end()


def _hang_ups(run: Run, transport: str) -> Iterator[Row]:
    number = run.rounds(20)
    limit = {"init_command": "SET SESSION wait_timeout = 1"}
    idle = Pairs(run, transport, number, options=run.options(transport) | limit)
    yield idle.measure("idle past wait_timeout")
    killed = Pairs(run, transport, number)
    with Admin(run.target) as admin:
        for wrapper in killed.wrappers():
            admin.kill(wrapper.connection.thread_id())
    yield killed.measure("KILL")
    if transport == "socket":
        return
    for how, case in (("fin", "proxy closes"), ("rst", "proxy resets")):
        with FaultProxy(run.target.host, run.target.port) as proxy:
            cut = Pairs(run, transport, number, via=(proxy.host, proxy.port))
            proxy.cut("fin" if how == "fin" else "rst")
            yield cut.measure(f"{case} (both connect through it)")


def _outages(run: Run) -> Iterator[Row]:
    with own_server(run) as other:
        assert isinstance(other.target, Server)
        yield from _outage(other, "restart", other.target.stop)
        yield from _outage(other, "crash (SIGKILL) and start", other.target.kill)


def _outage(run: Run, case: str, end: Callable[[], None]) -> Iterator[Row]:
    server = run.target
    assert isinstance(server, Server)
    waited: dict[str, list[float]] = {CLOSING: [], "ours": []}
    errors: dict[str, Counter[str]] = {name: Counter() for name in waited}
    for turn in range(1 if run.quick else 3):
        last = turn == (0 if run.quick else 2)
        idle = [Pairs(run, transport, run.rounds(10)) for transport in run.transports * last]
        asking = [
            Asking(name, lambda: run.wrapper(STOCK), close=True)
            if name != "ours"
            else Asking(name, lambda: run.wrapper(OURS), close=False)
            for name in waited
        ]
        try:
            for one in asking:
                one.start()
            end()
            for one in asking:
                one.outage()
            ready = ready_again(server)
            for one in asking:
                # The greeting is looked for every 2 ms.
                waited[one.name].append(max(0.0, one.answered() - ready) * 1000)
                errors[one.name] += one.errors
        finally:
            for one in asking:
                one.end()
        for pairs in idle:
            yield pairs.measure(case)
    yield run.row(
        f"{case}, asked all the while",
        "ms",
        {name: summary(samples) for name, samples in waited.items()},
        transport="tcp",
        note="from the server's greeting on; ours waits a moment before it tries to connect again "
        "(connect_retries), stock is asked every 5 ms; errors until then: "
        + "; ".join(f"{name}: {_counted(counted)}" for name, counted in errors.items()),
    )


def ask(wrapper: Any) -> str:
    """One row."""
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT name FROM benchmarks_item WHERE id = %s", [1])
        return str(cursor.fetchone()[0])


def outcome(wrapper: Any) -> str:
    from django.db.utils import Error

    try:
        ask(wrapper)
    except Error as error:
        return f"error {error.args[0]}"
    return "a row"


def descriptor(wrapper: Any) -> int:
    driver = wrapper.connection
    return int(driver._sock.fileno() if hasattr(driver, "_sock") else driver.fileno())


def await_hang_up(wrapper: Any) -> None:
    """Return when this end can notice that the other end has closed."""
    poll = select.poll()
    poll.register(descriptor(wrapper), select.POLLIN | select.POLLRDHUP)
    wait_for(lambda: poll.poll(0), "the hang-up")


def _counted(counted: Counter[str]) -> str:
    return ", ".join(f"{number} x {what}" for what, number in counted.most_common()) or "none"


if __name__ == "__main__":
    main(NAME, rows)
