"""What the command finds: each kind once, with its level and its hint.

docs/command.md lists the same; a test keeps the two equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.core import checks

from .diagnosis_path import Cost, KernelOption, TlsFacts, Transport
from .options import Options
from .server_facts import ServerFacts

__all__ = [
    "ERROR",
    "KINDS",
    "NOTE",
    "WARNING",
    "Finding",
    "Kind",
    "connect_hint",
    "finding",
    "of_check",
    "of_connection",
    "of_server",
    "without_password",
]

ERROR, WARNING, NOTE = "error", "warning", "note"

#: Milliseconds beyond its round trips that opening a connection with TLS may take untold.
SLOW_TLS = 15


@dataclass(frozen=True, slots=True)
class Finding:
    id: str  #: as system checks have them; SILENCED_SYSTEM_CHECKS is obeyed
    level: str  #: ``error``, ``warning`` or ``note``
    message: str
    hint: str


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
    1130: "The server lets nobody in from this host: check the host part of its accounts.",
    1203: "The user has no connection left: see max_user_connections.",
    1226: "The account has used up what it is allowed: see its MAX_..._PER_HOUR limits.",
    1820: "The password has expired: set a new one.",
    1862: "The password has expired: set a new one.",
    2002: "Nobody answers there: does the server run, are HOST and PORT or the path of its socket "
    "right, does a firewall let us in?",
    2003: "Nobody answers there: does the server run, are HOST and PORT or the path of its socket "
    "right, does a firewall let us in?",
    2005: "HOST cannot be resolved: check its spelling and the name server.",
    2013: "Somebody took the connection and hung up: often a proxy whose server is down.",
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


def finding(kind: str, message: str, hint: str | None = None) -> Finding:
    known = KINDS[kind]
    return Finding(
        f"django_mysql_recycle.{kind}", known.level, message, known.hint if hint is None else hint
    )


def connect_hint(code: int | None) -> str:
    return CONNECT_HINTS.get(code or 0, OTHER_HINT)


def of_check(message: checks.CheckMessage) -> Finding:
    """What a system check says, as a finding."""
    level = ERROR if message.level >= checks.ERROR else NOTE
    if checks.WARNING <= message.level < checks.ERROR:
        level = WARNING
    return Finding(str(message.id or ""), level, message.msg, message.hint or "")


def of_server(
    facts: ServerFacts, settings: Mapping[str, Any], options: Options | None
) -> Iterator[Finding]:
    """What the system checks of validation.py do not say. `options`: None on the stock backend."""
    for code, text in facts.refusals:
        yield finding("refused", f"The server refused a question: {code} {text}")
    session, global_ = facts.wait_timeout, facts.wait_timeout_global
    if options is not None and options.idle_limit is None and session is None:
        yield finding("wait_timeout_unknown", "The server does not tell its wait_timeout.")
    if None not in (session, global_) and session != global_:
        yield finding(
            "session_differs",
            f"wait_timeout is {session} s in this session and {global_} s globally"
            f"{_causes(facts, settings)}.",
        )


def _causes(facts: ServerFacts, settings: Mapping[str, Any]) -> str:
    given = settings.get("OPTIONS") or {}
    causes = []
    if given.get("init_command"):
        causes.append("OPTIONS['init_command']")
    if facts.has_init_connect:
        causes.append("the server's init_connect")
    if facts.wait_timeout == facts.interactive_timeout_global:
        causes.append("CLIENT_INTERACTIVE (the session has interactive_timeout)")
    causes.append("a connection_created receiver")
    return "; set by " + " or ".join(causes)


def of_connection(
    transport: Transport,
    tls: TlsFacts,
    kernel: tuple[KernelOption, ...],
    cost: Cost,
    evidence: tuple[str, ...],
    options: Options | None,
) -> Iterator[Finding]:
    """`options` is None on the stock backend."""
    for option in kernel:
        if option.asked is not None and not _same(option):
            yield finding(
                "kernel_differs",
                f"{option.name}: asked for {option.asked}, the kernel reports {option.found}.",
            )
    if evidence and (options is None or options.idle_limit is None):
        yield finding("proxy", f"Something is on the way: {'; '.join(evidence)}.")
    if not tls.version:
        return
    # TCP, TLS, greeting and login are some six round trips.
    spent = cost.connect_ms - 6 * cost.ping_ms
    if spent > SLOW_TLS:
        yield finding(
            "tls_connect_cost", f"Opening a connection with TLS takes {cost.connect_ms:.0f} ms."
        )
    if transport.kind == "tcp" and tls.verified == "nothing":
        yield finding("tls_unverified", "The server's certificate is not verified.")


def _same(option: KernelOption) -> bool:
    if option.name == "SO_KEEPALIVE":  # not 1 but some other number on macOS
        return bool(option.asked) == bool(option.found)
    return option.asked == option.found


def without_password(text: str, settings: Mapping[str, Any]) -> str:
    """No driver puts the password into an error, but settings that are mixed up may."""
    given = settings.get("OPTIONS")
    given = given if isinstance(given, Mapping) else {}
    for secret in (settings.get("PASSWORD"), given.get("password"), given.get("passwd")):
        if isinstance(secret, bytes):
            secret = secret.decode(errors="replace")
        if isinstance(secret, str) and secret:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "********", text)
    return text
