"""Measure 2: whole operations with the real driver and server, as ratio to the stock backend.

Both keep their connection (CONN_MAX_AGE = None). Every statement takes the dearer path, with a look
at the socket, as if it came more than a millisecond after the last one.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

from .measure import OURS, STOCK, Run, main
from .rows import Row, difference_of, ratio_of, summary
from .statement import after_a_pause
from .timing import alternate, timed

NAME = "operations"
TITLE = "Whole operations against the stock backend with persistent connections"
TIME_LIMIT = 60.0

TARGET = 1.01


def rows(run: Run) -> Iterator[Row]:
    calls = {
        "one ORM get": (_get(), 20),
        "one request with one query": (_request(), 20),
        "one atomic with two writes": (_writes(), 10),
    }
    with run.pinned() as told:
        for transport in run.transports:
            wrappers = {
                "stock": run.wrapper(STOCK, transport),
                "ours": run.wrapper(OURS, transport),
            }
            for wrapper in wrappers.values():
                wrapper.ensure_connection()
            with after_a_pause(run, wrappers["ours"]):
                for case, (call, number) in calls.items():
                    yield _compare(run, case, transport, wrappers, call, number, told)
            for wrapper in wrappers.values():
                wrapper.close()


def _compare(
    run: Run,
    case: str,
    transport: str,
    wrappers: dict[str, Any],
    call: Callable[[], object],
    number: int,
    told: str,
) -> Row:
    def prepare(wrapper: Any) -> Callable[[], None]:
        def use() -> None:
            run.use(wrapper)
            call()

        return use

    blocks = {
        name: timed(call, 3 if run.quick else number, prepare=prepare(wrapper))
        for name, wrapper in wrappers.items()
    }
    samples = alternate(blocks, run.rounds(200))
    added = difference_of(samples["ours"], samples["stock"])
    return run.row(
        case,
        "us",
        {"stock": summary(samples["stock"]), "ours": summary(samples["ours"]), "added": added},
        transport=transport,
        ratio=ratio_of(samples["ours"], samples["stock"]),
        budget=TARGET,
        note=told,
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


if __name__ == "__main__":
    main(NAME, rows)
