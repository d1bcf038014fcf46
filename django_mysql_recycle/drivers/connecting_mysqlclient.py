"""mysqlclient's connection while it is being opened: what follows the login has a deadline."""

from __future__ import annotations

from typing import Any

from MySQLdb import OperationalError, _mysql
from MySQLdb.connections import Connection

from ..liveness import clock, wait_until_readable

__all__ = ["Connecting"]

#: The C library bounds the login by itself, read by read, and may return late. Each statement
#: that follows has at least so many seconds.
_LEAST = 1.0


class _AfterLogin(_mysql.connection):
    """Stands between the driver's class and the C extension, for what the former calls there."""

    # The driver's own, whose stubs are without types.
    character_set_name: Any
    fileno: Any
    get_autocommit: Any
    read_query_result: Any
    send_query: Any
    store_result: Any

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
    it would wait without end. Once the connection is open, `finish` makes it the driver's own
    class again.
    """

    deadline: float
    #: The user's own limit for each read, which the library keeps to.
    read_timeout: float | None = None

    @classmethod
    def make(cls, params: dict[str, Any], deadline: float) -> Connecting:
        connection = cls.__new__(cls)
        connection.deadline = deadline
        connection.read_timeout = params.get("read_timeout")
        connection.__init__(**params)  # type: ignore[misc]
        return connection

    def finish(self) -> None:
        """Leave the connection to the driver."""
        self.__class__ = Connection  # type: ignore[assignment]
        self.__dict__.pop("deadline", None)
        self.__dict__.pop("read_timeout", None)

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
