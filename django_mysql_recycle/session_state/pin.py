"""One piece of session state that a connection carries: what it is, and how a message names it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

from .kinds import Kind
from .statements import (
    Change,
)

__all__ = ["Pin", "describe", "key_of", "labels", "pin_for", "value_of"]

_ORDER = {kind: place for place, kind in enumerate(Kind)}
_SHOWN = 5
_LONGEST_NAME = 80


class Pin:
    __slots__ = (
        *("asked", "count", "database", "doubtful", "kind", "name", "since", "then", "uncounted"),
    )

    def __init__(self, kind: Kind, name: str, since: float) -> None:
        self.kind = kind
        self.name = name
        self.since = since
        self.count = 1
        self.uncounted = False  #: no END is known to be the last
        self.doubtful = False  #: whether it has ended, only the server can tell
        self.asked = ""  #: the name of a lock as SQL, to ask for it
        self.database: str | None = None  #: the one in use when it began, as far as it is known
        self.then: tuple[Change, ...] = ()  #: what begins when the prepared statement runs


def pin_for(change: Change, args: object, now: float) -> Pin:
    pin = Pin(change.kind, _shown_name(change, args), now)
    if change.kind == Kind.NAMED_LOCK:
        pin.asked = question_of(change, args)
    return pin


def describe(pins: Iterable[Pin], now: float) -> str:
    """For a message: what is carried and since when. Names of variables, never values."""
    pins = sorted(pins, key=lambda pin: _ORDER[pin.kind])
    shown = [_sentence(pin, now) for pin in pins[:_SHOWN]]
    if len(pins) > _SHOWN:
        shown.append(f"and {len(pins) - _SHOWN} more")
    return ", ".join(shown)


def labels(pins: Iterable[Pin]) -> tuple[str, ...]:
    """Their kinds, each once, as signals, the log and the counters name them."""
    return tuple(dict.fromkeys(pin.kind.value.label for pin in pins))


def _sentence(pin: Pin, now: float) -> str:
    seconds = max(0, round(now - pin.since))
    counted = pin.count > 1 and not pin.uncounted
    times = f" {pin.count} times, first" if counted else ""
    return f"{pin.kind.value.sentence.format(name=pin.name)}{times} {seconds} s ago"


def key_of(change: Change, args: object) -> Hashable:
    """What makes two changes speak of the same thing."""
    if change.placeholder is not None:
        value = value_of(args, change.placeholder)
        return (change.kind, change.name if value is None else value)
    if change.inputs is not None:
        values = tuple(value_of(args, parameter) for parameter in change.inputs)
        return (change.kind, change.name, values)
    return (change.kind, change.name)


def _shown_name(change: Change, args: object) -> str:
    if change.hidden:
        return "..."
    name = change.name
    if change.placeholder is not None:
        name = value_of(args, change.placeholder) or "%s"
    if len(name) > _LONGEST_NAME:
        name = name[:_LONGEST_NAME] + "..."
    return repr(name) if change.kind == Kind.NAMED_LOCK and change.inputs is None else name


def question_of(change: Change, args: object) -> str:
    """The name of a lock as SQL, to ask the server for it; empty if that cannot be told."""
    if change.inputs is None:
        name = change.name
        if change.placeholder is not None:
            name = value_of(args, change.placeholder) or ""
        return _as_sql(name) if name else ""
    sql = ""
    for part in change.asked:
        if isinstance(part, str):
            sql += part
            continue
        value = _raw_value(args, part.key)
        # Of other types the drivers' literals are not like Python's.
        if not isinstance(value, (str, int)) or not str(value).isascii():
            return ""
        sql += _as_sql(str(value))
    return sql


def _as_sql(text: str) -> str:
    # In hexadecimal digits it is the same whatever the character set of the session.
    return f"CONVERT(X'{text.encode('utf-8', 'surrogateescape').hex()}' USING utf8mb4)"


def value_of(args: object, parameter: int | str) -> str | None:
    value = _raw_value(args, parameter)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "surrogateescape")
    return None if value is None else str(value)


def _raw_value(args: object, parameter: int | str) -> object:
    if isinstance(parameter, str):
        return args.get(parameter) if isinstance(args, Mapping) else None
    if isinstance(args, Sequence) and not isinstance(args, (str, bytes, bytearray)):
        return args[parameter] if parameter < len(args) else None
    return args if parameter == 0 else None  # the drivers take a single value too
