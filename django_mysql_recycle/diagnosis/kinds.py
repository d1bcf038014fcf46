"""The findings of the command that no system check has: the level and the hint of each kind.

docs/command.md lists the same; a test keeps the two equal.
"""

from __future__ import annotations

from typing import NamedTuple

from ..checks.finding import ERROR, NOTE, WARNING
from ..checks.server import TLS_HINT
from ..documents import TROUBLESHOOTING

__all__ = ["CONNECT_HINTS", "KINDS", "OTHER_HINT", "Kind"]


class Kind(NamedTuple):
    level: str
    about: str  #: what such a finding says
    hint: str


_NO_ANSWER = (
    "No answer from this address. Check that the server is running, that HOST and PORT or the "
    "path of its socket are correct, and that no firewall blocks the connection."
)
_EXPIRED = "The password has expired. Set a new one."

#: Hints for errors of connecting, by the number that the driver gives.
CONNECT_HINTS = {
    1040: "The server has reached max_connections. Use fewer processes or threads, lower "
    "CONN_MAX_AGE, or raise max_connections.",
    1044: "The user may not use this database. Grant the privilege, or correct NAME.",
    1045: "The server refuses this user or this password. Check USER and PASSWORD, and from which "
    "hosts the account may connect.",
    1049: "There is no such database. Create it, or correct NAME.",
    1129: "The server has blocked this host after too many failed connections. Run FLUSH HOSTS on "
    "MariaDB, or TRUNCATE TABLE performance_schema.host_cache on MySQL.",
    1130: "No account of the server may connect from this host. Check the host part of the account.",
    1203: "The user has reached max_user_connections. Open fewer connections, or raise the limit.",
    1226: "The account has used up one of its limits. Check MAX_QUERIES_PER_HOUR and the other "
    "limits of the account.",
    1820: _EXPIRED,
    1862: _EXPIRED,
    2002: _NO_ANSWER,
    2003: _NO_ANSWER,
    2005: "HOST cannot be resolved. Check its spelling and the name server.",
    2013: "The connection was accepted and then closed, or there was no answer within "
    "connect_timeout. The cause is often a proxy whose server is down.",
    2026: "TLS could not be set up. Check ssl, ssl_mode and the certificates.",
    2059: "The driver does not support the authentication plugin of the account. Change the plugin, "
    "or use another driver.",
    2061: "The account can only log in over TLS. Set ssl or ssl_mode.",
}

OTHER_HINT = (
    "This is the driver's message. Check this entry of DATABASES, above all OPTIONS. "
    f"The error numbers: {TROUBLESHOOTING}"
)

KINDS = {
    "not_loaded": Kind(
        ERROR,
        "the backend of the alias cannot be loaded with these settings",
        "Install the driver, or correct ENGINE and OPTIONS.",
    ),
    "unreachable": Kind(ERROR, "connecting failed, with the driver's number and text", ""),
    "no_answer": Kind(
        ERROR,
        "connecting failed because nothing answered within `connect_timeout`",
        "A server that is down, or a wrong PORT, refuses a connection at once. Check HOST, the "
        "route to it, and whether a firewall drops the packets. If something accepts the "
        "connection and sends no greeting, it is an overloaded server, or a proxy without one.",
    ),
    "tls_missing": Kind(
        ERROR, "the settings ask for TLS, but the connection is not encrypted", TLS_HINT
    ),
    "lost": Kind(
        ERROR,
        "the connection was lost while the command queried the server",
        "Run the command again. If it fails again, look at the server's log.",
    ),
    "refused": Kind(
        WARNING,
        "the server refused a query of the command",
        "Values that could not be read are shown as unknown. The account needs no privilege "
        "beyond the right to connect. Check the limits of the account, and whether a proxy is on "
        "the way.",
    ),
    "wait_timeout_unknown": Kind(
        WARNING,
        "the server does not report its `wait_timeout`, so that there is no idle limit",
        "Set OPTIONS['recycle']['idle_limit'] below the idle timeout of the server or of the proxy.",
    ),
    "kernel_differs": Kind(
        WARNING,
        "the kernel reports another value for the open socket than the backend has set",
        "Other code changes the socket: a subclass, a connection_created receiver or a preloaded "
        "library. The value that the kernel reports is the one in force.",
    ),
    "proof_failed": Kind(
        ERROR,
        "`--prove`: the statement after the pause failed",
        "Check that the server is running. If it is, the backend has not done what it is for: "
        "please report this with the output of --json.",
    ),
    "proof_inconclusive": Kind(
        WARNING,
        "`--prove`: the connection was not closed, so that nothing is proven",
        "Something on the way keeps the session or its settings from the server, for example a "
        "proxy that shares connections. Connect to the server directly to get a proof.",
    ),
    "stock_backend": Kind(
        NOTE,
        "the alias is on Django's own backend, or on another one made from it, which does not "
        "replace stale connections",
        "Set ENGINE to 'django_mysql_recycle' ('django_mysql_recycle.gis' for GeoDjango).",
    ),
    "session_differs": Kind(
        NOTE,
        "the session's `wait_timeout` is not the global one, with the possible reasons",
        "The value of the session counts, and the backend reads that one.",
    ),
    "proxy": Kind(
        NOTE,
        "there is a proxy or an address translation on the way, and no `idle_limit` is set",
        "The wait_timeout above may be the database's and not the proxy's. If the proxy closes idle "
        "connections earlier, the liveness check notices it. If it drops their packets without "
        "closing them, set OPTIONS['recycle']['idle_limit'] below its limit.",
    ),
    "tls_connect_cost": Kind(
        NOTE,
        "opening a connection with TLS takes long, and each replacement opens one",
        "Usually the driver loads all certificates of the system for each connection. Name the "
        "authority that signed the server's certificate: OPTIONS['ssl'] = {'ca': '/path/to/ca.pem'}.",
    ),
    "tls_unverified": Kind(
        NOTE,
        "the connection is encrypted, but the server's certificate is not verified",
        "Name the authority that signed it in OPTIONS['ssl'] = {'ca': '/path/to/ca.pem'}. With "
        "mysqlclient also set OPTIONS['ssl_mode'] = 'VERIFY_IDENTITY'.",
    ),
    "platform_lacks": Kind(
        NOTE,
        "this system lacks something that the backend checks connections with",
        "The check that needs it is off. The others work.",
    ),
}
