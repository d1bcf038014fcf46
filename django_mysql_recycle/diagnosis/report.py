"""The report of ``manage.py mysql_recycle``. Its JSON is these dataclasses."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import django
from django.core.exceptions import ImproperlyConfigured

from ..checks.finding import ERROR, WARNING, Finding
from ..drivers import choose
from ..options import MaxAge, Options
from ..policy import idle_limit_of
from ..server_facts import ServerFacts
from . import path
from .path import Cost, KernelOption, TlsFacts, Transport
from .proof import Proof

__all__ = [
    "SCHEMA",
    "AliasReport",
    "Environment",
    "Limit",
    "as_dict",
    "environment",
    "idle_limit",
    "max_age_limit",
]

#: Grows when a key is removed or changes its meaning, and not when one is added.
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Environment:
    """What is the same for all aliases of a process."""

    version: str  #: of this package; empty where it is not installed as a distribution
    python: str
    django: str
    system: str
    driver: path.DriverFacts | None  #: None: none could be chosen
    missing_guards: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Limit:
    seconds: float | None  #: None: no limit
    shortest: float | None  #: with all of the jitter
    reason: str


@dataclass(slots=True)
class AliasReport:
    """``None`` and empty: not known without a connection, or not applicable."""

    alias: str
    engine: str
    guarded: bool  #: on this backend; False: on Django's own
    reachable: bool
    conn_max_age: float | None
    conn_health_checks: bool
    recycle: dict[str, Any] | None  #: the options in force
    pool: dict[str, Any] | None = None  #: the same of the pool; None: there is none
    server: ServerFacts | None = None
    transport: Transport | None = None
    tls: TlsFacts | None = None
    max_age: Limit | None = None
    idle_limit: Limit | None = None
    kernel: tuple[KernelOption, ...] = ()
    cost: Cost | None = None
    findings: tuple[Finding, ...] = ()
    proof: Proof | None = None

    @property
    def is_wrong(self) -> bool:
        return self.has(ERROR, WARNING)

    @property
    def is_proved(self) -> bool:
        return self.proof is not None and self.proof.outcome == "proven"

    def has(self, *levels: str) -> bool:
        """Whether there is a finding of one of these levels."""
        return any(found.level in levels for found in self.findings)


def environment() -> Environment:
    try:
        driver = path.driver_facts(choose())
    except ImproperlyConfigured:
        driver = None
    return Environment(
        version=path.installed_version(),
        python=platform.python_version(),
        django=django.get_version(),
        system=platform.system(),
        driver=driver,
        missing_guards=path.missing_guards(),
    )


def as_dict(
    about: Environment, reports: Sequence[AliasReport], ignored: Mapping[str, str]
) -> dict[str, Any]:
    """The JSON document."""
    return {
        "schema": SCHEMA,
        "ok": not any(report.is_wrong for report in reports),
        "environment": asdict(about),
        "aliases": [asdict(report) for report in reports],
        "ignored": [{"alias": alias, "engine": engine} for alias, engine in ignored.items()],
    }


def max_age_limit(max_age: MaxAge, options: Options | None) -> Limit:
    """`options`: None on the stock backend."""
    seconds, name = max_age.between_statements, max_age.setting
    jitter = 0 if options is None else options.jitter or 0
    if max_age.at_boundary is None:
        reason = f"{name} = None: no limit on age"
    elif seconds is None:
        reason = f"{name} = {max_age.at_boundary:g}: closed at the end of each request"
    elif options is None:
        reason = f"{name}, checked only at both ends of a request"
    elif jitter:
        reason = f"{name}, shortened by up to {jitter:.0%} for each connection (jitter)"
    else:
        reason = name
    return Limit(seconds, max_age.drawn(jitter, lambda: 1), reason)


def idle_limit(wait_timeout: int | None, options: Options | None) -> Limit:
    """`options`: None on the stock backend."""
    if options is None:
        return Limit(None, None, "the stock backend has none")
    own = options.idle_limit
    seconds = idle_limit_of(wait_timeout, own)
    if seconds is None:
        reason = "the server does not report its wait_timeout; the liveness check is left"
    elif wait_timeout is None or seconds == own:
        reason = "OPTIONS['recycle']['idle_limit']"
    else:
        reason = f"wait_timeout {wait_timeout} s less {wait_timeout - seconds:g} s"
    return Limit(seconds, seconds, reason)
