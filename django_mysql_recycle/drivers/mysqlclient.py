"""mysqlclient, on MariaDB Connector/C or libmysqlclient."""

from __future__ import annotations

import re
import sys
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from types import FunctionType
from typing import Any

from .. import option_files
from .direct import watched_cursors
from .exchange import ANSWERED, Exchange, is_the_drivers, watch
from .interface import Attempt, Common, code_objects
from .versions import is_connector_c

__all__ = ["MySQLClient"]

#: Arguments that the documentation of mysqlclient's class leaves out.
_UNDOCUMENTED = frozenset({"read_timeout", "write_timeout"})


class MySQLClient(Common):
    name = "mysqlclient"
    hides_transactions = True
    # It compares with the flag in the answer to its SET NAMES.
    leaves_autocommit: bool | None = True

    def __init__(self) -> None:
        self._take_exceptions(import_module("MySQLdb"))
        cursors = import_module("MySQLdb.cursors")
        self.cursor: type = cursors.Cursor
        self.unbuffered: type = cursors.CursorUseResultMixIn
        # A buffered result has been stored as a whole before its first value is converted.
        self._converting = code_objects(cursors.BaseCursor, "_fetch_row")
        connections = import_module("MySQLdb.connections")
        # What an instrumentation has put in its place is another one, and is called.
        query = connections.Connection.query
        own = type(query) is FunctionType and query.__globals__ is vars(connections)
        self._query = query if own else None
        self._cursor = connections.Connection.cursor
        self._raw = connections._mysql.connection
        self._connecting = import_module(f"{__package__}.connecting_mysqlclient").Connecting

    def distrust_autocommit(self, connection: Any) -> None:
        pass  # the flag is that of the answer to SET NAMES

    def descriptor(self, connection: Any) -> int | None:
        # fileno() keeps its number after a loss; the caller forgets it then.
        if not getattr(connection, "open", False):
            return None
        return int(connection.fileno())

    def has_more_results(self, connection: Any, cursor: Any, *, doubtful: bool) -> bool:
        if hasattr(connection, "more_results"):  # mysqlclient 2.3
            return bool(connection.more_results())
        # Before that nothing shows it. A CALL ends with a result that has no columns.
        return doubtful and getattr(cursor, "description", None) is not None

    def in_transaction(self, connection: Any) -> bool:  # noqa: ARG002
        return False  # it keeps the server's status to itself

    def settings_of(self, connection: Any) -> tuple[object, ...]:
        return (
            connection.cursorclass,
            connection.encoding,
            connection.converter,
            connection.encoders,
        )

    def escapes(self, connection: Any) -> bool:
        # It keeps the flag to itself, and escapes a quote as the server will read it.
        with suppress(Exception):  # a proxy object of the application's, or it was closed
            return bytes(connection.escape_string(b"'")) != b"''"
        return True

    def send(self, connection: Any, sql: bytes) -> None:
        connection.send_query(sql)

    def receive(self, connection: Any) -> tuple[Any, ...]:
        connection.read_query_result()
        result = connection.store_result()
        return () if result is None else tuple(result.fetch_row(0))

    def discard(self, connection: Any) -> None:
        with suppress(Exception):
            connection.close()

    def watch(self, connection: Any) -> Exchange:
        return watch(connection, self._put_attributes)

    def _put_attributes(
        self, reference: Callable[[], Any], query: Callable[..., Any], exchange: Exchange
    ) -> None:
        owner = reference()
        errors = owner.Error
        raw = self._raw
        # What the method does beside calling the C function is done below, in place of it.
        send = raw.query if query is self._query else query
        store = raw.store_result

        def watched_query(query: Any) -> None:
            connection = reference()
            if exchange.under_way:
                exchange.refuse_another(connection, sys._getframe(1))
            if isinstance(query, bytearray):
                query = bytes(query)  # the C function lets other threads run while it reads this
            exchange.failed = False
            exchange.under_way = True
            try:
                send(connection, query)
            except errors as error:
                _end(exchange, error, in_c=send is raw.query)
                raise
            if not connection.field_count():
                exchange.under_way = ANSWERED  # without rows the answer is complete

        def watched_store_result() -> Any:
            connection = reference()
            try:
                result = store(connection)
            except errors as error:
                _end(exchange, error, in_c=True)
                raise
            exchange.under_way = ANSWERED
            return result

        def watched_use_result() -> Any:
            result = raw.use_result(reference())
            exchange.under_way = ANSWERED  # the rows to come are an unread result from here on
            return result

        if type(owner).cursor is self._cursor:
            owner.cursor = watched_cursors(reference, exchange)
        owner.query = watched_query
        owner.store_result = watched_store_result
        owner.use_result = watched_use_result

    def finish_opening(self, connection: Any) -> None:
        if type(connection) is not self._connecting:
            return
        connection.finish()
        watched = connection.__dict__.get("query")
        exchange = getattr(watched, "exchange", None)
        if exchange is not None:
            # What watches it was made for the query() of connecting.
            self._put_attributes(weakref.ref(connection), type(connection).query, exchange)
            connection.query.exchange = exchange

    def takes(self, name: Any) -> bool:
        # The driver takes them as **kwargs. Its documentation names most of them.
        documented = self._connecting.__base__.__init__.__doc__ or ""
        named = re.search(rf":param \w+ {re.escape(str(name))}:", documented)
        return named is not None or name in _UNDOCUMENTED

    def is_own(self, connect: Any) -> bool:
        # A function that looks the class up when it is called.
        module = getattr(connect, "__globals__", {}).get("__name__")
        connections = import_module("MySQLdb.connections")
        return (
            type(connect) is FunctionType
            and module == "MySQLdb"
            and connections.Connection is self._connecting.__base__
        )

    def asks_for_tls(self, params: Mapping[str, Any]) -> bool:
        mode = str(params.get("ssl_mode") or "")
        if mode:
            return mode in _STRICT
        if params.get("ssl"):
            return True
        return not _READING.isdisjoint(params) and any(
            _wants_tls(name, option.value) for name, option in option_files.options(params).items()
        )

    def is_encrypted(self, connection: Any) -> bool:
        # What both ends have agreed upon; the library leaves the flag out where it goes on without.
        return bool(getattr(connection, "client_flag", _CLIENT_SSL) & _CLIENT_SSL)

    def attempt(
        self,
        alias: str,  # noqa: ARG002
        params: dict[str, Any],
        seconds: float,  # noqa: ARG002
        *,
        spare: bool,  # noqa: ARG002
    ) -> Attempt:
        # Connector/C and libmysqlclient bound the handshake by connect_timeout themselves.
        if _READING.isdisjoint(params) and "=" not in str(params.get("host")):
            return Attempt()
        return _Attempt(option_files.reconnecting(params) if is_connector_c() else "")


class _Attempt(Attempt):
    def __init__(self, reconnecting: str) -> None:
        self.reconnecting = reconnecting

    def succeeded(self, connection: Any) -> None:
        if self.reconnecting and not self.switched_off:
            import_module(f"{__package__}.connecting_mysqlclient").stop_reconnecting(
                connection, self.reconnecting
            )


#: The parameters with which the library reads option files.
_READING = frozenset({"read_default_file", "read_default_group"})
_CLIENT_SSL = 2048
_STRICT = ("REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")


def _wants_tls(name: str, value: str | None) -> bool:
    """Whether an option of an option file does. Connector/C does not know `ssl` and `ssl-mode`."""
    if name in ("ssl-enforce", "tls-enforce", "ssl-verify-server-cert", "tls-verify-peer"):
        return option_files.is_on(value)
    return bool(value) and re.fullmatch(r"(ssl|tls)-(ca|capath|cert|cipher|key)", name) is not None


def _end(exchange: Exchange, error: BaseException, *, in_c: bool) -> None:
    """The driver has raised an error of its own, and no signal handler one of another database.

    `in_c`: the C function was called without a Python method around it. A handler runs when it has
    returned, and the handler's own frame stands in the traceback.
    """
    trace = error.__traceback__
    if (trace is not None and trace.tb_next is None) if in_c else is_the_drivers(error):
        exchange.under_way, exchange.failed = False, True
