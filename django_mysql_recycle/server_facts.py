"""What a server reports of itself, read through a connection of Django's.

The command and the system checks draw conclusions from these facts. This module does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.utils import Error

from .errors import Proof, classify, code_of

__all__ = ["ServerFacts", "read"]

#: The variables that end an idle connection. MySQL has only the first two.
TIMEOUTS = (
    "wait_timeout",
    "interactive_timeout",
    "idle_transaction_timeout",
    "idle_readonly_transaction_timeout",
    "idle_write_transaction_timeout",
)

_OTHERS = (
    "hostname",
    "init_connect",
    "innodb_read_only",
    "max_connections",
    "port",
    "read_only",
    "super_read_only",
    "version_comment",
)

_READ_ONLY = ("read_only", "super_read_only", "innodb_read_only")


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """Timeouts are in seconds. ``None``: the server has no such value, or did not report it."""

    vendor: str  #: ``mariadb`` or ``mysql``
    version: str  #: as ``VERSION()`` gives it
    version_comment: str = ""
    connection_id: int | None = None
    hostname: str = ""  #: as the server calls its machine
    port: int | None = None  #: at which the server listens; behind a proxy it may differ from PORT
    #: The port of the client as the server sees it; None over a unix socket.
    client_port: int | None = None
    #: Machines from which this account is connected now, as the server sees them.
    clients: int | None = None
    wait_timeout: int | None = None  #: of the session, like the next four
    interactive_timeout: int | None = None
    idle_transaction_timeout: int | None = None  #: MariaDB; 0 is off
    idle_readonly_transaction_timeout: int | None = None
    idle_write_transaction_timeout: int | None = None
    wait_timeout_global: int | None = None
    interactive_timeout_global: int | None = None
    idle_transaction_timeout_global: int | None = None
    idle_readonly_transaction_timeout_global: int | None = None
    idle_write_transaction_timeout_global: int | None = None
    #: Which of ``read_only``, ``super_read_only`` and ``innodb_read_only`` are on.
    read_only: tuple[str, ...] = ()
    max_connections: int | None = None
    has_init_connect: bool = False
    #: Of the connection that the server sees. Behind a proxy that is the connection of the proxy.
    tls_version: str = ""  #: empty without TLS
    tls_cipher: str = ""
    #: The queries that the server refused: ``(number, text)`` of each error.
    refusals: tuple[tuple[int | None, str], ...] = ()

    @property
    def is_mariadb(self) -> bool:
        return self.vendor == "mariadb"


def read(connection: Any) -> ServerFacts:
    """Query the server of one of Django's connection wrappers, which is opened if it is not.

    It runs six statements, which need no privileges. What the server refuses is noted and left
    out. Raises what connecting raises, and the error of the driver if the connection is lost.
    """
    questions = _Questions(connection)
    version = str(questions.value("SELECT VERSION()") or "")
    if not version:
        # The greeting has it, too; MariaDB puts 5.5.5- before it for old replicas.
        version = str(connection.connection.get_server_info()).removeprefix("5.5.5-")
    session = questions.variables("SESSION VARIABLES", TIMEOUTS)
    globals_ = questions.variables("GLOBAL VARIABLES", TIMEOUTS + _OTHERS)
    status = questions.variables("SESSION STATUS", ("Ssl_version", "Ssl_cipher"))
    number = _whole(questions.value("SELECT CONNECTION_ID()"))
    # Every account may see its own threads.
    addresses = {
        _whole(thread): _text(address)
        for thread, address in questions.rows(
            "SELECT id, host FROM information_schema.processlist "
            "WHERE user = SUBSTRING_INDEX(USER(), '@', 1)"
        )
    }
    port = re.search(r":(\d+)$", addresses.get(number, ""))
    timeouts = {name: _whole(session.get(name)) for name in TIMEOUTS}
    timeouts |= {f"{name}_global": _whole(globals_.get(name)) for name in TIMEOUTS}
    return ServerFacts(
        vendor="mariadb" if "mariadb" in version.lower() else "mysql",
        version=version,
        version_comment=globals_.get("version_comment", ""),
        connection_id=number,
        hostname=globals_.get("hostname", ""),
        port=_whole(globals_.get("port")),
        client_port=int(port[1]) if port else None,
        clients=len(set(map(_machine, addresses.values()))) or None,
        read_only=tuple(name for name in _READ_ONLY if _is_on(globals_.get(name))),
        max_connections=_whole(globals_.get("max_connections")),
        has_init_connect=bool(globals_.get("init_connect")),
        tls_version=status.get("Ssl_version", ""),
        tls_cipher=status.get("Ssl_cipher", ""),
        refusals=tuple(questions.refusals),
        **timeouts,
    )


class _Questions:
    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.refusals: list[tuple[int | None, str]] = []

    def rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        self.connection.ensure_connection()  # an error here is not a refusal
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(sql, parameters or None)
                return list(cursor.fetchall())
        except Error as error:
            # 4031 means something else on MariaDB; here the queries end in both cases.
            if classify(error, mariadb=False) is not Proof.ALIVE:
                raise
            self.refusals.append((code_of(error), str(error.args[-1]) if error.args else ""))
            return []

    def value(self, sql: str) -> Any:
        rows = self.rows(sql)
        return rows[0][0] if rows else None

    def variables(self, what: str, names: Iterable[str]) -> dict[str, str]:
        """The values by name. SHOW leaves out what the server does not know; SELECT @@name fails."""
        names = tuple(names)
        places = ", ".join(["%s"] * len(names))
        return {
            str(name): _text(value)
            for name, value in self.rows(f"SHOW {what} WHERE Variable_name IN ({places})", names)
        }


def _machine(address: str) -> str:
    host = address.rpartition(":")[0] or address  # MySQL and MariaDB put the port behind it
    return "localhost" if host in ("127.0.0.1", "::1") else host


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _whole(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _is_on(value: str | None) -> bool:
    # MariaDB also has values such as NO_LOCK.
    return (value or "OFF").upper() not in ("OFF", "0")
