"""PyMySQL."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from inspect import signature
from pathlib import Path
from traceback import walk_tb
from typing import Any

from ..errors import code_of
from .direct import watched_cursors
from .exchange import ANSWERED, Exchange, is_the_drivers, watch
from .interface import Attempt, Common, Origin, code_objects
from .tls import ContextKeeper

__all__ = ["PyMySQL"]

_AUTOCOMMIT = 2  # SERVER_STATUS_AUTOCOMMIT
_NO_BACKSLASH_ESCAPES = 0x200  # SERVER_STATUS_NO_BACKSLASH_ESCAPES


class PyMySQL(Common):
    name = "pymysql"
    hides_transactions = False
    # By itself it does not look at the flag in the answer to its SET NAMES (1.2.4); see
    # distrust_autocommit().
    leaves_autocommit: bool | None = None

    def __init__(self) -> None:
        self._take_exceptions(import_module("pymysql"))
        cursors = import_module("pymysql.cursors")
        self.cursor: type = cursors.Cursor
        self.unbuffered: type = cursors.SSCursor
        connections = import_module("pymysql.connections")
        # The rows of a buffered result are converted one by one, before the next one is read.
        self._converting = code_objects(connections.MySQLResult, "_read_row_from_packet")
        self._reading = code_objects(connections.MySQLResult, "_read_rowdata_packet")
        self._folder = str(Path(connections.__file__ or "").parent)
        self._answering = code_objects(import_module("pymysql.err"), "raise_mysql_exception")
        self._sending = code_objects(connections.Connection, "_write_bytes", "_execute_command")
        self._contexts = ContextKeeper()
        self._connecting = import_module(f"{__package__}.connecting_pymysql").Connecting

    def distrust_autocommit(self, connection: Any) -> None:
        if connection.autocommit_mode is None and not getattr(connection, "status_known", False):
            # Not known to be on: the flag is that of the login.
            connection.server_status &= ~_AUTOCOMMIT

    def descriptor(self, connection: Any) -> int | None:
        sock = connection._sock
        if sock is None:
            return None
        number = int(sock.fileno())
        return number if number >= 0 else None

    def has_more_results(
        self,
        connection: Any,
        cursor: Any,  # noqa: ARG002
        *,
        doubtful: bool,  # noqa: ARG002
    ) -> bool:
        result = connection._result
        return result is not None and bool(result.unbuffered_active or result.has_next)

    def in_transaction(self, connection: Any) -> bool:
        return bool(connection.server_status & 1)  # SERVER_STATUS_IN_TRANS

    def settings_of(self, connection: Any) -> tuple[object, ...]:
        return (
            connection.cursorclass,
            connection.encoding,
            connection.db,
            connection.decoders,
            connection.encoders,
        )

    def origin(self, error: BaseException) -> Origin:
        """By the traceback: one function raises what the server says, another one sends."""
        link: BaseException | None = error
        while link is not None:
            innermost = None
            for frame, _ in walk_tb(link.__traceback__):
                innermost = frame.f_code
            if innermost in self._answering:
                return Origin.SERVER
            if innermost in self._sending:
                return Origin.SENDING
            if link.__cause__ is None and innermost is not None:
                inside = innermost.co_filename.startswith(self._folder)
                return Origin.CLIENT if inside else Origin.UNKNOWN
            link = link.__cause__
        return Origin.UNKNOWN

    def escapes(self, connection: Any) -> bool:
        return not getattr(connection, "server_status", 0) & _NO_BACKSLASH_ESCAPES

    def send(self, connection: Any, sql: bytes) -> None:
        connection._execute_command(3, sql)  # COM_QUERY

    def receive(self, connection: Any) -> tuple[Any, ...]:
        connection._read_query_result()
        return tuple(connection._result.rows or ())

    def discard(self, connection: Any) -> None:
        connection._closed = True
        if connection._result is not None:
            # Its destructor would drain it through a socket that is no more.
            connection._result.unbuffered_active = False
        with suppress(Exception):
            connection._force_close()

    def watch(self, connection: Any) -> Exchange:
        return watch(connection, _put_attributes)

    def asks_for_tls(self, params: Mapping[str, Any]) -> bool:
        # The driver itself refuses to go on without TLS then.
        wanted = ("ssl", "ssl_ca", "ssl_cert", "ssl_key", "ssl_verify_cert", "ssl_verify_identity")
        return not params.get("ssl_disabled") and any(params.get(name) for name in wanted)

    def is_encrypted(self, connection: Any) -> bool:
        sock = getattr(connection, "_sock", None)
        return sock is None or isinstance(sock, ssl.SSLSocket)

    def takes(self, name: Any) -> bool:
        return name in signature(self._connecting.__base__.__init__).parameters

    def is_own(self, connect: Any) -> bool:
        return connect is self._connecting.__base__

    def attempt(
        self, alias: str, params: dict[str, Any], seconds: float, *, spare: bool
    ) -> Attempt:
        return _Attempt(self._contexts if spare else None, alias, params, seconds)


def _put_attributes(
    reference: Callable[[], Any], query: Callable[..., Any], exchange: Exchange
) -> None:
    owner = reference()
    errors = owner.Error

    def watched_query(sql: Any, unbuffered: bool = False) -> Any:
        connection = reference()
        if exchange.under_way:
            exchange.refuse_another(connection, sys._getframe(1))
        # What cannot be encoded, or is no text at all, is not sent.
        if isinstance(sql, str):
            sql = sql.encode(connection.encoding)
        elif not isinstance(sql, (bytes, bytearray)):
            sql = bytes(memoryview(sql))
        exchange.failed = False
        exchange.under_way = True
        try:
            result = query(connection, sql, unbuffered=unbuffered)
        except errors as error:
            if is_the_drivers(error):
                exchange.under_way, exchange.failed = False, True
            raise
        exchange.under_way = ANSWERED
        return result

    if type(owner).cursor is _own_cursor():
        owner.cursor = watched_cursors(reference, exchange)
    owner.query = watched_query


@cache
def _own_cursor() -> Any:
    return import_module("pymysql.connections").Connection.cursor


_TIMEOUTS = ("read_timeout", "write_timeout")


class _Attempt(Attempt):
    def __init__(
        self, contexts: ContextKeeper | None, alias: str, params: dict[str, Any], seconds: float
    ) -> None:
        # Its own connect_timeout ends with the TCP handshake. What is written until then finds
        # room in the socket's buffer: only the TLS handshake waits under write_timeout.
        bounds = ("read_timeout",) if params.get("ssl_disabled") else _TIMEOUTS
        self._own = {key: params.get(key) for key in bounds}
        for key, value in self._own.items():
            params[key] = seconds if value is None else min(value, seconds)
        self._loan = None if contexts is None else contexts.lend(alias, params)

    def succeeded(self, connection: Any) -> None:
        for key, value in self._own.items():
            setattr(connection, f"_{key}", value)
        if self._loan is not None:
            self._loan.keep(connection)

    def is_to_blame(self, error: BaseException) -> bool:
        # 2026, CR_SSL_CONNECTION_ERROR: the server offers no TLS, and a context that is handed to
        # the driver makes it insist.
        return self._loan is not None and self._loan.insists and code_of(error) == 2026
