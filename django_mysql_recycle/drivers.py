"""The differences between mysqlclient and PyMySQL, and the choice between them.

The driver is chosen once per process, before Django's MySQL backend is imported, because
Django binds it by name (``import MySQLdb``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from types import CodeType, ModuleType
from typing import Any, Protocol

from django.core.exceptions import ImproperlyConfigured

from .errors import code_of
from .tls import ContextKeeper

__all__ = ["ENVIRONMENT", "Driver", "choose", "use_driver"]

#: Environment variable that names the driver: ``mysqlclient`` or ``pymysql``.
ENVIRONMENT = "DJANGO_MYSQL_RECYCLE_DRIVER"

_NAMES = ("mysqlclient", "pymysql")


class Driver(Protocol):
    """What the backend asks of a driver beyond PEP 249."""

    name: str
    #: The class of the driver's cursors that leave rows at the server until they are fetched.
    unbuffered: type

    def descriptor(self, connection: Any) -> int | None:
        """The socket's descriptor, or None if the driver holds no open one."""

    def is_mariadb(self, connection: Any) -> bool:
        """By the server's greeting: no round trip."""

    def has_more_results(self, connection: Any, cursor: Any, *, doubtful: bool) -> bool:
        """Whether further result sets are waiting. `doubtful`: the statement can have some."""

    def in_transaction(self, connection: Any) -> bool:
        """Whether the server says so, as far as the driver lets on. No round trip."""

    def send(self, connection: Any, sql: bytes) -> None:
        """Send a statement of the backend's own and do not wait for the answer."""

    def receive(self, connection: Any) -> tuple[Any, ...]:
        """Read the answer to `send`: its rows."""

    def never_sent(self, error: BaseException) -> bool:
        """Whether an exception that is not the database's was raised before anything was sent."""

    def abandon(self, connection: Any) -> None:
        """Release a connection whose descriptor was detached or is lost, without a command."""

    def prepare(self, alias: str, params: dict[str, Any], seconds: float) -> Callable[[Any], None]:
        """Make `params` bound greeting and authentication, too, and spare what can be spared.

        Returns what is to be called with the connection that was opened with them.
        """

    def take_back(self, alias: str, params: dict[str, Any], error: BaseException) -> bool:
        """Whether `prepare` is the cause of the error: then another try goes without it."""


class _Common:
    """What both drivers do alike."""

    _adapting: frozenset[CodeType]
    _refusing: frozenset[CodeType]

    def is_mariadb(self, connection: Any) -> bool:
        return "mariadb" in str(connection.get_server_info()).lower()

    def never_sent(self, error: BaseException) -> bool:
        """Judge by the traceback: nothing is sent yet in a function that adapts parameters.

        Nor is it where the driver itself, and no signal handler, stumbles over what it was given.
        """
        trace, innermost = error.__traceback__, None
        while trace is not None:
            innermost = trace.tb_frame.f_code
            if innermost in self._adapting:
                return True
            trace = trace.tb_next
        refusals = (TypeError, AttributeError, AssertionError, UnicodeError)
        return isinstance(error, refusals) and innermost in self._refusing


class MySQLClient(_Common):
    name = "mysqlclient"

    def __init__(self) -> None:
        cursors = import_module("MySQLdb.cursors")
        self.unbuffered: type = cursors.CursorUseResultMixIn
        self._adapting = _code_of(cursors.BaseCursor, "_mogrify", "mogrify", "_escape_args")
        self._refusing = _code_of(
            cursors.BaseCursor, "execute", "executemany", "callproc", "_do_execute_many"
        ) | _code_of(cursors, "_backquote_escape")

    def descriptor(self, connection: Any) -> int | None:
        # fileno() keeps its number after a loss; the caller forgets it then.
        if not getattr(connection, "open", False):
            return None
        return int(connection.fileno())

    def has_more_results(self, connection: Any, cursor: Any, *, doubtful: bool) -> bool:
        if hasattr(connection, "more_results"):  # mysqlclient 2.3
            return bool(connection.more_results())
        # Before that nothing tells. A CALL ends with a result that has no columns.
        return doubtful and getattr(cursor, "description", None) is not None

    def in_transaction(self, connection: Any) -> bool:  # noqa: ARG002
        return False  # it keeps the server's status to itself

    def send(self, connection: Any, sql: bytes) -> None:
        connection.send_query(sql)

    def receive(self, connection: Any) -> tuple[Any, ...]:
        connection.read_query_result()
        result = connection.store_result()
        return () if result is None else tuple(result.fetch_row(0))

    def abandon(self, connection: Any) -> None:
        with suppress(Exception):
            connection.close()

    def prepare(
        self,
        alias: str,  # noqa: ARG002
        params: dict[str, Any],  # noqa: ARG002
        seconds: float,  # noqa: ARG002
    ) -> Callable[[Any], None]:
        # Connector/C and libmysqlclient bound the handshake by connect_timeout themselves.
        return _nothing_to_do

    def take_back(
        self,
        alias: str,  # noqa: ARG002
        params: dict[str, Any],  # noqa: ARG002
        error: BaseException,  # noqa: ARG002
    ) -> bool:
        return False


class PyMySQL(_Common):
    name = "pymysql"

    def __init__(self) -> None:
        cursors = import_module("pymysql.cursors")
        self.unbuffered: type = cursors.SSCursor
        self._adapting = _code_of(cursors.Cursor, "_mogrify", "mogrify", "_escape_args")
        connections = import_module("pymysql.connections")
        self._refusing = (
            _code_of(cursors.Cursor, "execute", "executemany", "callproc", "_do_execute_many")
            | _code_of(cursors, "_backquote_escape")
            | _code_of(connections.Connection, "query", "_execute_command", "escape")
        )
        self._contexts = ContextKeeper()

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

    def send(self, connection: Any, sql: bytes) -> None:
        connection._execute_command(3, sql)  # COM_QUERY

    def receive(self, connection: Any) -> tuple[Any, ...]:
        connection._read_query_result()
        return tuple(connection._result.rows or ())

    def abandon(self, connection: Any) -> None:
        connection._closed = True
        if connection._result is not None:
            # Its destructor would drain it through a socket that is no more.
            connection._result.unbuffered_active = False
        with suppress(Exception):
            connection._force_close()

    def prepare(self, alias: str, params: dict[str, Any], seconds: float) -> Callable[[Any], None]:
        # Its own connect_timeout ends with the TCP handshake.
        own = {key: params.get(key) for key in ("read_timeout", "write_timeout")}
        for key, value in own.items():
            params[key] = seconds if value is None else min(value, seconds)
        keep_context = self._contexts.lend(alias, params)

        def opened(connection: Any) -> None:
            connection._read_timeout = own["read_timeout"]
            connection._write_timeout = own["write_timeout"]
            keep_context(connection)

        return opened

    def take_back(self, alias: str, params: dict[str, Any], error: BaseException) -> bool:
        # CR_SSL_CONNECTION_ERROR
        return code_of(error) == 2026 and self._contexts.take_back(alias, params)


def _nothing_to_do(connection: Any) -> None:
    pass


def _code_of(owner: type | ModuleType, *names: str) -> frozenset[CodeType]:
    functions = (getattr(owner, name, None) for name in names)
    return frozenset(function.__code__ for function in functions if function is not None)


_chosen: Driver | None = None


def use_driver(name: str) -> None:
    """Choose the driver of this process: ``"mysqlclient"`` or ``"pymysql"``.

    Call it in the settings module. Without it the environment variable
    ``DJANGO_MYSQL_RECYCLE_DRIVER`` decides, and without that mysqlclient is used where it is
    installed, PyMySQL otherwise.

    Raises ImproperlyConfigured for another name, for a driver that is not installed, and if
    Django's MySQL backend has been imported with another driver.
    """
    global _chosen
    if name not in _NAMES:
        raise ImproperlyConfigured(
            f"use_driver(): expected one of {', '.join(_NAMES)}, got {name!r}"
        )
    bound = _bound()
    if bound is not None and bound != name:
        raise ImproperlyConfigured(
            f"use_driver({name!r}): Django's MySQL backend has already been imported with "
            f"{bound}; the driver is chosen once per process"
        )
    if not _installed(name):
        raise ImproperlyConfigured(
            f"use_driver({name!r}): expected an installed driver, but {name} cannot be found "
            f"(pip install {'mysqlclient' if name == 'mysqlclient' else 'PyMySQL'})"
        )
    if bound is None and name == "pymysql":
        _stand_in_for_mysqldb()
    elif bound is None:
        _undo_stand_in()
    _chosen = MySQLClient() if name == "mysqlclient" else PyMySQL()


def choose() -> Driver:
    """The driver of this process, chosen now if it has not been."""
    if _chosen is None:
        use_driver(_default())
    assert _chosen is not None
    return _chosen


def _default() -> str:
    named = os.environ.get(ENVIRONMENT)
    if named:
        if named not in _NAMES:
            raise ImproperlyConfigured(
                f"environment variable {ENVIRONMENT}: expected one of {', '.join(_NAMES)}, "
                f"got {named!r}"
            )
        return named
    present = _bound() or _stand_in()
    if present is not None:
        return present
    for name in _NAMES:
        if _installed(name):
            return name
    raise ImproperlyConfigured(
        "django_mysql_recycle needs a MySQL driver: pip install mysqlclient, or pip install PyMySQL"
    )


def _installed(name: str) -> bool:
    if name == "pymysql":
        return find_spec("pymysql") is not None
    if _stand_in() == "pymysql":
        # PyMySQL answers to the name MySQLdb here; look past it.
        return find_spec("_mysql") is not None or _on_path("MySQLdb")
    return find_spec("MySQLdb") is not None


def _on_path(name: str) -> bool:
    from importlib.machinery import PathFinder

    return PathFinder.find_spec(name) is not None


def _stand_in() -> str | None:
    """Who answers to the name MySQLdb, if it has been imported."""
    module = sys.modules.get("MySQLdb")
    if module is None:
        return None
    return "pymysql" if module.__name__.partition(".")[0] == "pymysql" else "mysqlclient"


def _bound() -> str | None:
    """The driver that Django's MySQL backend holds, if it has been imported."""
    backend = sys.modules.get("django.db.backends.mysql.base")
    database = getattr(backend, "Database", None)
    if database is None:
        return None
    name: str = database.__name__
    return "pymysql" if name.partition(".")[0] == "pymysql" else "mysqlclient"


def _stand_in_for_mysqldb() -> None:
    """Let ``import MySQLdb`` give PyMySQL, submodules included.

    Without the submodules ``from MySQLdb.converters import ...`` would load a second copy of
    them, whose exceptions are different classes.
    """
    import_module("pymysql.converters")
    import_module("pymysql.cursors")
    import_module("pymysql.constants.CLIENT")
    import_module("pymysql.constants.FIELD_TYPE")
    for name, module in list(sys.modules.items()):
        if name == "pymysql" or name.startswith("pymysql."):
            sys.modules["MySQLdb" + name[len("pymysql") :]] = module


def _undo_stand_in() -> None:
    """mysqlclient is wanted although PyMySQL was installed under its name."""
    for name, module in list(sys.modules.items()):
        if (name == "MySQLdb" or name.startswith("MySQLdb.")) and module.__name__.startswith(
            "pymysql"
        ):
            del sys.modules[name]
