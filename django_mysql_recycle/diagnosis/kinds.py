"""The kinds of findings: each once, with its level and its hint.

docs/command.md lists the same; a test keeps the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CONNECT_HINTS", "ERROR", "KINDS", "NOTE", "OTHER_HINT", "WARNING", "Kind"]

ERROR, WARNING, NOTE = "error", "warning", "note"


@dataclass(frozen=True, slots=True)
class Kind:
    level: str
    about: str  #: what such a finding says
    hint: str


#: Hints for errors of connecting, by the number that the driver gives.
CONNECT_HINTS: dict[int, str] = {
    1040: "The server has no connection left: fewer processes or threads, a shorter "
    "CONN_MAX_AGE, or a higher max_connections.",
    1044: "The user may not use this database: GRANT it, or correct NAME.",
    1045: "The server refuses this user or this password: check USER and PASSWORD, and from "
    "which hosts the user may connect.",
    1049: "There is no such database: create it, or correct NAME.",
    1129: "The server has blocked this host after too many failed connections: FLUSH HOSTS.",
    1130: "The server has no account that may connect from this host: check the host part of its "
    "accounts.",
    1203: "The user has no connection left: see max_user_connections.",
    1226: "The account has used up what it is allowed: see its MAX_..._PER_HOUR limits.",
    1820: "The password has expired: set a new one.",
    1862: "The password has expired: set a new one.",
    2002: "No answer from this address. Check that the server is running, that HOST and PORT or the "
    "path of its socket are correct, and that no firewall blocks the connection.",
    2003: "No answer from this address. Check that the server is running, that HOST and PORT or the "
    "path of its socket are correct, and that no firewall blocks the connection.",
    2005: "HOST cannot be resolved: check its spelling and the name server.",
    2013: "The connection was accepted and then closed, or there was no answer within "
    "connect_timeout: often a proxy whose server is down.",
    2026: "TLS could not be agreed upon: check ssl, ssl_mode and the certificates.",
    2059: "The driver does not know the account's way to log in: change it, or the driver.",
    2061: "The account needs TLS to log in: set ssl or ssl_mode.",
}

OTHER_HINT = "The driver's own words; docs/troubleshooting.md goes by its number."

KINDS: dict[str, Kind] = {
    "not_loaded": Kind(
        ERROR,
        "the backend of the alias cannot be loaded with these settings",
        "Install the driver, or correct ENGINE and OPTIONS.",
    ),
    "unreachable": Kind(ERROR, "connecting failed, with the driver's number and text", ""),
    "tls_missing": Kind(
        ERROR,
        "the settings ask for TLS, and the connection is not encrypted",
        "Turn TLS on at the server. mysqlclient on MariaDB Connector/C goes on without it where the "
        "server offers none, unless ssl_mode is 'VERIFY_CA' or 'VERIFY_IDENTITY' and "
        "OPTIONS['ssl'] = {'ca': ...} names the authority.",
    ),
    "lost": Kind(
        ERROR,
        "the connection was lost while the server was asked",
        "Run the command again; if it stays so, look at the server's log.",
    ),
    "refused": Kind(
        WARNING,
        "the server refused a question of the command's",
        "What is missing above is unknown. The user needs no more than the right to connect; "
        "look at the account's limits and at a proxy on the way.",
    ),
    "wait_timeout_unknown": Kind(
        WARNING,
        "the server does not tell its `wait_timeout`, so that there is no idle limit",
        "Set OPTIONS['recycle']['idle_limit'] below the limit you know of.",
    ),
    "kernel_differs": Kind(
        WARNING,
        "the kernel reports another value for the open socket than the backend asked for",
        "Something else changes the socket: a subclass, a connection_created receiver, a "
        "preloaded library. The kernel's value is the one that counts.",
    ),
    "proof_failed": Kind(
        ERROR,
        "`--prove`: the statement after the silence failed",
        "Is the server still there? If so, the backend did not do what it is for: please report it "
        "with the output of --json.",
    ),
    "proof_inconclusive": Kind(
        WARNING,
        "`--prove`: the connection was not closed, so that nothing is proven",
        "Something on the way keeps the session or its settings from the server: a proxy that "
        "shares connections, for one. Connect to the server itself to see the proof.",
    ),
    "stock_backend": Kind(
        NOTE,
        "the alias is on Django's own backend, or on another one made from it: nothing here "
        "guards its connections",
        "Set ENGINE to 'django_mysql_recycle' ('django_mysql_recycle.gis' for GeoDjango).",
    ),
    "session_differs": Kind(
        NOTE,
        "the session's `wait_timeout` is not the global one, and what may have set it",
        "The session's is the one that counts, and the one that is read.",
    ),
    "proxy": Kind(
        NOTE,
        "there is a proxy or an address translation on the way, and no `idle_limit` is set",
        "wait_timeout above may be the database's and not the proxy's. If the proxy hangs up "
        "earlier, the liveness check sees it; if it drops packets in silence, set "
        "OPTIONS['recycle']['idle_limit'] below its limit.",
    ),
    "tls_connect_cost": Kind(
        NOTE,
        "opening a connection with TLS takes long, and each recycle pays it",
        "Usually the machine's certificate store is loaded each time. Name the authority that "
        "signed the server's certificate: OPTIONS['ssl'] = {'ca': '/path/to/ca.pem'}.",
    ),
    "tls_unverified": Kind(
        NOTE,
        "the connection is encrypted, but nobody verifies to whom",
        "Name the authority in OPTIONS['ssl'] = {'ca': '/path/to/ca.pem'}; with mysqlclient "
        "also OPTIONS['ssl_mode'] = 'VERIFY_IDENTITY'.",
    ),
    "platform_lacks": Kind(
        NOTE,
        "this system lacks something that guards a connection",
        "That guard is off; the others work.",
    ),
}
