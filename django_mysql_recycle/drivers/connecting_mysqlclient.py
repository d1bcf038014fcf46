"""mysqlclient's connection while it is being opened: what follows the login has a deadline."""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from MySQLdb import Error, OperationalError, ProgrammingError, _mysql
from MySQLdb.connections import Connection

from ..liveness import clock, wait_until_readable
from .direct import watched_connection
from .interface import Attempt

__all__ = ["Connecting", "stop_reconnecting"]

#: The C library bounds the login by itself, read by read, and may return late. Each statement
#: that follows has at least so many seconds.
_LEAST = 1.0


def stop_reconnecting(connection: Any, source: str) -> None:
    """Switch off the library's reconnect, which `source` has switched on.

    The parameter of ping() is the one way that the driver has. A ping that is sent would wait
    without a bound, and would itself reconnect a connection that was lost just now. While an
    answer is unread the library takes the setting and refuses to send the ping.
    """
    connection.query("SELECT 1")
    try:
        for reconnect in (True, False):  # the driver passes on what it takes for a change
            _ping(connection, reconnect)
    except (TypeError, Warning) as error:
        raise ImproperlyConfigured(
            f"{source} sets 'reconnect', and this version of mysqlclient cannot switch it off "
            f"({error}). Remove the option: if the client library replaced a connection by itself, "
            "its transaction would be lost without an error."
        ) from error
    finally:
        connection.store_result()


def _ping(connection: Any, reconnect: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            connection.ping(reconnect)
        except ProgrammingError as error:
            if error.args[0] != 2014:
                raise


class _AfterLogin(_mysql.connection):
    """Stands between the driver's class and the C extension, for what the former calls there."""

    # The driver's own, whose stubs are without types.
    character_set_name: Any
    fileno: Any
    get_autocommit: Any
    read_query_result: Any
    send_query: Any
    store_result: Any

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logged_in = True
        if self.attempt.reconnecting:
            # Before anything is set up that a reconnect would lose.
            stop_reconnecting(self, self.attempt.reconnecting)
            self.attempt.switched_off = True

    def set_character_set(self: Any, charset: str) -> None:
        if self.character_set_name() == charset:
            # The library has logged in with it, and goes by it. SET NAMES is for the server.
            self.query(f"SET NAMES {charset}")
            self.store_result()
        else:
            self.query("DO 0")  # is the server still there?
            self.store_result()
            super().set_character_set(charset)


class Connecting(Connection, _AfterLogin):
    """The driver's connection with a deadline for what it sends after the login.

    The C library applies connect_timeout to the login alone: SET NAMES and the statements after
    it would wait without end. Once the connection is open, `finish` makes it one like the
    driver's own again.
    """

    deadline: float
    #: The library has a session. Before that its close() would crash the process.
    logged_in = False
    #: The user's own limit for each read, which the library keeps to.
    read_timeout: float | None = None
    attempt: Attempt

    @classmethod
    def make(cls, params: dict[str, Any], deadline: float, attempt: Attempt) -> Connecting:
        connection = cls.__new__(cls)
        connection.deadline = deadline
        connection.attempt = attempt
        connection.read_timeout = params.get("read_timeout")
        try:
            connection.__init__(**params)  # type: ignore[misc]
        except BaseException:
            # The traceback can keep it for long, and with it a session at the server.
            if connection.logged_in:
                with suppress(Error):
                    connection.close()  # type: ignore[no-untyped-call]
            raise
        return connection

    def finish(self) -> None:
        """Leave the connection to the driver, without a deadline."""
        self.__class__ = watched_connection(Connection)
        for name in ("attempt", "deadline", "logged_in", "read_timeout"):
            self.__dict__.pop(name, None)

    def query(self, query: Any) -> None:
        if type(self) is not Connecting:  # finished, and this method is still held
            Connection.query(self, query)
            return
        self.send_query(bytes(query) if isinstance(query, bytearray) else query)
        seconds = max(_LEAST, self.deadline - clock())
        if self.read_timeout:
            seconds = min(seconds, self.read_timeout)
        if not wait_until_readable(self.fileno(), seconds):
            raise OperationalError(
                2013, "Lost connection to server during query: no answer within connect_timeout"
            )
        self.read_query_result()

    def autocommit(self, on: Any) -> None:
        if self.get_autocommit() != bool(on):
            self.query(f"SET autocommit={int(bool(on))}")
            self.store_result()
