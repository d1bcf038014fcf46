"""System checks that need no server.

base.py registers them when Django imports it for an alias, so that plain ``check`` and
``runserver`` show them without INSTALLED_APPS. docs/checks.md describes each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from .options import Options, max_age_of, path_of

__all__ = ["check_settings"]


def check_settings(**kwargs: Any) -> list[checks.CheckMessage]:  # noqa: ARG001 - Django's signature
    """Every alias whose connection is one of this backend's."""
    from django.db import connections

    from .base import RecycleMixin

    messages: list[checks.CheckMessage] = []
    for alias in connections:
        try:
            connection = connections[alias]
        except ImproperlyConfigured:
            continue  # another backend's trouble, which the first use of it will tell
        if isinstance(connection, RecycleMixin):
            messages += _check(alias, connection.settings_dict)
    return messages


def _check(alias: str, settings: Mapping[str, Any]) -> Iterator[checks.CheckMessage]:
    try:
        options = Options.of(alias, settings)
        max_age = max_age_of(alias, settings)
    except ImproperlyConfigured as error:
        yield checks.Error(str(error), id="django_mysql_recycle.E001")
        return
    given = (settings.get("OPTIONS") or {}).get("recycle") or {}
    yield from _check_pings(alias, options, given)
    yield from _check_bounds(alias, options, settings)
    yield from _check_without_effect(alias, given, settings, max_age)


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
    alias: str, options: Options, settings: Mapping[str, Any]
) -> Iterator[checks.CheckMessage]:
    read_timeout = (settings.get("OPTIONS") or {}).get("read_timeout")
    if (
        isinstance(read_timeout, (int, float))
        and options.ping_timeout is not None
        and 0 < read_timeout < options.ping_timeout
    ):
        yield checks.Warning(
            f"DATABASES[{alias!r}]['OPTIONS']['read_timeout'] ({read_timeout}) is shorter than "
            f"the recycle option 'ping_timeout' ({options.ping_timeout}).",
            hint="A server that is slow for that long ends a statement, which may have run, "
            "but not a ping, which is harmless. Lower ping_timeout to the same value or less.",
            id="django_mysql_recycle.W003",
        )
    if options.ping_timeout is None and options.network_timeout is None and not read_timeout:
        yield checks.Warning(
            f"{path_of(alias)} switches ping_timeout and network_timeout off: on a path that "
            "drops packets in silence a statement waits as long as the kernel does.",
            hint="That is up to a quarter of an hour on Linux. Keep one of them.",
            id="django_mysql_recycle.W004",
        )


def _check_without_effect(
    alias: str,
    given: Mapping[str, Any],
    settings: Mapping[str, Any],
    max_age: float | None,
) -> Iterator[checks.CheckMessage]:
    if str(settings.get("HOST") or "").startswith("/"):
        for key in ("keepalive", "network_timeout"):
            if given.get(key) is not None:
                yield checks.Warning(
                    f"{path_of(alias, key)} has no effect: HOST is a unix socket.",
                    hint="There is no path between the two ends that could drop packets.",
                    id="django_mysql_recycle.W005",
                )
    if given.get("jitter") and max_age is None:
        yield checks.Warning(
            f"{path_of(alias, 'jitter')} has no effect: CONN_MAX_AGE sets no limit on age.",
            hint="Jitter shortens the max age. CONN_MAX_AGE = 0 closes at the end of each "
            "request, None never.",
            id="django_mysql_recycle.W006",
        )
    connect_timeout = (settings.get("OPTIONS") or {}).get("connect_timeout")
    if given.get("connect_retries") and connect_timeout and connect_timeout < 2:
        yield checks.Warning(
            f"{path_of(alias, 'connect_retries')} has no effect: connect_timeout "
            f"({connect_timeout}) leaves no time for another try.",
            hint="All tries together take at most connect_timeout; another one needs a second.",
            id="django_mysql_recycle.W007",
        )
