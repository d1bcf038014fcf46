"""What reaches the server: its general log, which is switched on only while statements are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple


class Command(NamedTuple):
    kind: str  #: Connect, Query, Ping, Quit, ...
    text: str


@contextmanager
def logged(ask: Callable[..., list[tuple[Any, ...]]]) -> Iterator[Callable[[], list[Command]]]:
    """Gives a function that returns what clients have sent since its last call.

    `ask` runs a statement on an administrator's connection, whose own commands are not counted.
    """
    ask("SET GLOBAL log_output = 'TABLE'")
    ask("SET GLOBAL general_log = ON")

    def commands() -> list[Command]:
        found = ask(
            "SELECT command_type, CONVERT(argument USING utf8mb4) FROM mysql.general_log"
            " WHERE thread_id <> CONNECTION_ID() ORDER BY event_time"
        )
        ask("TRUNCATE TABLE mysql.general_log")
        return [Command(str(kind), str(text)) for kind, text in found]

    commands()
    try:
        yield commands
    finally:
        ask("SET GLOBAL general_log = OFF")
        ask("TRUNCATE TABLE mysql.general_log")
        ask("SET GLOBAL log_output = 'FILE'")


def statements(commands: list[Command]) -> list[str]:
    """The commands that are round trips: all except connecting and disconnecting."""
    return [
        command.text if command.kind == "Query" else command.kind
        for command in commands
        if command.kind not in ("Connect", "Quit")
    ]
