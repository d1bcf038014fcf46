"""PyMySQL's connection while it is being opened: everything it waits for has one deadline."""

from __future__ import annotations

import socket
import traceback
from typing import Any

from pymysql import err
from pymysql.charset import charset_by_name
from pymysql.connections import Connection

from ..liveness import clock
from .direct import watched_connection
from .interface import Attempt, seconds_left

__all__ = ["Connecting"]

#: Seconds by which the deadline may be missed to spare system calls.
_NEGLIGIBLE = 0.05


class Connecting(Connection):
    """The driver's connection with a deadline for all of its reads and writes together.

    The driver's own timeouts are for each read, so that a server which sends one byte at a time
    never exceeds them. Once the connection is open, `finish` makes it one like the driver's own
    again.
    """

    deadline: float
    #: The server's status is that of an answer to a statement, and not of the login: what
    #: init_connect has done has been done by then.
    status_known = False
    # The driver's own, which its stubs leave out.
    _sock: Any
    _rfile: Any
    _current_timeout: float | None
    _read_timeout: float | None
    _write_timeout: float | None
    _force_close: Any
    _execute_command: Any
    _read_ok_packet: Any

    @classmethod
    def make(cls, params: dict[str, Any], deadline: float, _attempt: Attempt) -> Connecting:
        connection = cls(**{**params, "defer_connect": True})
        connection.deadline = deadline
        if not params.get("defer_connect"):
            connection.connect()
        return connection

    def finish(self) -> None:
        """Leave the connection to the driver, with the timeouts that the user has set."""
        self.__class__ = watched_connection(Connection)
        self.__dict__.pop("deadline", None)
        self.__dict__.pop("status_known", None)
        if self._sock is not None:
            self._sock.settimeout(self._read_timeout)
            self._current_timeout = self._read_timeout

    def connect(self, sock: Any = None) -> None:
        if sock is None and not self.unix_socket:
            try:
                sock = self._reach_host()
            except OSError as error:
                # What the driver makes of it.
                failure: Any = err.OperationalError(
                    2003, f"Can't connect to MySQL server on {self.host!r} ({error})"
                )
                failure.original_exception = error
                failure.traceback = traceback.format_exc()
                raise failure from error
            self.host_info = "socket %s:%d" % (self.host, self.port)  # noqa: UP031 - the driver's
        super().connect(sock)

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        # As the driver does it, except that it drops the answer, and with it the server's status.
        encoding = charset_by_name(charset).encoding  # before anything is sent: it may raise
        collating = f" COLLATE {collation}" if collation else ""
        self._execute_command(3, f"SET NAMES {charset}{collating}")  # COM_QUERY
        self._read_ok_packet()
        self.charset, self.encoding, self.collation = charset, encoding, collation
        self.status_known = True

    def _send_autocommit_mode(self) -> None:
        # By query(), where it is known that a statement is under way.
        self.query(f"SET AUTOCOMMIT = {int(bool(self.autocommit_mode))}")

    def _reach_host(self) -> socket.socket:
        """A TCP connection to one of the addresses of the host, as the driver would open it.

        The addresses share the time, so that one that does not answer leaves some for the others.
        Looking the name up is the system's matter: nothing can bound it here, and the time that
        it takes is not counted.
        """
        begun = clock()
        found = socket.getaddrinfo(self.host, self.port, 0, socket.SOCK_STREAM)
        self.deadline += clock() - begun
        for number, (family, kind, protocol, _, address) in enumerate(found):
            sock = None
            try:
                sock = socket.socket(family, kind, protocol)
                sock.settimeout(seconds_left(self.deadline) / (len(found) - number))
                if self.bind_address is not None:
                    sock.bind((self.bind_address, 0))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            except BaseException as error:
                if sock is not None:
                    sock.close()
                if not isinstance(error, OSError) or number == len(found) - 1:
                    raise
            else:
                return sock
        raise OSError("getaddrinfo returns an empty list")  # as socket.create_connection() does

    def _read_bytes(self, num_bytes: int) -> bytes:
        data = b""
        try:
            while len(data) < num_bytes:
                self._limit(self._read_timeout)
                # At most one read of the socket, of as much as there is. read1() alone would read
                # no more than it is asked for, and each packet in two parts.
                part = self._rfile.peek(1) and self._rfile.read1(num_bytes - len(data))
                if not part:
                    break
                data += part
        except OSError as error:
            self._force_close()
            raise err.OperationalError(
                2013, f"Lost connection to MySQL server during query ({error})"
            ) from error
        except BaseException:
            self._force_close()
            raise
        if len(data) < num_bytes:
            self._force_close()
            raise err.OperationalError(2013, "Lost connection to MySQL server during query")
        return data

    def _write_bytes(self, data: bytes) -> None:
        # The handshake of TLS comes right after one, and keeps to this timeout as a whole.
        try:
            self._limit(self._write_timeout)
            self._sock.sendall(data)
        except OSError as error:
            self._force_close()
            raise err.OperationalError(2006, f"MySQL server has gone away ({error!r})") from error

    def _limit(self, own: float | None) -> None:
        """Give the socket what is left of the time, or the user's own timeout if that is less."""
        left = self.deadline - clock()
        if left <= 0:
            raise TimeoutError("timed out")
        sock = self._sock
        if sock is None:
            raise ConnectionError("closed in the middle of connecting")  # by a signal handler
        wanted = left if own is None else min(left, own)
        has = sock.gettimeout()
        if has is None or not 0 <= has - wanted <= _NEGLIGIBLE:
            sock.settimeout(wanted)
