"""The account of one connection: which session state it carries, since when."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from copy import copy

from .statements import (
    AUTOCOMMIT_OFF,
    BEGIN,
    BY_HAND,
    DEFAULT_DATABASE,
    END,
    HANDLER,
    NAMED_LOCK,
    PREPARED,
    SESSION_VARIABLE,
    TABLE_LOCK,
    TEMPORARY_TABLE,
    TRANSACTION,
    USER_VARIABLE,
    Change,
    Statement,
)

__all__ = ["SessionState"]

#: What the application sets anew in each unit of work, if it needs it.
_UNTIL_THE_UNIT_ENDS = (SESSION_VARIABLE, USER_VARIABLE)

_IN_EXPRESSIONS = (NAMED_LOCK, USER_VARIABLE)

#: Also the order in which a message tells them: first what others wait for.
_SENTENCES = {
    NAMED_LOCK: "named lock {name} taken",
    TABLE_LOCK: "table lock ({name}) taken",
    TRANSACTION: "transaction begun by SQL",
    AUTOCOMMIT_OFF: "autocommit switched off",
    TEMPORARY_TABLE: "temporary table `{name}` created",
    BY_HAND: "pinned by hand{name}",
    PREPARED: "prepared statement `{name}` made",
    HANDLER: "handler `{name}` opened",
    SESSION_VARIABLE: "session variable {name} set",
    USER_VARIABLE: "user variable @{name} used",
}
_ORDER = {kind: place for place, kind in enumerate(_SENTENCES)}
_SHOWN = 5
_LONGEST_NAME = 80


class _Pin:
    __slots__ = ("count", "kind", "name", "since")

    def __init__(self, kind: str, name: str, since: float) -> None:
        self.kind = kind
        self.name = name
        self.since = since
        self.count = 1


class SessionState:
    """The pins of one physical connection.

    ``now`` is a reading of one clock in seconds, the caller's choice.
    """

    __slots__ = ("_pins", "pinned")

    def __init__(self) -> None:
        self._pins: dict[Hashable, _Pin] = {}  # in the order in which they began
        #: Whether a new connection would lack something. Kept, not computed: asked at each
        #: statement.
        self.pinned = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {', '.join(self.kinds()) or 'not pinned'}>"

    def copy(self) -> SessionState:
        """The same, and independent from now on. What `hold` returned releases it in both."""
        other = SessionState()
        other._pins = {key: copy(pin) for key, pin in self._pins.items()}
        other.pinned = self.pinned
        return other

    def apply(self, statement: Statement, args: object, now: float) -> None:
        """The statement succeeded."""
        for change in statement.changes:
            if change.action == BEGIN:
                self._begin(change, args, now)
            elif change.action == END:
                self._end(_key(change, args))
            else:
                self._end_all(change.kind)

    def apply_begins(self, statement: Statement, args: object, now: float) -> None:
        """The statement failed, and the connection is alive.

        Of several statements the first ones may have run. A single one has changed nothing, but
        what its expressions did on the way stays: INSERT ... SELECT GET_LOCK('a', 1) that ends in
        a duplicate key holds the lock (seen on MariaDB 10.11 and MySQL 9.7).
        """
        if statement.lone_lock_call:
            return
        whole = statement.single and not statement.calls
        for change in statement.changes:
            if change.action == BEGIN and not (whole and change.kind not in _IN_EXPRESSIONS):
                self._begin(change, args, now)

    def answer(self, statement: Statement, args: object, value: object, now: float) -> None:
        """Instead of `apply` where the answer of the statement's lone lock call is known.

        Only 1 means that the lock was taken or freed; with 0 and NULL nothing has changed.
        """
        function = statement.lone_lock_call
        if function == "RELEASE_ALL_LOCKS" or (function == "GET_LOCK" and _is_one(value)):
            self.apply(statement, args, now)
        elif function == "RELEASE_LOCK" and _is_one(value):
            self._end(self._as_held(_key(statement.changes[0], args)))

    def transaction_ended(self) -> None:
        """Django's own commit() or rollback()."""
        self._end_all(TRANSACTION)

    def autocommit_seen(self, off_by_sql: bool, now: float) -> None:
        """Whether the connection has autocommit off although Django left it on."""
        if off_by_sql:
            self._begin(Change(BEGIN, AUTOCOMMIT_OFF), None, now)
        else:
            self._end_all(AUTOCOMMIT_OFF)

    def hold(self, reason: str, now: float) -> object:
        """A pin for what no text shows; ends with `release` of what is returned."""
        token = object()
        name = "" if reason in ("", BY_HAND) else f" ({reason})"
        self._pins[token] = _Pin(BY_HAND, name, now)
        self.pinned = True
        return token

    def release(self, token: object) -> None:
        """Does nothing for a pin of another connection, or one already released."""
        self._end(token)

    def end_unit_of_work(self) -> None:
        """Variables stop pinning; all else pins until it ends or the connection is closed."""
        for kind in _UNTIL_THE_UNIT_ENDS:
            self._end_all(kind)

    def kinds(self) -> tuple[str, ...]:
        """The kinds of state carried, each once, in the order in which they began."""
        return tuple(dict.fromkeys(pin.kind for pin in self._pins.values()))

    def describe(self, now: float) -> str:
        """For a message: what is carried and since when. Names of variables, never values."""
        pins = sorted(self._pins.values(), key=lambda pin: _ORDER[pin.kind])
        shown = [_sentence(pin, now) for pin in pins[:_SHOWN]]
        if len(pins) > _SHOWN:
            shown.append(f"and {len(pins) - _SHOWN} more")
        return ", ".join(shown)

    def _begin(self, change: Change, args: object, now: float) -> None:
        key = _key(change, args)
        pin = self._pins.get(key)
        if change.name == DEFAULT_DATABASE:
            # From now on the same name is another table: no DROP tells these apart.
            self._pins = {
                object() if held.kind == TEMPORARY_TABLE else name: held
                for name, held in self._pins.items()
            }
        if pin is None:
            self._pins[key] = _Pin(change.kind, _shown_name(change, args), now)
            self.pinned = True
        elif change.kind == NAMED_LOCK:
            pin.count += 1  # GET_LOCK() as often, RELEASE_LOCK() as often

    def _end(self, key: Hashable) -> None:
        pin = self._pins.get(key)
        if pin is None:
            return  # begun before it could be seen, or by another session: nothing to end
        pin.count -= 1
        if not pin.count:
            del self._pins[key]
            self.pinned = bool(self._pins)

    def _as_held(self, key: Hashable) -> Hashable:
        """The key of a lock known to have been held, in the case in which it was taken.

        MySQL 9.7 ignores case in the names of locks, MariaDB 10.11 does not. Without such
        proof, what is written differently is another lock.
        """
        if key in self._pins:
            return key
        lower = str(key).lower()
        return next((held for held in self._pins if str(held).lower() == lower), key)

    def _end_all(self, kind: str) -> None:
        if self._pins:
            self._pins = {key: pin for key, pin in self._pins.items() if pin.kind != kind}
            self.pinned = bool(self._pins)


def _sentence(pin: _Pin, now: float) -> str:
    seconds = max(0, round(now - pin.since))
    times = f" {pin.count} times, first" if pin.count > 1 else ""
    return f"{_SENTENCES[pin.kind].format(name=pin.name)}{times} {seconds} s ago"


def _key(change: Change, args: object) -> Hashable:
    """What makes two changes speak of the same thing."""
    if change.placeholder is not None:
        value = _value(args, change.placeholder)
        return (change.kind, change.name if value is None else value)
    if change.inputs is not None:
        values = tuple(_value(args, parameter) for parameter in change.inputs)
        return (change.kind, change.name, values)
    return (change.kind, change.name)


def _shown_name(change: Change, args: object) -> str:
    name = change.name
    if change.placeholder is not None:
        name = _value(args, change.placeholder) or "%s"
    if len(name) > _LONGEST_NAME:
        name = name[:_LONGEST_NAME] + "..."
    return repr(name) if change.kind == NAMED_LOCK and change.inputs is None else name


def _value(args: object, parameter: int | str) -> str | None:
    """A parameter as the server sees it; ``None`` if there is no such parameter."""
    value: object = None
    if isinstance(parameter, str):
        if isinstance(args, Mapping):
            value = args.get(parameter)
    elif isinstance(args, Sequence) and not isinstance(args, (str, bytes, bytearray)):
        value = args[parameter] if parameter < len(args) else None
    elif parameter == 0:
        value = args  # the drivers take a single value too
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "surrogateescape")
    return None if value is None else str(value)


def _is_one(value: object) -> bool:
    try:
        return int(value) == 1  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError):
        return False
