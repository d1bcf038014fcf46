"""What a statement does to the session, in words: one line for each claim.

`+` begins a pin, `++` begins it so that no release is known to be the last one, `-` ends one, `--`
ends every one of the kind, `~` gives it another name, `!` begins what is not known before it runs;
`?` is a read.
"""

from __future__ import annotations

from typing import Any

from django_mysql_recycle.session_state import USUAL, Kind, Reading, examine
from django_mysql_recycle.session_state.statements import Action

from ..rows import each

SIGNS = {"begin": "+", "end": "-", "end_all": "--", "rename": "~", "run": "!"}


def effects(sql: str, reading: Reading = USUAL) -> list[str]:
    """The changes and reads of a text, in words."""
    statement = examine(sql, reading)
    found = []
    for change in statement.changes:
        if change.action is Action.ASK:
            continue  # see test_server_is_asked_for_the_locks_whose_fate_no_answer_shows
        name = change.name
        if change.placeholder is not None:
            name = f"%{change.placeholder}"
        if change.inputs is not None:
            name = f"<{name}>"
        sign = (
            "++"
            if change.uncounted and (change.action, change.kind) == (Action.BEGIN, Kind.NAMED_LOCK)
            else SIGNS[change.action.value]
        )
        found.append(f"{sign}{change.kind.value.label} {name}".rstrip())
    return found + [f"?{read}" for read in statement.reads]


def claims(table: dict[str, tuple[str, ...]]) -> Any:
    """A statement, and what it does, for each name of a claim."""
    return each((sql, expected) for sql, *expected in table.values())


CHARACTER_SETS = [
    "+session variable character_set_client",
    "+session variable character_set_results",
    "+session variable character_set_connection",
    "+session variable collation_connection",
]
