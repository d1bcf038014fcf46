"""Fresh Django connections with settings of the test's choice."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from itertools import count
from typing import Any, Literal, Protocol

import pymysql
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler

from django_mysql_recycle.drivers.versions import is_connector_c
from servers import FaultProxy, Server

OURS = "django_mysql_recycle"
STOCK = "django.db.backends.mysql"

#: What a test has in its hands: Django's wrapper, of whichever engine.
Connection = BaseDatabaseWrapper

_numbers = count(1)


class Proxied(Protocol):
    """See the fixture of this name."""

    def __call__(self, engine: str = OURS, **arguments: Any) -> tuple[Connection, FaultProxy]: ...


class Address(Protocol):
    """A server, a proxy or a load balancer."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


def point(database: dict[str, Any], server: Server) -> None:
    """Make an entry of DATABASES name this server, over TCP as the driver does it by itself."""
    database.update(
        HOST=server.host,
        PORT=server.port,
        USER=server.user,
        PASSWORD=server.password,
        NAME=server.database,
    )


def log_in_once(server: Server) -> None:
    """Let MySQL keep the password: libmysqlclient logs in over plain TCP only after that."""
    if is_connector_c():
        return
    with suppress(pymysql.MySQLError):
        pymysql.connect(
            host=server.host,
            port=server.port,
            user=server.user,
            password=server.password,
            ssl={"ca": str(server.ca)},
        ).close()


def encryption(driver: str, transport: str, server: Server) -> dict[str, Any]:
    """The OPTIONS for a transport: all but "tls" are without TLS."""
    if transport == "tls":
        tls: dict[str, Any] = {"ssl": {"ca": str(server.ca)}}
        return tls if driver == "pymysql" else {**tls, "ssl_mode": "REQUIRED"}
    # PyMySQL turns TLS on by itself where the server offers it, sockets included.
    return {"ssl_disabled": True} if driver == "pymysql" else {"ssl_mode": "DISABLED"}


class ConnectionFactory:
    """Makes connections; a test calls it, see the fixture `make_connection`."""

    def __init__(self, server: Server, driver: str) -> None:
        self._server = server
        self.driver = driver
        self._made: list[Connection] = []

    def __call__(
        self,
        engine: str = OURS,
        *,
        transport: Literal["tcp", "tls", "socket"] = "tcp",
        server: Server | None = None,
        via: Address | None = None,
        recycle: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Connection:
        """Return a new, not yet connected `DatabaseWrapper`.

        `server` is another server than the session's, `via` a proxy in front of it. `recycle` and
        `options` go into OPTIONS, upper-case `settings` (CONN_MAX_AGE, ...) beside it. Plain TCP is
        really plain, so that a proxy can read along.
        """
        target = server or self._server
        if transport == "tcp" and self.driver == "mysqlclient":
            log_in_once(target)
        database: dict[str, Any] = {"ENGINE": engine}
        point(database, target)
        if via is not None:
            database.update(HOST=via.host, PORT=via.port)
        if transport == "socket":
            database["HOST"] = target.socket
        database["OPTIONS"] = {**encryption(self.driver, transport, target), **(options or {})}
        if recycle is not None:
            database["OPTIONS"]["recycle"] = recycle
        database.update(settings)
        alias = f"made_{next(_numbers)}"
        # A handler of its own fills in Django's defaults, which the global one does only once.
        connections.settings[alias] = ConnectionHandler({"default": database}).settings["default"]
        connection: Connection = connections[alias]
        self._made.append(connection)
        return connection

    def close(self) -> None:
        """Close every connection made in this thread, and the pools, and forget all aliases."""
        for connection in self._made:
            connection.close()
            if hasattr(connection, "close_pool"):
                connection.close_pool()
            if connection in connections.all(initialized_only=True):
                del connections[connection.alias]
            connections.settings.pop(connection.alias, None)


def unbuffered(driver: str) -> dict[str, Any]:
    """OPTIONS with which cursors leave their rows at the server."""
    module = {"mysqlclient": "MySQLdb", "pymysql": "pymysql"}[driver]
    return {"cursorclass": import_module(f"{module}.cursors").SSCursor}
