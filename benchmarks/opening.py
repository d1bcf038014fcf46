"""Measure 4: opening a connection: statements at the server, and time."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter, sleep
from typing import Any

from .admin import Admin
from .measure import OURS, STOCK, Run, main
from .rows import Row, count, difference_of, ratio_of, summary
from .serverlog import logged, statements
from .timing import Block, alternate

NAME = "opening"
TITLE = "Opening a connection"
TIME_LIMIT = 60.0


def rows(run: Run) -> Iterator[Row]:
    yield from _statements(run)
    with run.pinned() as placement:
        for transport, case, options in _ways(run):
            wrappers = {
                name: run.wrapper(engine, transport, options=options)
                for name, engine in (("stock", STOCK), ("ours", OURS))
            }
            blocks = {name: _connect(wrapper) for name, wrapper in wrappers.items()}
            # With the system's certificates a connect takes ten times as long.
            samples = alternate(blocks, run.rounds(40 if transport == "tls" else 100))
            yield run.row(
                case,
                "ms",
                {
                    "stock": summary(samples["stock"]),
                    "ours": summary(samples["ours"]),
                    "added": difference_of(samples["ours"], samples["stock"]),
                },
                transport=transport,
                ratio=ratio_of(samples["ours"], samples["stock"]),
                budget=1.05,
                note=placement,
            )


def _ways(run: Run) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Transport, case and the driver's options."""
    for transport in run.transports:
        if transport != "tls":
            yield transport, "time to connect", run.options(transport)
            continue
        yield transport, "time to connect, CA named", run.options("tls")
        if run.driver == "pymysql":
            yield transport, "time to connect, PyMySQL's default", {}
        else:
            yield transport, "time to connect, no CA named", {"ssl_mode": "REQUIRED"}


def _connect(wrapper: Any) -> Block:
    def block() -> float:
        began = perf_counter()
        wrapper.connect()
        milliseconds = (perf_counter() - began) * 1000
        wrapper.close()
        return milliseconds

    return block


def _statements(run: Run) -> Iterator[Row]:
    """Counted in the server's general log."""
    with Admin(run.target) as admin, logged(admin.rows) as commands:
        found: dict[str, dict[str, list[str]]] = {}
        for name, engine in (("stock", STOCK), ("ours", OURS)):
            wrapper = run.wrapper(engine, "socket")
            wrapper.connect()
            seen = {"connecting": statements(commands())}
            _select(wrapper)
            seen["the first statement"] = statements(commands())
            sleep(0.6)
            _select(wrapper)
            seen["the first statement after an idle time"] = statements(commands())
            sleep(0.6)
            _select(wrapper)
            seen["a statement after a later idle time"] = statements(commands())
            wrapper.close()
            commands()
            for case, sent in seen.items():
                found.setdefault(case, {})[name] = sent
    for case, by_engine in found.items():
        extra = [text for text in by_engine["ours"] if text not in by_engine["stock"]]
        once = case == "the first statement after an idle time"
        yield run.row(
            f"statements at the server: {case}",
            "statements",
            {name: count(len(texts)) for name, texts in by_engine.items()},
            transport="socket",
            # The read of the session's wait_timeout, once for each connection.
            budget=len(by_engine["stock"]) + once,
            budget_of="ours",
            note=f"ours also sends: {'; '.join(extra)}" if extra else "",
        )


def _select(wrapper: Any) -> None:
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchall()


if __name__ == "__main__":
    main(NAME, rows)
