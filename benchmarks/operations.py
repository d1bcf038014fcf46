"""Measure 2: whole operations with the real driver and server, as a ratio to the stock backend.

Both backends keep their connection (CONN_MAX_AGE = None). Each operation is repeated as fast as
possible. The cases "after a pause" measure the more expensive path, with a check of the socket
before each statement outside a transaction, as if the statement came more than a millisecond after
the last one. Each backend runs in a separate process, their blocks alternate, and there are several
pairs of processes, because two processes that do the same differ by up to 1 % for as long as they
run.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from time import perf_counter, thread_time
from typing import Any

from .measure import OURS, STOCK, Run, main
from .rows import Row, difference_of, ratio_of, summary
from .statement import after_a_pause
from .timing import Block, alternate, timed
from .workers import Worker

NAME = "operations"
TITLE = "Whole operations against the stock backend with persistent connections"
TIME_LIMIT = 150.0

TARGET = 1.01

#: The names of the blocks that take the more expensive path, and that read the thread's CPU time.
PAUSE = ", after a pause"
CPU = ", CPU time"

#: Pairs of processes. Rounds and seconds of each, for the elapsed time and for the CPU time.
PROCESSES = 3
SPANS = (("", 80, 1.0), (CPU, 20, 0.4))


def rows(run: Run) -> Iterator[Row]:
    cases = [case + pause for pause in ("", PAUSE) for case in CASES]
    with run.pinned() as placement:
        for transport in run.transports:
            samples: dict[str, dict[str, list[float]]] = {
                case + kind: defaultdict(list) for case in cases for kind, _, _ in SPANS
            }
            for _ in range(1 if run.quick else PROCESSES):
                with (
                    Worker(partial(_blocks, run, STOCK, transport)) as stock,
                    Worker(partial(_blocks, run, OURS, transport)) as ours,
                ):
                    for case in cases:
                        for kind, rounds, seconds in SPANS:
                            name = case + kind
                            blocks: dict[str, Block] = {
                                "stock": stock.block(name),
                                "ours": ours.block(name),
                            }
                            found = alternate(blocks, run.rounds(rounds), seconds=seconds)
                            for side, values in found.items():
                                samples[name][side] += values
            for case in cases:
                yield _row(run, case, transport, samples[case], samples[case + CPU], placement)


def _blocks(run: Run, engine: str, transport: str) -> dict[str, Block]:
    """In a worker: the block for the name of a case."""
    wrapper = run.wrapper(engine, transport)
    run.use(wrapper)
    wrapper.ensure_connection()
    blocks: dict[str, Block] = {}
    for case, (make, number) in CASES.items():
        call = make()
        for pause in ("", PAUSE):
            situation = partial(after_a_pause, run, wrapper) if pause else nullcontext
            for kind, clock in (("", perf_counter), (CPU, thread_time)):
                block = timed(call, 3 if run.quick else number, clock=clock)
                blocks[case + pause + kind] = partial(_within, situation, block)
        for _ in range(3 if run.quick else 500):
            call()
    return blocks


def _within(situation: Callable[[], AbstractContextManager[None]], block: Block) -> float:
    with situation():
        return block()


def _row(
    run: Run,
    case: str,
    transport: str,
    wall: dict[str, list[float]],
    cpu: dict[str, list[float]],
    placement: str,
) -> Row:
    return run.row(
        case,
        "us",
        {
            "stock": summary(wall["stock"]),
            "ours": summary(wall["ours"]),
            "added": difference_of(wall["ours"], wall["stock"]),
            "added CPU time": difference_of(cpu["ours"], cpu["stock"]),
        },
        transport=transport,
        ratio=ratio_of(wall["ours"], wall["stock"]),
        budget=None if case.endswith(PAUSE) else TARGET,
        note=placement,
    )


def _get() -> Callable[[], object]:
    from .models import Item

    return lambda: Item.objects.get(pk=1)


def _writes() -> Callable[[], object]:
    from django.db import transaction
    from django.db.models import F

    from .models import Item

    def call() -> None:
        with transaction.atomic():
            Item.objects.filter(pk=1).update(value=F("value") + 1)
            Item.objects.filter(pk=1).update(value=F("value") - 1)

    return call


def _request() -> Callable[[], object]:
    """A request as a WSGI server makes it.

    Django's test client would disconnect close_old_connections, which is part of the cost.
    """
    from django.core.handlers.wsgi import WSGIHandler

    handler = WSGIHandler()
    statuses: list[str] = []

    def start_response(
        status: str, _headers: Any, _exc_info: Any = None
    ) -> Callable[[bytes], None]:
        statuses.append(status)
        return lambda _data: None

    def call() -> None:
        statuses.clear()
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/item/",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "wsgi.input": io.BytesIO(),
            "wsgi.url_scheme": "http",
        }
        response = handler(environ, start_response)
        body = b"".join(response)
        response.close()
        if statuses != ["200 OK"] or body != b"one":
            raise RuntimeError(f"the page answered {statuses} {body[:200]!r}")

    return call


#: What is done, and how often in a block.
CASES: dict[str, tuple[Callable[[], Callable[[], object]], int]] = {
    "one ORM get": (_get, 20),
    "one request with one query": (_request, 20),
    "one atomic with two writes": (_writes, 10),
}


if __name__ == "__main__":
    main(NAME, rows)
