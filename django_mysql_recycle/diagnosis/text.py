"""The report as text: an aligned table for each alias, and its findings below."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from django.core.management.color import no_style

from ..checks.finding import ERROR, NOTE, WARNING, Finding
from ..server_facts import ServerFacts
from .path import Cost, KernelOption, TlsFacts, Transport
from .proof import Proof
from .report import AliasReport, Environment, Limit

__all__ = [
    "alias_text",
    "environment_text",
    "ignored_text",
    "summary",
    "unproved",
    "verdict_text",
]

#: Columns of the names on the left.
NAMES = 20
#: On a terminal with fewer columns the values begin right after the names.
NARROW = 60

_DRIVERS = {"mysqlclient": "mysqlclient", "pymysql": "PyMySQL"}

Row = tuple[str, str]


def verdict_text(reports: Sequence[AliasReport], style: Any, lacking: str = "") -> str:
    """The first line: whether all is well, or how much is not. `lacking`: of `unproved`."""
    levels = [found.level for report in reports for found in report.findings]
    aliases = "1 alias" if len(reports) == 1 else f"{len(reports)} aliases"
    proved = f"; {style.ERROR(lacking)}" if lacking else ""
    return f"{_counted(levels, style)} ({aliases}){proved}"


def environment_text(about: Environment, width: int) -> str:
    driver = "none could be chosen"
    if about.driver is not None:
        driver = f"{_DRIVERS[about.driver.name]} {about.driver.version}"
        driver += f", {about.driver.library}" if about.driver.library else ""
    rows = [
        ("version", about.version or "unknown"),
        ("driver", driver),
        ("Django, Python", f"{about.django}, {about.python} on {about.system}"),
    ]
    if about.missing_guards:
        rows.append(("not on this system", ", ".join(about.missing_guards)))
    return _table(rows, width)


def alias_text(
    report: AliasReport, style: Any, width: int, levels: Collection[str] | None = None
) -> str:
    """The verdict on one alias, its findings and proof, and below them the facts.

    `style` is Django's, with or without colours. `levels`: the findings of these levels alone.
    """
    state = "" if report.reachable else ", not connected"
    found = [one for one in report.findings if levels is None or one.level in levels]
    levels_found = [one.level for one in report.findings]
    about = f" ({report.engine}{state}):"
    # Colours have no width.
    plain = f"{report.alias}{about} {_counted(levels_found, no_style())}"
    between = " " if len(plain) <= width else "\n  "
    heading = f"{style.MIGRATE_HEADING(report.alias)}{about}{between}"
    lines = [heading + _counted(levels_found, style)]
    lines += [_finding_text(one, style, width) for one in found]
    if levels is None:
        if report.proof is not None:
            lines.append(_table([*_proof(report.proof)], width))
        if rows := [*_rows(report)]:
            lines.append(_table(rows, width))
    return "\n".join(lines)


def ignored_text(ignored: Mapping[str, str], width: int) -> str:
    listed = ", ".join(f"{alias} ({engine})" for alias, engine in ignored.items())
    return "\n".join(wrap(f"Not on MySQL or MariaDB: {listed}", width))


def summary(reports: Sequence[AliasReport], levels: Sequence[str] = (ERROR, WARNING)) -> str:
    """The number of findings of these levels for each alias; empty if there are none."""
    wrong = []
    for report in reports:
        if report.has(*levels):
            found = [one.level for one in report.findings if one.level in levels]
            wrong.append(f"{report.alias}: {_counts(found)}")
    return "; ".join(wrong)


def unproved(reports: Sequence[AliasReport]) -> str:
    """What is missing after ``--prove``. Empty if each alias on this backend has its proof."""
    guarded = [report for report in reports if report.guarded]
    if not guarded:
        return "nothing was proved: no alias is on this backend"
    missing = [report.alias for report in guarded if not report.is_proved]
    return f"not proved: {', '.join(missing)}" if missing else ""


def _counts(levels: Sequence[str]) -> str:
    counts = {level: levels.count(level) for level in (ERROR, WARNING, NOTE) if level in levels}
    return ", ".join(
        f"{count} {level}{'s' if count > 1 else ''}" for level, count in counts.items()
    )


def _counted(levels: Sequence[str], style: Any) -> str:
    for level, paint in ((ERROR, style.ERROR), (WARNING, style.WARNING)):
        if level in levels:
            return str(paint(_counts(levels)))
    notes = f", {_counts(levels)}" if levels else ""
    return f"{style.SUCCESS('ok')}{notes}"


# ##### Rows #####


def _rows(report: AliasReport) -> Iterator[Row]:
    if report.server is not None:
        yield from _server(report.server)
    if report.transport is not None:
        yield "transport", _transport(report.transport)
    if report.tls is not None:
        yield "TLS", _tls(report.tls)
    if report.server is not None:
        yield from _timeouts(report.server)
    if not report.reachable:
        return
    yield "CONN_MAX_AGE", str(report.conn_max_age)
    yield "CONN_HEALTH_CHECKS", str(report.conn_health_checks)
    if report.max_age is not None:
        yield "max age", _limit(report.max_age)
    if report.pool is not None:
        yield "pool", _pool(report.pool)
    if report.idle_limit is not None:
        yield "idle limit", _limit(report.idle_limit)
    yield from _kernel(report.kernel, report.transport)
    if report.cost is not None:
        yield from _cost(report.cost, guarded=report.guarded)


def _server(facts: ServerFacts) -> Iterator[Row]:
    name = "MariaDB" if facts.is_mariadb else "MySQL"
    comment = f" {facts.version_comment}" if facts.version_comment else ""
    where = f", {facts.hostname}:{facts.port}" if facts.hostname else ""
    yield "server", f"{name} {facts.version}{comment}{where}"
    if facts.max_connections is not None:
        yield "max_connections", str(facts.max_connections)


def _transport(transport: Transport) -> str:
    names = {"tcp": "TCP", "socket": "unix socket", "": "unknown"}
    return f"{names[transport.kind]} {transport.address}".rstrip()


def _tls(tls: TlsFacts) -> str:
    if not tls.version:
        return "none"
    verified = {
        "nothing": "certificate not verified",
        "unknown": "whether the certificate is verified is not known",
    }.get(tls.verified, f"{tls.verified} verified")
    return f"{tls.version}, {tls.cipher}, {verified}"


def _timeouts(facts: ServerFacts) -> Iterator[Row]:
    for name in ("wait_timeout", "interactive_timeout"):
        session, global_ = getattr(facts, name), getattr(facts, f"{name}_global")
        yield name, f"{_seconds(session)} in the session, {_seconds(global_)} globally"
    if facts.is_mariadb:
        limits = [
            f"{what} {_seconds(value) if value else 'off' if value == 0 else 'unknown'}"
            for what, value in (
                ("all", facts.idle_transaction_timeout),
                ("read-only", facts.idle_readonly_transaction_timeout),
                ("writing", facts.idle_write_transaction_timeout),
            )
        ]
        yield "idle transactions", ", ".join(limits)


def _limit(limit: Limit) -> str:
    if limit.seconds is None:
        return f"none ({limit.reason})"
    if limit.shortest not in (None, limit.seconds):
        return f"{limit.shortest:g} to {limit.seconds:g} s ({limit.reason})"
    return f"{limit.seconds:g} s ({limit.reason})"


def _pool(pool: Mapping[str, Any]) -> str:
    return (
        f"{pool['max_size']} connections at most in this process, {pool['min_size']} kept open; "
        f"a connection is waited for {pool['timeout']:g} s"
    )


def _kernel(kernel: tuple[KernelOption, ...], transport: Transport | None) -> Iterator[Row]:
    if transport is not None and transport.kind == "socket":
        yield "keepalive", "none on a unix socket"
        return
    found = {option.name: option.found for option in kernel}
    if not found:
        return
    keepalive = "on" if found.get("SO_KEEPALIVE") else "off"
    if keepalive == "on" and "TCP_KEEPIDLE" in found:
        first, pause, count = (found[f"TCP_KEEP{name}"] for name in ("IDLE", "INTVL", "CNT"))
        keepalive = f"after {first} s, every {pause} s, {count} times"
    yield "keepalive", f"{keepalive} (kernel)"
    if "TCP_USER_TIMEOUT" in found:
        milliseconds = found["TCP_USER_TIMEOUT"]
        limit = f"{milliseconds / 1000:g} s" if milliseconds else "as long as the kernel retries"
        yield "network timeout", f"{limit} (kernel)"


def _cost(cost: Cost, *, guarded: bool) -> Iterator[Row]:
    yield "connect", f"{cost.connect_ms:.1f} ms"
    yield "ping", f"{cost.ping_ms:.3f} ms, a round trip"
    if cost.liveness_check_us is None:
        yield "liveness check", "not on this system"
    elif guarded:
        look = cost.liveness_check_us
        times = f"{cost.ping_ms * 1000 / look if look else 0:.0f} times"
        yield "liveness check", f"{look:.1f} us, no round trip (a ping costs {times} that)"


def _proof(proof: Proof) -> Iterator[Row]:
    yield "proof", f"{proof.outcome}: {proof.explanation}"
    by = "something on the way" if proof.waited < proof.wait_timeout - 0.1 else "the server"
    end = {True: f", then closed by {by}", False: ", not closed", None: ""}[proof.closed]
    yield "", f"wait_timeout {proof.wait_timeout} s, {proof.waited:.1f} s idle{end}"
    if proof.next_ms is not None:
        reason = f" (recycled: {proof.reason})" if proof.reason else ""
        normal = f"a normal one {proof.statement_ms:.2f} ms"
        yield "", f"next statement {proof.next_ms:.1f} ms{reason}, {normal}"


def _seconds(value: int | None) -> str:
    return "unknown" if value is None else f"{value} s"


# ##### Layout #####


def _table(rows: list[Row], width: int) -> str:
    lines: list[str] = []
    for name, value in rows:
        lines += _row(name, value, width)
    return "\n".join(lines)


def _row(name: str, value: str, width: int) -> list[str]:
    if width >= NARROW:
        return _hanging(f"  {name:<{NAMES}}", value, width)
    return _hanging(f"  {name}: " if name else "    ", value, width, indent=4)


def _finding_text(found: Finding, style: Any, width: int) -> str:
    # Django's style has no name for a note, and its NOTICE is red.
    paint: Callable[[str], str] = {ERROR: style.ERROR, WARNING: style.WARNING}.get(
        found.level, style.HTTP_NOT_MODIFIED
    )
    lines = _row(found.level, f"{found.message} ({found.id})", width)
    lines[0] = re.sub(r"\w+", lambda word: paint(word[0]), lines[0], count=1)
    if found.hint:
        lines += _row("", found.hint, width)
    return "\n".join(lines)


def _hanging(first: str, text: str, width: int, indent: int | None = None) -> list[str]:
    """Lines of which the first begins with `first`, and the others with as many blanks."""
    # Words that are longer than a line, such as the path of a socket, stay whole.
    return wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=" " * (len(first) if indent is None else indent),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [first]
