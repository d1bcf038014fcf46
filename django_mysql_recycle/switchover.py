"""What the guard does on a node that refuses to write: wait until a node of the alias takes writes.

The waiting belongs to an episode of the alias in this process (failover.py), not to a statement:
it begins with the first refusal, all threads share its deadline, and one of them asks for all.
"""

from __future__ import annotations

from dataclasses import replace
from time import sleep
from typing import TYPE_CHECKING, Any

from . import events, failover, pooling, questions
from .connection import PhysicalConnection
from .liveness import clock

if TYPE_CHECKING:
    from .guard import Guard

__all__ = ["REPEATED", "find_writer", "is_to_be_left", "node_takes_writes", "refused", "wait"]

#: Refusals of a read-only node, or of one outside its cluster, that come before a statement has done
#: anything: 1290 about --read-only, ER_READ_ONLY_MODE, ER_INNODB_READ_ONLY, ER_UNKNOWN_COM_ERROR.
REPEATED = frozenset({1290, 1836, 1874, 1047})
#: These mark a node as well, but may come out of a commit that other members have applied. 1792 is
#: in neither: the session may be read-only by the user's own wish.
_MARKING = REPEATED | {1180, 3032, 3100, 3101}

#: Seconds between two looks of a thread that waits while another one asks.
_TURN = 0.05
#: Seconds for one probe after the time of the episode is over.
_PROBE = 1.0


def refused(guard: Guard, connection: PhysicalConnection, code: int | None) -> None:
    """A statement was refused: an episode begins, unless there is one already."""
    timeout = connection.options.failover_timeout
    if connection.wrong_node and timeout is not None and code in _MARKING:
        failover.of(guard.wrapper().alias).begin(clock(), timeout)


def is_to_be_left(guard: Guard, connection: PhysicalConnection) -> bool:
    """Whether a connection to a wrong node is to be replaced at the next safe point.

    While there may be no better node it stays, for reads go on there.
    """
    state = failover.of(guard.wrapper().alias)
    no_episode = connection.options.failover_timeout is None or state.episode is None
    return no_episode or state.has_writer_since(connection.refused_at)


def wait(guard: Guard, connection: PhysicalConnection) -> None:
    """Before something that is to write on a wrong node: wait for what is left of the episode."""
    if failover.of(guard.wrapper().alias).episode is not None:
        find_writer(guard, connection)


def find_writer(guard: Guard, connection: PhysicalConnection) -> bool:
    """Wait until another node takes writes, at most to the end of the episode.

    Returns whether one does: then this connection is to be replaced. False: the time is over, or
    the node says itself that it takes writes, and the refusal was something else.
    """
    timeout = connection.options.failover_timeout
    if timeout is None:
        return False
    alias = guard.wrapper().alias
    state = failover.of(alias)
    if state.has_writer_since(connection.refused_at):
        return True
    now = clock()
    episode = state.begin(now, timeout)
    is_over = now >= episode.deadline
    if is_over and not state.claim(episode, now):
        return False
    own = questions.takes_writes(connection) if connection.usable else False
    if own or (own is None and connection.usable):
        if own:
            connection.mark_right_node()
        state.no_refusal(episode, clock(), takes_writes=bool(own))
        return False
    if state.confirm(episode, clock()):
        pooling.suspect(alias)
    if is_over:
        return _probe(guard, state, episode, _PROBE)
    while state.episode is episode:
        now = clock()
        if now >= episode.deadline:
            if state.is_first_to_say(episode):
                events.no_writer(alias, timeout)
            return False
        if state.claim(episode, now):
            if _probe(guard, state, episode, episode.deadline - now):
                return True
        else:
            sleep(max(0.0, min(_TURN, episode.deadline - now)))
    return state.has_writer_since(connection.refused_at)


def _probe(guard: Guard, state: failover.Alias, episode: failover.Episode, seconds: float) -> bool:
    found = False
    try:
        found = _another_takes_writes(guard, seconds)
    finally:
        state.probed(episode, clock(), found)
    if found:
        pooling.suspect(guard.wrapper().alias)
    return found


def _another_takes_writes(guard: Guard, seconds: float) -> bool:
    """Open a connection beside the one in use, and ask its node."""
    wrapper: Any = guard.wrapper()
    try:
        params = wrapper.get_connection_params()
        limit = params.get("connect_timeout") or seconds
        params["connect_timeout"] = max(1, round(min(limit, seconds)))
        guard.probing = True
        raw = type(wrapper).get_new_connection(wrapper, params)
    except Exception:
        return False  # no server is there yet
    finally:
        guard.probing = False
    options = guard.options()
    limit = max(1.0, seconds)
    options = replace(options, ping_timeout=min(options.ping_timeout or limit, limit))
    connection = PhysicalConnection(guard.driver, raw, options)
    try:
        return questions.takes_writes(connection) is True
    finally:
        connection.close()


def node_takes_writes(guard: Guard) -> bool:
    """Whether the node in use, which has refused a write, says itself that it takes writes."""
    connection = guard.connection
    if not connection.usable or not connection.wrong_node:
        return False
    takes = questions.takes_writes(connection) is True
    if takes:
        connection.mark_right_node()
    return takes
