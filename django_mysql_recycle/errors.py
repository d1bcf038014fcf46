"""Which error proves what, by number and vendor.

The numbers are those of the servers and of both client libraries; the same event gives
different numbers by driver, server and transport (docs/troubleshooting.md). Never by class, and by text
only where one number has two meanings (1290).
"""

from __future__ import annotations

from enum import Enum, auto

from django.db.utils import OperationalError

__all__ = [
    "BUSY",
    "NOT_NOW",
    "PASSING",
    "READ_ONLY_MODE",
    "UNKNOWN_HOST",
    "NoAnswer",
    "PoolClosed",
    "PoolTimeout",
    "Proof",
    "SessionStateLost",
    "TooManyRequests",
    "classify",
    "code_of",
    "is_of_the_server",
    "may_roll_back",
]


class SessionStateLost(OperationalError):
    """The connection was lost, and with it session state that the application had set.

    It is raised once. The next statement gets a new connection. If a transaction that SQL began was
    lost, statements that may write raise ``TransactionManagementError`` until your code ends this
    transaction, for example with ROLLBACK. ``args[0]`` is the error number of
    the driver, or 2006 if the liveness check found the loss before the driver did. ``args[1]``
    says which state was lost, how long ago it was set, how long the connection was idle (seconds),
    what the application can do, and where that is explained.

    A named lock that was held is free now, and another session may have taken it.
    """


class PoolTimeout(OperationalError):
    """No connection of the pool was free within ``OPTIONS["pool"]["timeout"]`` (seconds).

    It is also raised at once where the thread that asks for a connection holds all of them itself.
    The text names the alias, its limit, how many connections are in use, how many threads wait, and
    the thread that holds one longest. It has no error number: nothing was sent to the server.
    """


class TooManyRequests(OperationalError):
    """No connection of the pool is free, and ``OPTIONS["pool"]["max_waiting"]`` threads wait."""


class PoolClosed(OperationalError):
    """The pool was closed, by ``connection.close_pool()``, while the thread waited for it."""


class NoAnswer(Exception):
    """The server did not answer a round trip of the backend in time."""


class Proof(Enum):
    """What an error proves about the statement and the connection."""

    ALIVE = auto()  #: nothing about the connection
    NEVER_RAN = auto()  #: the connection is lost, the server has not seen the statement
    MAY_HAVE_RUN = auto()  #: the connection is lost, the statement may have run
    PROTOCOL = auto()  #: client and server no longer agree on whose turn it is
    WRONG_NODE = auto()  #: the connection is good, its server is not
    READ_ONLY = auto()  #: the same, because the server has turned read-only

    @property
    def is_loss(self) -> bool:
        """Whether the connection is lost."""
        return self in (Proof.NEVER_RAN, Proof.MAY_HAVE_RUN, Proof.PROTOCOL)


_NEVER_RAN = {
    2006,  # CR_SERVER_GONE_ERROR: at the write, or without a socket
    2048,  # CR_INVALID_CONN_HANDLE
}
_NEVER_RAN_MYSQL = {
    4031,  # ER_CLIENT_INTERACTION_TIMEOUT; another error altogether on MariaDB
}
_MAY_HAVE_RUN = {
    2013,  # CR_SERVER_LOST: at the read; also for a statement that the server did run
    2055,  # CR_SERVER_LOST_EXTENDED
    2012,  # CR_SERVER_HANDSHAKE_ERR
    2026,  # CR_SSL_CONNECTION_ERROR: mysqlclient, a KILL over TLS
    2045,  # CR_SHARED_MEMORY...
    5013,  # CR_ERR_NET_READ (MariaDB Connector/C)
    5014,  # CR_ERR_NET_WRITE (MariaDB Connector/C)
    1053,  # ER_SERVER_SHUTDOWN
    1077,  # ER_NORMAL_SHUTDOWN
    1079,  # ER_SHUTDOWN_COMPLETE
    1080,  # ER_FORCING_CLOSE
    1152,  # ER_ABORTING_CONNECTION
    1153,  # ER_NET_PACKET_TOO_LARGE: not run, but the server hangs up; repeating is pointless
    1158,  # ER_NET_READ_ERROR
    1159,  # ER_NET_READ_INTERRUPTED
    1160,  # ER_NET_ERROR_ON_WRITE
    1161,  # ER_NET_WRITE_INTERRUPTED
    1184,  # ER_NEW_ABORTING_CONNECTION
}
_MAY_HAVE_RUN_MARIADB = {1927}  # ER_CONNECTION_KILLED
_MAY_HAVE_RUN_MYSQL = {3169}  # ER_SESSION_WAS_KILLED
_PROTOCOL = {
    2014,  # CR_COMMANDS_OUT_OF_SYNC; with a result open it is the caller's own doing
    2027,  # CR_MALFORMED_PACKET
    1156,  # ER_NET_PACKETS_OUT_OF_ORDER
    1157,  # ER_NET_UNCOMPRESS_ERROR
}
_WRONG_NODE = {
    1047,  # ER_UNKNOWN_COM_ERROR: a Galera node outside the primary component
    1180,  # ER_ERROR_DURING_COMMIT: Galera
    3032,  # ER_SERVER_OFFLINE_MODE
    3100,  # ER_RUN_HOOK_ERROR: Group Replication, at the commit
    3101,  # ER_TRANSACTION_ROLLBACK_DURING_COMMIT: the same
}
_READ_ONLY = {
    1290,  # ER_OPTION_PREVENTS_STATEMENT, if the option is --read-only
    1792,  # ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, unless the user declared one
    1836,  # ER_READ_ONLY_MODE
    1874,  # ER_INNODB_READ_ONLY
}

#: The server may have rolled back the whole transaction, and not the statement alone. The number
#: does not say: 1205 of a row does it with innodb_rollback_on_timeout, of a table it never does.
_MAY_ROLL_BACK = {
    1020,  # ER_CHECKREAD: MariaDB with innodb_snapshot_isolation
    1205,  # ER_LOCK_WAIT_TIMEOUT
    1206,  # ER_LOCK_TABLE_FULL
    1213,  # ER_LOCK_DEADLOCK: also a conflict of certification on Galera
}

#: Errors of connecting that say that the server has no room at the moment.
BUSY = frozenset({1040, 1203})

#: Errors of connecting that say 'not now': the former, refused, shutting down, offline, and 2013,
#: 2006 or 2027 from a proxy whose server is down.
NOT_NOW = BUSY | {2002, 2003, 2006, 2013, 2027, 2055, 1053, 3032}

#: ER_READ_ONLY_MODE, which the backend also raises for a node that 'require_primary' refuses.
READ_ONLY_MODE = 1836

#: CR_UNKNOWN_HOST, which PyMySQL calls 2003: a name that cannot be resolved.
UNKNOWN_HOST = 2005


#: Refusals of a statement that say nothing about the next one of the same text.
PASSING = frozenset(
    {
        1317,  # ER_QUERY_INTERRUPTED: KILL QUERY
        1969,  # ER_STATEMENT_TIMEOUT (MariaDB): max_statement_time
        3024,  # ER_QUERY_TIMEOUT (MySQL): max_execution_time
        1205,  # ER_LOCK_WAIT_TIMEOUT
        1041,  # ER_OUT_OF_RESOURCES
        1226,  # ER_USER_LIMIT_REACHED: max_queries_per_hour
    }
)


def code_of(error: BaseException) -> int | None:
    """The error's number, or None where the driver gave none."""
    code = error.args[0] if error.args else None
    return code if isinstance(code, int) and not isinstance(code, bool) else None


def may_roll_back(error: BaseException) -> bool:
    """Whether the server may have rolled back the whole transaction with the statement."""
    return code_of(error) in _MAY_ROLL_BACK


def is_of_the_server(error: BaseException) -> bool:
    """Whether the number is one of the server's and not of a client library.

    Any of both can be in an error packet: a trigger may SIGNAL what it likes.
    """
    code = code_of(error) or 0
    return code != 0 and not (2000 <= code < 3000 or 5000 <= code < 6000)


def classify(error: BaseException, *, mariadb: bool) -> Proof:
    """What a database error, the driver's or Django's copy of it, proves by its number.

    A number can be made up, and is no proof before the connection has been looked at (evidence.py).
    """
    code = code_of(error)
    if code is None:
        # PyMySQL: InternalError("Packet sequence number wrong"), Error("Already closed").
        # A ProgrammingError without a number is about the call, not about the connection.
        name = type(error).__name__
        if name == "InternalError":
            return Proof.PROTOCOL
        if name in ("Error", "InterfaceError"):
            return Proof.NEVER_RAN
        return Proof.ALIVE
    if code == 0:
        # InterfaceError(0, ''): no socket to send on.
        return Proof.NEVER_RAN if type(error).__name__ == "InterfaceError" else Proof.PROTOCOL
    if code in _NEVER_RAN or (not mariadb and code in _NEVER_RAN_MYSQL):
        return Proof.MAY_HAVE_RUN if _hides_an_interruption(error) else Proof.NEVER_RAN
    if code in _MAY_HAVE_RUN or code in (_MAY_HAVE_RUN_MARIADB if mariadb else _MAY_HAVE_RUN_MYSQL):
        return Proof.MAY_HAVE_RUN
    if code in _PROTOCOL:
        return Proof.PROTOCOL
    if code in _WRONG_NODE:
        return Proof.WRONG_NODE
    if code in _READ_ONLY:
        if code != 1290:
            return Proof.READ_ONLY
        # The same number speaks of --skip-grant-tables and --secure-file-priv. The name of the
        # option is not translated.
        text = str(error).replace("_", "-")
        return Proof.READ_ONLY if "read-only" in text else Proof.ALIVE
    return Proof.ALIVE


def _hides_an_interruption(error: BaseException) -> bool:
    """Whether PyMySQL has made 2006 of an OSError that did not come from the socket.

    ``raise TimeoutError`` in a signal handler, after the last byte was sent; its own
    write_timeout, after some were. What the system reports has a number.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link.__context__, OSError) and link.__context__.errno is None:
            return True
        link = link.__cause__
    return False
