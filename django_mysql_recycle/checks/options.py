"""System checks of settings that contradict each other or do nothing. They need no server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.core import checks

from ..options import Options, is_number, max_age_of, path_of

__all__ = ["driver_options", "option_findings", "own_settings"]

#: Seconds after which Linux gives up by itself: 15 retransmissions of sent data, and the first
#: keepalive probe (tcp(7): tcp_retries2, tcp_keepalive_time).
KERNEL_GIVES_UP = 924
KERNEL_PROBES = 7200


def option_findings(
    alias: str, options: Options, settings: Mapping[str, Any]
) -> Iterator[checks.CheckMessage]:
    """Contradictions in one entry of DATABASES."""
    given = own_settings(settings)
    yield from _check_pings(alias, options, given)
    yield from _check_bounds(alias, options, given, settings)
    yield from _check_as_long_as_the_system(alias, given)
    yield from _check_age(alias, given, settings)
    if settings.get("AUTOCOMMIT") is False:
        yield checks.Info(
            f"DATABASES[{alias!r}]['AUTOCOMMIT'] is False: every statement is part of a "
            "transaction, and a connection is replaced right after COMMIT or ROLLBACK only.",
            hint="A pause anywhere else that is longer than wait_timeout ends in an error. Use "
            "atomic() where a transaction is wanted, and leave AUTOCOMMIT on.",
            id="django_mysql_recycle.I002",
        )


def own_settings(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the user has set in OPTIONS['recycle']."""
    given: Mapping[str, Any] = driver_options(settings).get("recycle") or {}
    return given


def driver_options(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """OPTIONS; empty where it is no dict, which `Options.of` refuses."""
    options = settings.get("OPTIONS")
    return options if isinstance(options, Mapping) else {}


def _seconds(value: Any) -> float | None:
    """A driver's timeout as it was given, if it is one: the driver judges what else there is."""
    return value if is_number(value) else None


def _check_pings(
    alias: str, options: Options, given: Mapping[str, Any]
) -> Iterator[checks.CheckMessage]:
    if (
        "ping_after" in given
        and options.ping_after is not None
        and options.idle_limit is not None
        and options.ping_after >= options.idle_limit
    ):
        yield checks.Warning(
            f"{path_of(alias, 'ping_after')} ({options.ping_after}) is not shorter than "
            f"'idle_limit' ({options.idle_limit}): no ping will ever come before a statement.",
            hint="A connection that has been idle for that long is recycled first. Lower "
            "ping_after, or set it to None to say so.",
            id="django_mysql_recycle.W001",
        )
    if not options.liveness_check and options.ping_after is None and options.idle_limit is None:
        yield checks.Warning(
            f"{path_of(alias)} switches the liveness check and the pings off and sets no "
            "idle_limit: only the server's wait_timeout is left.",
            hint="A KILL, a restart or a proxy's own limit will be met by the application's "
            "statement. Leave liveness_check on: it costs no round trip.",
            id="django_mysql_recycle.W002",
        )


def _check_bounds(
    alias: str, options: Options, given: Mapping[str, Any], settings: Mapping[str, Any]
) -> Iterator[checks.CheckMessage]:
    read_timeout = _seconds(driver_options(settings).get("read_timeout"))
    own = given.get("ping_timeout")
    if own is not None and read_timeout and 0 < read_timeout < own:
        yield checks.Warning(
            f"{path_of(alias, 'ping_timeout')} ({own}) has no effect: the driver's 'read_timeout' "
            f"({read_timeout}) is shorter.",
            hint="The shorter one bounds pings, the health check and the like. Lower ping_timeout "
            "to the same value or less, or remove it.",
            id="django_mysql_recycle.W003",
        )
    if options.ping_timeout is None and options.network_timeout is None and not read_timeout:
        yield checks.Warning(
            f"{path_of(alias)} switches ping_timeout and network_timeout off: on a path that "
            "drops packets in silence a statement waits as long as the kernel does.",
            hint="That is up to a quarter of an hour on Linux. Keep one of them.",
            id="django_mysql_recycle.W004",
        )


def _check_as_long_as_the_system(
    alias: str, given: Mapping[str, Any]
) -> Iterator[checks.CheckMessage]:
    limits = {
        "ping_timeout": KERNEL_GIVES_UP,
        "network_timeout": KERNEL_GIVES_UP,
        "keepalive": KERNEL_PROBES,
    }
    for key, limit in limits.items():
        seconds = given.get(key)
        if seconds is not None and seconds > limit:
            yield checks.Warning(
                f"{path_of(alias, key)} ({seconds}) bounds nothing: without it the system waits "
                f"{limit} s at most by itself (Linux, as it comes).",
                hint="It is in seconds, not in milliseconds. None leaves it to the system.",
                id="django_mysql_recycle.W012",
            )


def _check_age(
    alias: str, given: Mapping[str, Any], settings: Mapping[str, Any]
) -> Iterator[checks.CheckMessage]:
    limit = max_age_of(alias, settings)
    if given.get("jitter") and limit.between_statements is None:
        yield checks.Warning(
            f"{path_of(alias, 'jitter')} has no effect: {limit.setting} sets no limit on age.",
            hint="Jitter shortens the max age. CONN_MAX_AGE = 0 closes at the end of each "
            "request, None never.",
            id="django_mysql_recycle.W006",
        )
    connect_timeout = _seconds(driver_options(settings).get("connect_timeout"))
    if given.get("connect_retries") and connect_timeout and connect_timeout < 2:
        yield checks.Warning(
            f"{path_of(alias, 'connect_retries')} has no effect: connect_timeout "
            f"({connect_timeout}) leaves no time for another try.",
            hint="All tries together take at most connect_timeout; another one needs a second.",
            id="django_mysql_recycle.W007",
        )
