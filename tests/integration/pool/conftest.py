"""Connections whose alias has a pool, and threads that borrow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ..connections import ConnectionFactory

#: `pooled(options=..., max_size=1, CONN_MAX_AGE=...)`: see the fixture.
Pooled = Callable[..., Any]


@pytest.fixture
def pooled(make_connection: ConnectionFactory) -> Iterator[Pooled]:
    """`pooled(engine=..., options=..., recycle=..., NAME=..., **pool settings)`: with a pool.

    Upper-case arguments are settings of the alias.
    """
    made: list[Any] = []

    def make(*, options: dict[str, Any] | None = None, **given: Any) -> Any:
        ours = {"engine", "recycle", "via", "server", "transport"}
        settings = {k: v for k, v in given.items() if k.isupper() or k in ours}
        pool = {k: v for k, v in given.items() if k not in settings}
        connection = make_connection(options={**(options or {}), "pool": pool or True}, **settings)
        made.append(connection)
        return connection

    yield make
    for connection in made:
        connection.close()
        connection.close_pool()
