"""The account of one connection: which session state it has, and since when."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from .kinds import Boundary, Kind
from .meaning import judge_inner
from .statements import NEXT_ACCESS_MODE, NEXT_ISOLATION, Action, Change, Key, Statement, begins_of

__all__ = ["SessionState"]

_SHOWN = 5
_LONGEST_NAME = 80

#: What COMMIT and ROLLBACK end, whether a transaction was open or not.
_TRANSACTION = (Kind.TRANSACTION, "")
_MODES = ((Kind.SESSION_VARIABLE, NEXT_ISOLATION), (Kind.SESSION_VARIABLE, NEXT_ACCESS_MODE))

#: While it is not known which one is selected.
_DATABASE = (Kind.DEFAULT_DATABASE, "")

_UNKNOWN = Change(Action.BEGIN, Kind.UNKNOWN)

#: Locks whose names are parameters that are not known.
_UNNAMED_LOCK = (Kind.NAMED_LOCK, "")

#: Beyond so many the others of a kind are one pin without a name: names must not pile up.
_MOST_PINS = 1000
#: Locks that one question to the server is about.
_MOST_ASKED = 100


@dataclass(slots=True)
class Pin:
    """One piece of session state that a connection has."""

    kind: Kind
    name: str  #: for a message
    since: float
    asked: str = ""  #: the name of a lock as SQL, to ask for it
    database: str | None = None  #: the one in use when it began, as far as it is known
    count: int = 1
    uncounted: bool = False  #: no END is known to be the last
    doubtful: bool = False  #: only the server knows whether it has ended
    then: tuple[Change, ...] = ()  #: what begins when the prepared statement runs

    def sentence(self, now: float) -> str:
        counted = self.count > 1 and not self.uncounted
        times = f" {self.count} times, first" if counted else ""
        seconds = max(0, round(now - self.since))
        return f"{self.kind.value.sentence.format(name=self.name)}{times} {seconds} s ago"


def _labels(pins: Iterable[Pin]) -> tuple[str, ...]:
    """Their kinds, each once, as signals, the log and the counters name them."""
    return tuple(dict.fromkeys(pin.kind.value.label for pin in pins))


def _key_of(change: Change, args: object) -> Hashable:
    """What makes two changes speak of the same thing."""
    if change.placeholder is not None:
        value = _value_of(args, change.placeholder)
        return (change.kind, change.name if value is None else value)
    if change.inputs is not None:
        values = tuple(_value_of(args, parameter) for parameter in change.inputs)
        return (change.kind, change.name, values)
    return (change.kind, change.name)


def _shown_name(change: Change, args: object) -> str:
    if change.hidden:
        return "..."
    name = change.name
    if change.placeholder is not None:
        name = _value_of(args, change.placeholder) or "%s"
    if len(name) > _LONGEST_NAME:
        name = name[:_LONGEST_NAME] + "..."
    return repr(name) if change.kind is Kind.NAMED_LOCK and change.inputs is None else name


def _question_of(change: Change, args: object) -> str:
    """The name of a lock as SQL, to ask the server for it; empty if it is not known."""
    if change.inputs is None:
        name = change.name
        if change.placeholder is not None:
            name = _value_of(args, change.placeholder) or ""
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


def _value_of(args: object, parameter: int | str) -> str | None:
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


class SessionState:
    """The pins of one physical connection.

    ``now`` is a reading of one clock in seconds, the caller's choice.
    """

    __slots__ = ("_hidden_use", "_pins", "_written", "careful", "database", "doubtful", "pinned")

    def __init__(self, database: str | None = None) -> None:
        #: The default database that the last USE has selected; ``None``: as each connection is
        #: opened with. It does not pin, because the next connection can select it, too.
        self.database = database
        self._pins: dict[Hashable, Pin] = {}  # in the order in which they began
        #: Whether a new connection would lack something. Like the next two it is kept and not
        #: computed: it is asked for at each statement.
        self.pinned = False
        #: An ordinary statement may matter: it belongs to a transaction by SQL, or the server has
        #: to be asked before it.
        self.careful = False
        #: There is a lock of which only the server knows whether it is held.
        self.doubtful = False
        self._written = False  # in the open transaction; meaningless without one
        self._hidden_use = False  # a statement that is not known may have been USE

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {', '.join(self.kinds()) or 'not pinned'}>"

    def copy(self) -> SessionState:
        """The same, and independent from now on. What `hold` returned releases it in both."""
        other = SessionState(self.database)
        other._pins = {key: replace(pin) for key, pin in self._pins.items()}
        other._written, other._hidden_use = self._written, self._hidden_use
        other._changed()
        return other

    def apply(self, statement: Statement, args: object, now: float) -> None:
        """The statement succeeded."""
        for change in statement.changes:
            self._apply(change, args, now)
        if statement.lone_lock_call:
            self._doubt(releases=False)  # its answer is not known
        if statement.calls:
            self._doubt(releases=True)  # a routine can release a lock, too

    def _apply(self, change: Change, args: object, now: float) -> None:
        if change.action is Action.END_ALL:
            self._end_all(change.kind)
        elif change.action is Action.ASK:
            self._doubt(releases=change.uncounted)
        elif change.action is not Action.END:
            self._begin(change, args, now)
        elif not change.uncounted:
            key = _key_of(change, args)
            if change.kind is Kind.NAMED_LOCK and key not in self._pins:
                self._doubt(releases=True)  # perhaps one that was named otherwise
            self._end(key)

    def apply_begins(
        self, statement: Statement, args: object, now: float, *, many: bool = False
    ) -> None:
        """The statement failed, and the connection is alive.

        Of several statements the first ones may have run. A single one has changed nothing, but
        what its expressions did on the way stays: INSERT ... SELECT GET_LOCK('a', 1) that ends in
        a duplicate key holds the lock (seen on MariaDB 10.11 and MySQL 9.7).

        ``many``: it ran once or more, with rows of parameters that are not known here.
        """
        whole = statement.single and not statement.calls and not many
        lone = bool(statement.lone_lock_call) and not many
        for change in begins_of(statement.changes[lone:]):
            if change.action is Action.ASK:
                self._doubt(releases=change.uncounted)
            elif not whole or change.kind.value.in_expressions:
                if many:
                    change = replace(change, uncounted=True)
                self._begin(change, None if many else args, now, certain=False)

    def answer(self, statement: Statement, args: object, value: object, now: float) -> None:
        """Instead of `apply` where the answer of the statement's lone lock call is known.

        Only 1 means that the lock was taken or freed. 0 and NULL mean that a lock to be freed was
        not held, which is all that ends one of which it is not known how often it was taken.
        """
        lock, *others = statement.changes
        number = _number(value)
        if lock.action is Action.END_ALL or (lock.action is Action.BEGIN and number == 1):
            self._apply(lock, args, now)
        elif lock.action is Action.END and lock.uncounted:
            self._doubt(releases=True)
        elif lock.action is Action.END:
            key = _key_of(lock, args)
            if number == 1 and key not in self._pins:
                self._doubt(releases=True)  # one that was named otherwise
            elif number == 1:
                self._end(key)
            elif (value is None or number == 0) and key != _UNNAMED_LOCK:
                self._keep(lambda other, pin: other != key or not pin.uncounted)
        for change in others:
            self._apply(change, args, now)

    def locks_to_ask_for(self) -> dict[Hashable, str]:
        """The locks of which only the server knows whether they are held: their names as SQL."""
        asked = {key: pin.asked for key, pin in self._pins.items() if pin.doubtful}
        return dict(list(asked.items())[:_MOST_ASKED])

    def locks_answered(self, held: Mapping[Hashable, bool | None]) -> None:
        """The server's answer; None: there is none, and a lock counts as held."""
        for key in held.keys() & self._pins.keys():
            self._pins[key].doubtful = False
        self._keep(lambda key, _: held.get(key) is not False)

    def _doubt(self, *, releases: bool) -> None:
        """Only the server knows whether the locks are held. `releases`: nor is it known how often."""
        for pin in self._pins.values():
            if self._can_ask_for(pin):
                pin.doubtful = True
                pin.uncounted |= releases
        self._changed()

    def _can_ask_for(self, pin: Pin) -> bool:
        # An expression may contain DATABASE().
        return bool(pin.asked) and pin.database == self.database and not self.database_unknown

    def transaction_ended(self) -> None:
        """Django's own commit() or rollback()."""
        self._written = False
        self._end_all(Kind.TRANSACTION)
        self._end_modes()

    def autocommit_seen(self, off_by_sql: bool, now: float) -> None:
        """Whether the connection has autocommit off although Django left it on."""
        if off_by_sql:
            self._begin(Change(Action.BEGIN, Kind.AUTOCOMMIT_OFF), None, now)
        else:
            self._written = False
            self._end_all(Kind.AUTOCOMMIT_OFF)

    def hold(self, reason: str, now: float, token: object = None) -> object:
        """A pin for what no text shows; ends with `release` of what is returned.

        ``token``: what it returned for another account of the same connection.
        """
        token = token or object()
        name = "" if reason in ("", Kind.BY_HAND.value.label) else f" ({reason})"
        self._pins[token] = Pin(Kind.BY_HAND, name, now)
        self._changed()
        return token

    def release(self, token: object) -> None:
        """Does nothing for a pin of another connection, or one already released."""
        self._end(token)

    def end_unit_of_work(self) -> None:
        """Variables stop pinning; all else pins until it ends or the connection is closed."""
        self._keep(lambda _, pin: pin.kind.value.boundary is not Boundary.FORGOTTEN)

    def written(self) -> None:
        """A statement has run that may have written."""
        self._written = self.in_transaction

    @property
    def unknown_only(self) -> bool:
        """There is only what a statement may have left that this backend does not know."""
        return self.pinned and all(pin.kind is Kind.UNKNOWN for pin in self._pins.values())

    @property
    def in_transaction(self) -> bool:
        """SQL has begun a transaction, or switched autocommit off."""
        return bool(self._at_boundary(Boundary.ROLLED_BACK))

    @property
    def uncommitted(self) -> bool:
        """A transaction that SQL began is open, and may have written something."""
        return self._written and self.in_transaction

    @property
    def held(self) -> tuple[str, ...]:
        """The kinds for which the connection is kept open past its max age.

        Not with an open transaction: a COMMIT that was forgotten would make all the statements
        that follow part of it.
        """
        if self.in_transaction:
            return ()
        return _labels(self._at_boundary(Boundary.KEPT))

    def _at_boundary(self, boundary: Boundary) -> list[Pin]:
        return [pin for pin in self._pins.values() if pin.kind.value.boundary is boundary]

    def has(self, kind: Kind) -> bool:
        """Whether there is any state of this kind."""
        return any(pin.kind is kind for pin in self._pins.values())

    @property
    def database_unknown(self) -> bool:
        """Another one may have been selected, by a statement that does not show it or may not have run."""
        return self._hidden_use or _DATABASE in self._pins

    def database_is(self, name: str | None) -> None:
        """What USE has selected, or what the server has answered: ``None`` is no database."""
        pin = self._pins.get(_DATABASE)
        # One that was dropped since is remembered: to select it again will fail, and say so.
        if name is None:
            name = (pin and pin.name) or self.database
        self.database = name
        self._hidden_use = False
        self._end_all(Kind.DEFAULT_DATABASE)

    def lost(self) -> SessionState:
        """What is left of it when the connection is lost and the loss reported."""
        return SessionState(None if self.database_unknown else self.database)

    def has_key(self, key: Key) -> bool:
        return key in self._pins

    @property
    def settable(self) -> frozenset[Hashable] | None:
        """The keys of all pins, if statements can set all of it again; else ``None``."""
        if any(not pin.kind.value.settable for pin in self._pins.values()):
            return None
        return frozenset(self._pins)

    def absorb(self, other: SessionState, keys: Collection[Key] | None = None) -> None:
        """Take over the pins of another connection, or those of them."""
        taken = {k: pin for k, pin in other._pins.items() if keys is None or k in keys}
        self._pins = {**taken, **self._pins}
        self._changed()

    def set_again(self, keys: Collection[Hashable]) -> None:
        """A statement has set or ended these, however they were before."""
        self._keep(lambda key, _: key not in keys)

    def another_database(self) -> None:
        """The names of tables mean others from now on."""
        self._forget_name()

    def kinds(self) -> tuple[str, ...]:
        """The labels of the kinds, each once, in the order in which they began."""
        return _labels(self._pins.values())

    def describe(self, now: float) -> str:
        """For a message: what there is and since when. Names of variables, never values."""
        order = list(Kind)
        pins = sorted(self._pins.values(), key=lambda pin: order.index(pin.kind))
        shown = [pin.sentence(now) for pin in pins[:_SHOWN]]
        if len(pins) > _SHOWN:
            shown.append(f"and {len(pins) - _SHOWN} more")
        return ", ".join(shown)

    def after_loss(self) -> str:
        """For a message: what the application can do once this state is lost."""
        present = {pin.kind for pin in self._pins.values()}
        return " ".join(dict.fromkeys(kind.value.after_loss for kind in Kind if kind in present))

    def _begin(self, change: Change, args: object, now: float, *, certain: bool = True) -> None:
        key = _key_of(change, args)
        pin = self._pins.get(key)
        if change.action is Action.RENAME:
            self._forget_name(change.name)
            return
        if change.action is Action.RUN:
            for begun in self._begun_by(change, args, pin, certain):
                if begun.action is Action.ASK:
                    self._doubt(releases=True)
                else:
                    self._begin(begun, None, now, certain=certain)
            return
        if change.kind is Kind.DEFAULT_DATABASE:
            self._forget_name()
            # The drivers replace %% and parameters only where there are arguments.
            certain = (
                certain and not change.uncounted and not ("%" in change.name and args is not None)
            )
            if certain:
                self.database_is(change.name)
                return
            key = _DATABASE
        if pin is None and change.kind.value.in_expressions and len(self._pins) >= _MOST_PINS:
            change = Change(Action.BEGIN, change.kind, hidden=True, uncounted=True)
            key = _key_of(change, None)
            pin = self._pins.get(key)
        if change.kind is Kind.UNKNOWN:
            self._hidden_use = True  # MariaDB runs USE by EXECUTE, too
        if pin is None:
            asked = _question_of(change, args) if change.kind is Kind.NAMED_LOCK else ""
            pin = Pin(change.kind, _shown_name(change, args), now, asked, self.database)
            self._pins[key] = pin
            self._changed()
        elif change.kind is Kind.NAMED_LOCK:
            pin.count += 1  # GET_LOCK() as often, RELEASE_LOCK() as often
        if change.kind is Kind.NAMED_LOCK:
            pin.uncounted |= change.uncounted
        elif change.kind is Kind.PREPARED:
            # One of the same name replaces the earlier one, if it was made.
            then = [c for run in change.then for c in self._begun_by(run, args, None, certain)]
            pin.then = tuple(dict.fromkeys((*(() if certain else pin.then), *then)))

    def _begun_by(
        self, change: Change, args: object, prepared: Pin | None, certain: bool
    ) -> tuple[Change, ...]:
        """What begins when the text runs that a statement has prepared, or that a parameter is."""
        if change.action is not Action.RUN:
            return (change,)
        if change.kind is Kind.PREPARED and prepared is not None:
            return prepared.then
        if change.placeholder is not None:
            text = _value_of(args, change.placeholder)
            return (_UNKNOWN,) if text is None else judge_inner(text).changes
        # It was prepared where that was not seen, or it does not exist, or its verb is not known.
        return (_UNKNOWN,) if certain and not change.uncounted else ()

    def _forget_name(self, name: str = "") -> None:
        """From now on the same name, or any, is another table: no DROP shows which one it drops."""
        last = _last_part(name)
        self._pins = {
            object() if _is_table(key, last) else key: pin for key, pin in self._pins.items()
        }

    def _end(self, key: Hashable) -> None:
        if key == _TRANSACTION:
            self._written = False
            self._end_modes()
        pin = self._pins.get(key)
        if pin is None:
            return  # begun before it could be seen, or by another session: nothing to end
        if pin.uncounted:
            pin.doubtful |= self._can_ask_for(pin)
            self._changed()
            return
        pin.count -= 1
        if not pin.count:
            self.set_again((key,))

    def _end_modes(self) -> None:
        for mode in _MODES:
            self._end(mode)

    def _end_all(self, kind: Kind) -> None:
        self._keep(lambda _, pin: pin.kind is not kind)

    def _keep(self, wanted: Callable[[Hashable, Pin], bool]) -> None:
        if self._pins:
            self._pins = {key: pin for key, pin in self._pins.items() if wanted(key, pin)}
            self._changed()

    def _changed(self) -> None:
        pins = self._pins.values()
        self.pinned = bool(pins)
        self.doubtful = any(pin.doubtful for pin in pins)
        self.careful = self.pinned and (
            self.doubtful or self.database_unknown or self.in_transaction
        )


def _is_table(key: Hashable, last: str) -> bool:
    return (
        isinstance(key, tuple)
        and key[0] == Kind.TEMPORARY_TABLE
        and (not last or _last_part(key[1]) == last)
    )


def _last_part(name: str) -> str:
    """A table's name without its schema, as servers compare it that ignore case."""
    return name.rpartition(".")[2].lower()


def _number(value: object) -> int | None:
    try:
        return int(value)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError):
        return None
