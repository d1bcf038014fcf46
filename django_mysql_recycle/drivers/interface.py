"""What the backend asks of a driver beyond PEP 249."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from traceback import walk_tb
from types import CodeType, ModuleType
from typing import Any, Protocol

from ..liveness import clock
from .exchange import Exchange

__all__ = [
    "Attempt",
    "Common",
    "Driver",
    "DriverConnection",
    "Origin",
    "code_objects",
    "only_value",
    "seconds_left",
]


class Origin(Enum):
    """Where a database error comes from, as far as the driver says."""

    SERVER = auto()  #: an error packet, the answer to what was sent
    SENDING = auto()  #: the driver could not send all of it
    CLIENT = auto()  #: the driver itself, anywhere else
    UNKNOWN = auto()


class Attempt:
    """One try to connect: the driver needs nothing done before or after it."""

    #: What has switched the library's reconnect on, so that it has to be switched off.
    reconnecting: str = ""
    #: That has been done, right after the login.
    switched_off = False

    def succeeded(self, connection: Any) -> None:
        """Undo on the connection what was meant for connecting alone."""

    def is_to_blame(self, error: BaseException) -> bool:  # noqa: ARG002
        """Whether the try failed by what was spared: then another one goes without."""
        return False


class DriverConnection(Protocol):
    """What is used of a driver's connection object, or of a proxy in front of it."""

    encoding: str
    #: The class of the cursors that ``cursor()`` makes.
    cursorclass: Any
    ProgrammingError: type[Exception]

    def cursor(self) -> Any: ...
    def autocommit(self, on: bool) -> object: ...
    def commit(self) -> object: ...
    def rollback(self) -> object: ...
    def close(self) -> None: ...
    def thread_id(self) -> int: ...
    def get_server_info(self) -> str: ...

    def get_autocommit(self) -> bool:
        """By the server's status flags: no round trip."""


class Driver(Protocol):
    """The differences between mysqlclient and PyMySQL."""

    name: str
    #: The driver's exceptions: the base class of all, and two of them.
    error: type[Exception]
    operational_error: type[Exception]
    programming_error: type[Exception]
    #: It does not say whether a transaction is open, so that `Exchange.cursors` is counted.
    hides_transactions: bool
    #: The class of the driver's ordinary cursors.
    cursor: type
    #: The class of the driver's cursors that leave rows at the server until they are fetched.
    unbuffered: type
    #: The parameter ``autocommit`` with which connecting leaves it to a later autocommit(True).
    leaves_autocommit: bool | None

    def descriptor(self, connection: DriverConnection) -> int | None:
        """The socket's descriptor, or None if the driver holds no open one."""

    def distrust_autocommit(self, connection: DriverConnection) -> None:
        """Have the autocommit(True) to come rely on no flag from before init_connect ran."""

    def is_mariadb(self, connection: DriverConnection) -> bool:
        """By the server's greeting: no round trip."""

    def has_more_results(
        self, connection: DriverConnection, cursor: Any, *, doubtful: bool
    ) -> bool:
        """Whether further result sets are waiting. `doubtful`: the statement can have some."""

    def in_transaction(self, connection: DriverConnection) -> bool:
        """Whether the server says so, as far as the driver lets on. No round trip."""

    def escapes(self, connection: DriverConnection) -> bool:
        """Whether a backslash escapes in literals, by the server's status. No round trip."""

    def settings_of(self, connection: DriverConnection) -> tuple[object, ...]:
        """What the application may have changed on the driver's object, to be compared.

        The dicts in it are the driver's own.
        """

    def send(self, connection: DriverConnection, sql: bytes) -> None:
        """Send a statement of the backend's own and do not wait for the answer."""

    def receive(self, connection: DriverConnection) -> tuple[Any, ...]:
        """Read the answer to `send`: its rows."""

    def watch(self, connection: DriverConnection) -> Exchange:
        """Begin to watch whether a statement is under way on the connection.

        Its attribute ``query`` refuses a statement in the middle of another one.
        """

    def origin(self, error: BaseException) -> Origin:
        """Who has raised a database error, the driver's or Django's copy of it."""

    def has_answered(self, error: BaseException) -> bool:
        """Whether an exception that is not the database's came of a value that has been read.

        Nothing but further rows of an unbuffered result is under way then.
        """

    def discard(self, connection: DriverConnection) -> None:
        """Release a connection whose descriptor was detached or is lost, without a command."""

    def attempt(
        self, alias: str, params: dict[str, Any], seconds: float, *, spare: bool
    ) -> Attempt:
        """Make `params` bound greeting and authentication, too; `spare` what can be spared."""

    def takes(self, name: Any) -> bool:
        """Whether the installed version of the driver is known to have this argument."""

    def is_own(self, connect: Any) -> bool:
        """Whether this ``connect`` is the driver's own, which nothing has wrapped or replaced."""

    def asks_for_tls(self, params: Mapping[str, Any]) -> bool:
        """Whether these parameters want a connection that is encrypted, and no other."""

    def is_encrypted(self, connection: DriverConnection) -> bool:
        """Whether an open connection is. True where the object does not say. No round trip."""

    def open(self, params: dict[str, Any], deadline: float, attempt: Attempt) -> DriverConnection:
        """What the driver's ``connect(**params)`` gives, all of it within the deadline.

        The deadline goes on for what the connection is asked next, until `finish_opening`.
        """

    def hasten(self, connection: DriverConnection, deadline: float) -> None:
        """Give what a connection is asked next a deadline, if it is of the driver's own class."""

    def finish_opening(self, connection: DriverConnection) -> None:
        """End the deadline: from now on the connection is as the driver makes it."""


class Common:
    """What both drivers do alike."""

    #: The driver's connection class with a deadline, of drivers/connecting_*.py.
    _connecting: Any
    _converting: frozenset[CodeType]
    error: type[Exception]
    operational_error: type[Exception]
    programming_error: type[Exception]
    _reading: frozenset[CodeType] = frozenset()

    def _take_exceptions(self, module: Any) -> None:
        self.error = module.Error
        self.operational_error = module.OperationalError
        self.programming_error = module.ProgrammingError

    def is_mariadb(self, connection: Any) -> bool:
        return "mariadb" in str(connection.get_server_info()).lower()

    def origin(self, error: BaseException) -> Origin:  # noqa: ARG002
        return Origin.UNKNOWN

    def open(self, params: dict[str, Any], deadline: float, attempt: Attempt) -> Any:
        return self._connecting.make(params, deadline, attempt)

    def hasten(self, connection: Any, deadline: float) -> None:
        if type(connection) is self._connecting.__base__:
            connection.__class__ = self._connecting
            connection.deadline = deadline
        elif type(connection) is self._connecting:
            # PyMySQL's has added to it the time for looking the name up.
            connection.deadline = max(connection.deadline, deadline)

    def finish_opening(self, connection: Any) -> None:
        if type(connection) is self._connecting:
            connection.finish()

    def has_answered(self, error: BaseException) -> bool:
        """By the traceback: Django's own converter refuses a TIME beyond 24 hours, for one."""
        if not isinstance(error, (ValueError, TypeError, ArithmeticError)):
            return False
        codes = {frame.f_code for frame, _ in walk_tb(error.__traceback__)}
        return not codes.isdisjoint(self._converting) and codes.isdisjoint(self._reading)


def code_objects(owner: type | ModuleType, *names: str) -> frozenset[CodeType]:
    functions = (getattr(owner, name, None) for name in names)
    return frozenset(function.__code__ for function in functions if function is not None)


def seconds_left(deadline: float) -> float:
    """For a socket's timeout. Raises TimeoutError where there is nothing left."""
    left = deadline - clock()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def only_value(cursor: Any) -> Any:
    """The one value of a one-row result, left in place for the application; else ....

    `cursor` is one of the driver's that has read its rows.
    """
    rows = cursor.fetchall()
    if len(rows) != 1 or len(rows[0]) != 1:
        value = ...
    else:
        row = rows[0]
        value = next(iter(row.values())) if isinstance(row, dict) else row[0]
    if rows:
        cursor.scroll(0, "absolute")
    return value
