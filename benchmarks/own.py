"""A server that belongs to one measure, which stops it, kills it or gives it options."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from servers import Server

from .measure import Run, make_table


@contextmanager
def own_server(run: Run, **options: Any) -> Iterator[Run]:
    """The same run on another server of the same vendor, which is the new run's `target`."""
    with Server(run.vendor, max_connections=1000, **options) as server:
        other = Run(
            run.measure,
            run.driver,
            server,
            server_pid=server.pid,
            transports=run.transports,
            quick=run.quick,
        )
        make_table(other)
        try:
            yield other
        finally:
            other.close()
