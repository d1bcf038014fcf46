"""What the command finds in facts: nothing here asks anybody."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.core import checks

from ..options import Options
from ..server_facts import ServerFacts
from .kinds import CONNECT_HINTS, ERROR, KINDS, NOTE, OTHER_HINT, WARNING
from .path import Cost, KernelOption, TlsFacts, Transport

__all__ = [
    "Finding",
    "connect_hint",
    "finding",
    "of_check",
    "of_connection",
    "of_server",
    "without_password",
]

#: Milliseconds beyond its round trips that opening a connection with TLS may take untold.
SLOW_TLS = 15


@dataclass(frozen=True, slots=True)
class Finding:
    id: str  #: as system checks have them; SILENCED_SYSTEM_CHECKS is obeyed
    level: str  #: ``error``, ``warning`` or ``note``
    message: str
    hint: str


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
