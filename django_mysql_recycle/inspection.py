"""What is known of a connection, for applications that watch it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.db.utils import DEFAULT_DB_ALIAS

from .guard import guard_of, wrapper_of
from .liveness import clock

__all__ = ["ConnectionInfo", "inspect_connection"]


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """A connection at one moment. Times are in seconds."""

    alias: str
    #: ``closed`` (there is none), ``open``, ``lost``, ``discarded`` (closed by this process without
    #: a command) or ``interrupted``, as far as is known without a look at the socket.
    condition: str
    reason: str = ""  #: why it cannot be used any more; empty if it can
    connection_id: int | None = None  #: at the server; None if there is no connection
    age: float | None = None  #: since it was opened
    idle: float | None = None  #: since it last exchanged data with the server
    #: The idle time at which it is replaced. None is no limit, or one that is not known yet: the
    #: server is asked after the first half second without a statement.
    idle_limit: float | None = None
    #: The age at which it is replaced, shortened by the jitter. None is no limit.
    max_age: float | None = None
    #: The kinds of session state that it has, such as ``named lock``.
    state: tuple[str, ...] = ()
    #: Whether it could be replaced now without losing anything.
    replaceable: bool = False


def inspect_connection(using: str | Any = DEFAULT_DB_ALIAS) -> ConnectionInfo | None:
    """What is known now of the connection of `using`, an alias of DATABASES or a connection.

    Sends nothing, looks at no socket, and opens nothing. Of an alias it is the connection of this
    thread. Call it in the thread that the connection belongs to.

    Returns None for a connection of another backend. Raises ConnectionDoesNotExist for an unknown
    alias.
    """
    wrapper = wrapper_of(using)
    guard = guard_of(wrapper)
    if guard is None:
        return None
    connection = guard.current()
    if connection is None:
        return ConnectionInfo(wrapper.alias, "closed")
    number = None
    with suppress(Exception):  # what a driver raises of a connection that is lost
        number = int(connection.raw.thread_id())
    now = clock()
    state = connection.ledger.pins.kinds()
    return ConnectionInfo(
        alias=wrapper.alias,
        condition=connection.condition.name.lower(),
        reason=connection.reason,
        connection_id=number,
        age=now - connection.opened_at,
        idle=now - connection.last_activity,
        idle_limit=connection.idle_limit,
        max_age=connection.max_age,
        state=state,
        replaceable=(
            guard.is_safe(connection) and not state and not connection.has_pending_result()
        ),
    )
