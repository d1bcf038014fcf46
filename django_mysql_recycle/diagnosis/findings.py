"""What the command finds beside the system checks. No function here asks a server or a socket."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..checks.finding import Finding
from ..options import Options
from ..server_facts import ServerFacts
from .kinds import CONNECT_HINTS, KINDS, OTHER_HINT
from .path import Cost, KernelOption, TlsFacts, Transport

__all__ = ["connect_hint", "finding", "of_connection", "of_server", "without_password"]

#: Milliseconds beyond its round trips that opening a connection with TLS may take unreported.
SLOW_TLS = 15


def finding(kind: str, message: str, hint: str | None = None) -> Finding:
    known = KINDS[kind]
    hint = known.hint if hint is None else hint
    return Finding(f"django_mysql_recycle.{kind}", known.level, message, hint)


def connect_hint(code: int | None) -> str:
    return CONNECT_HINTS.get(code or 0, OTHER_HINT)


def of_server(
    facts: ServerFacts, settings: Mapping[str, Any], options: Options | None
) -> Iterator[Finding]:
    """What the system checks do not say of the server. `options`: None on the stock backend."""
    for code, text in facts.refusals:
        yield finding("refused", f"The server refused a query: {code} {text}")
    session, global_ = facts.wait_timeout, facts.wait_timeout_global
    if options is not None and options.idle_limit is None and session is None:
        yield finding("wait_timeout_unknown", "The server does not report its wait_timeout.")
    if None not in (session, global_) and session != global_:
        yield finding(
            "session_differs",
            f"wait_timeout is {session} s in this session and {global_} s globally. "
            f"Possible reasons: {', '.join(_causes(facts, settings))}.",
        )


def _causes(facts: ServerFacts, settings: Mapping[str, Any]) -> Iterator[str]:
    if (settings.get("OPTIONS") or {}).get("init_command"):
        yield "OPTIONS['init_command']"
    if facts.has_init_connect:
        yield "the server's init_connect"
    if facts.wait_timeout == facts.interactive_timeout_global:
        yield "CLIENT_INTERACTIVE (the session has the interactive_timeout)"
    yield "a connection_created receiver"


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
                f"{option.name}: the backend set {option.asked}, but the kernel reports "
                f"{option.found}.",
            )
    if evidence and (options is None or options.idle_limit is None):
        yield finding(
            "proxy",
            f"There is a proxy or an address translation on the way: {'; '.join(evidence)}.",
        )
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
    if option.name == "SO_KEEPALIVE":  # macOS reports another number than 1
        return bool(option.asked) == bool(option.found)
    return option.asked == option.found


def without_password(text: str, settings: Mapping[str, Any]) -> str:
    """No driver puts the password into an error, but an error about mixed-up settings may have it."""
    given = settings.get("OPTIONS")
    given = given if isinstance(given, Mapping) else {}
    for secret in (settings.get("PASSWORD"), given.get("password"), given.get("passwd")):
        if isinstance(secret, bytes):
            secret = secret.decode(errors="replace")
        if isinstance(secret, str) and secret:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "********", text)
    return text
