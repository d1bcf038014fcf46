"""Measure 3: the liveness check compared with ping(), and the effect of distance on both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .delayproxy import delayed
from .measure import OURS, STOCK, Run, main
from .rows import Row, Summary, count, ratio_of, summary
from .statement import after_a_pause
from .timing import alternate, timed

NAME = "liveness"
TITLE = "The liveness check against ping()"
TIME_LIMIT = 60.0

#: Milliseconds that the proxy adds to a round trip, half of it in each direction.
DELAYS = (1, 20)


def rows(run: Run) -> Iterator[Row]:
    with run.pinned() as placement:
        for transport in run.transports:
            wrapper = run.wrapper(OURS, transport)
            wrapper.ensure_connection()
            samples = alternate(
                {
                    "check": timed(wrapper.guard.connection.peer_closed, 2000),
                    "ping": timed(_ping(run, wrapper), 50),
                },
                run.rounds(100),
            )
            yield run.row(
                "liveness check and ping",
                "us",
                {name: summary(values) for name, values in samples.items()},
                transport=transport,
                ratio=ratio_of(samples["check"], samples["ping"]),
                budget=None,
                note=f"ratio: check by ping; {placement}",
            )
            wrapper.close()
    if "tcp" in run.transports:
        yield from _over_distance(run)


def _over_distance(run: Run) -> Iterator[Row]:
    """The same through a proxy. The number of round trips is computed from two distances."""
    medians: dict[str, dict[int, Summary]] = {}
    for milliseconds in DELAYS:
        with delayed(run.target.host, run.target.port, milliseconds / 1000) as via:
            stock = run.wrapper(STOCK, via=via, CONN_HEALTH_CHECKS=True)
            ours = run.wrapper(OURS, via=via)
            for wrapper in (stock, ours):
                wrapper.ensure_connection()
            calls: dict[str, Callable[[], object]] = {
                "liveness check": ours.guard.connection.peer_closed,
                "ping()": _ping(run, ours),
                "first statement of a request, ours": _first_statement(ours),
                "first statement of a request, stock with health checks": _first_statement(stock),
            }
            with after_a_pause(run, ours):
                samples = alternate(
                    {name: timed(call, 1, scale=1000) for name, call in calls.items()},
                    run.rounds(30),
                )
            for name, values in samples.items():
                medians.setdefault(name, {})[milliseconds] = summary(values)
            for wrapper in (stock, ours):
                wrapper.close()
    near, far = DELAYS
    for name, by_delay in medians.items():
        grown = by_delay[far]["median"] - by_delay[near]["median"]
        trips = grown / (far - near)
        yield run.row(
            name,
            "ms",
            {
                **{f"{delay} ms away": values for delay, values in by_delay.items()},
                "round trips": count(round(trips, 2)),
            },
            transport="tcp",
            budget=_ROUND_TRIPS.get(name),
            budget_of="round trips",
            note="through a proxy that adds half of the delay in each direction; round trips:"
            f" what the time grows by, divided by the {far - near} ms that the path grows by",
        )


# A statement is one round trip; a clock that is read twice is not exact.
_ROUND_TRIPS = {"liveness check": 0.05, "first statement of a request, ours": 1.05}


def _ping(run: Run, wrapper: Any) -> Callable[[], object]:
    if run.driver == "pymysql":
        return lambda: wrapper.connection.ping(reconnect=False)
    return lambda: wrapper.connection.ping()


def _first_statement(wrapper: Any) -> Callable[[], object]:
    def call() -> None:
        # What request_started does, for this connection alone.
        wrapper.close_if_unusable_or_obsolete()
        wrapper.health_check_done = False
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchall()

    return call


if __name__ == "__main__":
    main(NAME, rows)
