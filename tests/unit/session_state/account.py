"""The account of a connection, as tests use it."""

from __future__ import annotations

from collections.abc import Mapping

from django_mysql_recycle.session_state import Kind, SessionState, examine


def run(state: SessionState, *texts: str, args: object = None, now: float = 0.0) -> SessionState:
    for sql in texts:
        state.apply(examine(sql), args, now)
    return state


def names(state: SessionState) -> list[str]:
    """Those of the locks for which the server is to be asked."""
    return [key[1] for key in state.locks_to_ask_for()]  # type: ignore[index]


def server_says(state: SessionState, held: Mapping[str, bool | None]) -> None:
    """What the server answers."""
    state.locks_answered({(Kind.NAMED_LOCK, name): is_held for name, is_held in held.items()})


def answer(state: SessionState, sql: str, value: object, args: object = None) -> bool:
    state.answer(examine(sql), args, value, 0.0)
    return state.pinned
