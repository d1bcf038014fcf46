"""System checks of settings that cannot be used, contradict each other or have no effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields

from ..drivers import choose
from ..network_path import LINUX_GIVES_UP, LINUX_PROBES
from ..options import KEYS, Options, misplaced_hint
from .entry import Entry
from .finding import Finding, check

__all__ = ["misplaced_findings", "option_findings", "other_backend_findings", "refused_findings"]

_OURS = frozenset(field.name for field in fields(Options))

#: What other backends read beside OPTIONS, which Django passes to no driver.
_OF_OTHERS = frozenset({"recycle", "pool_options", "pool_recycle"})


def refused_findings(entry: Entry) -> Iterator[Finding]:
    """Settings of this backend, or of others, which the driver refuses."""
    driver = choose()
    for key in entry.params:
        if key in KEYS or driver.takes(key):
            continue
        if hint := misplaced_hint(entry.alias, key):
            yield check(
                "E002",
                f"{entry.path('OPTIONS', key)}: {driver.name} has no such argument, so that "
                "connecting fails.",
                hint,
            )


def misplaced_findings(entry: Entry) -> Iterator[Finding]:
    """Settings of this backend, or of others, where they have no effect."""
    for key in entry.settings:
        if str(key).lower() in _OURS | _OF_OTHERS:
            yield check(
                "W013",
                f"{entry.path(key)} has no effect: neither Django nor this backend reads a "
                "setting there.",
                f"The settings of this backend belong in {entry.own()}.",
            )


def other_backend_findings(entry: Entry) -> Iterator[Finding]:
    """Settings of this backend for an alias on another one."""
    given = entry.params.get("recycle")
    if isinstance(given, Mapping) and given.keys() <= _OURS:
        yield check(
            "E003",
            f"{entry.own()} is set, but the ENGINE of this alias is "
            f"{entry.settings.get('ENGINE')!r}. Its driver does not know the argument 'recycle', "
            "so that connecting fails.",
            f"Set {entry.path('ENGINE')} to 'django_mysql_recycle', or remove 'recycle'.",
        )


def option_findings(entry: Entry) -> Iterator[Finding]:
    """Contradictions in one entry of DATABASES. Raises ImproperlyConfigured."""
    max_age = entry.max_age  # before anything is found in settings that cannot be used
    yield from _check_pings(entry)
    yield from _check_bounds(entry)
    yield from _check_what_the_system_does_anyway(entry)
    if entry.given.get("jitter") and max_age.between_statements is None:
        yield check(
            "W006",
            f"{entry.own('jitter')} has no effect, because {max_age.setting} sets no limit on the "
            "age of a connection.",
            f"The jitter shortens the max age at random. With {max_age.setting} = 0 the end of each "
            "request closes the connection, and with None its age is not limited.",
        )
    max_idle, idle_limit = entry.pool.get("max_idle"), entry.options.idle_limit
    if max_idle is not None and idle_limit is not None and max_idle > idle_limit:
        yield check(
            "W015",
            f"{entry.path('OPTIONS', 'pool', 'max_idle')} ({max_idle}) has no effect, because "
            f"{entry.own('idle_limit')} ({idle_limit}) is shorter.",
            "A connection that has been idle for longer than idle_limit is not used any more. Set "
            "max_idle to idle_limit or less, or remove it.",
        )
    connect_timeout = entry.seconds("connect_timeout")
    if entry.given.get("connect_retries") and connect_timeout and connect_timeout < 2:
        yield check(
            "W007",
            f"{entry.own('connect_retries')} has no effect, because 'connect_timeout' "
            f"({connect_timeout}) leaves no time for a second try.",
            "All tries to connect together take at most connect_timeout, and each further try "
            "needs a second. Set connect_timeout to 2 or more.",
        )
    if entry.settings.get("AUTOCOMMIT") is False:
        yield check(
            "I002",
            f"{entry.path('AUTOCOMMIT')} is False: every statement is part of a transaction, and a "
            "connection can be replaced only right after COMMIT or ROLLBACK.",
            "Where the application pauses at any other place for longer than wait_timeout, the "
            "next statement fails. Leave AUTOCOMMIT on, and use atomic() where you want a "
            "transaction.",
        )


def _check_pings(entry: Entry) -> Iterator[Finding]:
    ping_after, idle_limit = entry.options.ping_after, entry.options.idle_limit
    if (
        "ping_after" in entry.given
        and ping_after is not None
        and idle_limit is not None
        and ping_after >= idle_limit
    ):
        yield check(
            "W001",
            f"{entry.own('ping_after')} ({ping_after}) is not shorter than 'idle_limit' "
            f"({idle_limit}), so that no ping is ever sent.",
            "A connection that has been idle for idle_limit is replaced without a ping. Set "
            "ping_after to less than idle_limit, or to None.",
        )
    if not entry.options.liveness_check and ping_after is None and idle_limit is None:
        yield check(
            "W002",
            f"{entry.own()} switches off the liveness check and the pings, and sets no idle_limit: "
            "only the server's wait_timeout is left to show that a connection is stale.",
            "After a KILL, a restart of the server or the timeout of a proxy, a statement of the "
            "application fails. Leave liveness_check on: it sends nothing to the server.",
        )


def _check_bounds(entry: Entry) -> Iterator[Finding]:
    read_timeout = entry.seconds("read_timeout")
    own = entry.given.get("ping_timeout")
    if own is not None and read_timeout and 0 < read_timeout < own:
        yield check(
            "W003",
            f"{entry.own('ping_timeout')} ({own}) has no effect, because the driver's "
            f"'read_timeout' ({read_timeout}) is shorter.",
            "The shorter of the two bounds the pings and Django's health check. Set ping_timeout "
            "to read_timeout or less, or remove it.",
        )
    options = entry.options
    if options.ping_timeout is None and options.network_timeout is None and not read_timeout:
        yield check(
            "W004",
            f"{entry.own()} switches off ping_timeout and network_timeout: where the network drops "
            "packets, a statement waits until the kernel gives up.",
            "On Linux that takes up to 15 minutes. Leave at least one of the two on.",
        )


def _check_what_the_system_does_anyway(entry: Entry) -> Iterator[Finding]:
    limits = {
        "ping_timeout": LINUX_GIVES_UP,
        "network_timeout": LINUX_GIVES_UP,
        "keepalive": LINUX_PROBES,
    }
    for key, limit in limits.items():
        seconds = entry.given.get(key)
        if seconds is not None and seconds > limit:
            does = "sends a probe" if key == "keepalive" else "gives up"
            yield check(
                "W012",
                f"{entry.own(key)} ({seconds}) has no effect: without it the operating system "
                f"{does} after {limit} s at the latest (the default of Linux).",
                "The setting is in seconds, not in milliseconds. None leaves it to the operating "
                "system.",
            )
