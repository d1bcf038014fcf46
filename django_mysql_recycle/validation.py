"""System checks that need the server: they run with ``check --database`` and with ``migrate``.

Django reaches them through the wrapper's ``validation_class``, which needs no INSTALLED_APPS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db.utils import Error

from . import network_path, server_facts
from .checks.driver import authority_findings
from .drivers import choose
from .drivers.versions import numbers, text
from .options import Options, max_age_of, path_of
from .policy import idle_limit_of
from .server_facts import ServerFacts

__all__ = ["ServerValidation", "server_findings", "tls_findings", "with_server_checks"]

#: The oldest that this backend is made for.
OLDEST = {"mariadb": (10, 11), "mysql": (8, 4)}

#: A session ``wait_timeout`` of so many seconds ends connections in every pause for thought.
SHORT = 2

_TRANSACTION_TIMEOUTS = (
    "idle_transaction_timeout",
    "idle_readonly_transaction_timeout",
    "idle_write_transaction_timeout",
)


class ServerValidation:
    """Adds this backend's checks to those of the validation class it stands in front of."""

    connection: Any

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        # Django's own come first: a server that cannot be reached raises there as it does on
        # the stock backend.
        found: list[checks.CheckMessage] = list(super().check(**kwargs))  # type: ignore[misc]
        connection = self.connection
        try:
            # Closes what it opens, and leaves an open connection open.
            with connection.temporary_connection():
                facts = server_facts.read(connection)
                encrypted = choose().is_encrypted(connection.connection)
                local = network_path.is_unix_socket(choose().descriptor(connection.connection))
            found += tls_findings(
                connection.alias, connection.settings_dict, encrypted=encrypted, local=local
            )
            found += server_findings(connection.alias, connection.settings_dict, facts)
        except (Error, ImproperlyConfigured):
            pass  # lost meanwhile, or E001: neither is what `check` was asked about
        return found


@cache
def with_server_checks(theirs: type[Any]) -> type[Any]:
    """The validation class of the wrapper below RecycleMixin, whoever wrote it, with ours in front."""
    if issubclass(theirs, ServerValidation):
        return theirs
    return type(theirs.__name__, (ServerValidation, theirs), {"__module__": __name__})


def server_findings(
    alias: str, settings: Mapping[str, Any], facts: ServerFacts
) -> list[checks.CheckMessage]:
    """What one entry of DATABASES and its server make of each other.

    Raises ImproperlyConfigured where the settings cannot be used.
    """
    options = Options.of(alias, settings)
    given = (settings.get("OPTIONS") or {}).get("recycle") or {}
    return [
        *_check_version(alias, facts),
        *_check_short(alias, facts),
        *_check_idle_limit(alias, options, given, facts),
        *_check_age(alias, settings, options, facts),
        *_check_transaction_timeouts(alias, facts),
        *_check_read_only(alias, options, facts),
    ]


def tls_findings(
    alias: str, settings: Mapping[str, Any], *, encrypted: bool, local: bool
) -> list[checks.CheckMessage]:
    """What an open connection makes of the settings for TLS. `local`: it is a unix socket."""
    if encrypted:
        mysqlclient = choose().name == "mysqlclient"
        return list(authority_findings(alias, settings)) if mysqlclient else []
    if local or not choose().asks_for_tls(settings.get("OPTIONS") or {}):
        return []
    return [
        checks.Error(
            f"The settings of {alias!r} ask for TLS, and the connection is not encrypted: "
            "passwords, statements and rows are sent in the clear.",
            hint="Turn TLS on at the server. mysqlclient on MariaDB Connector/C goes on without it "
            "where the server offers none, ssl_mode 'REQUIRED' or not; with 'VERIFY_CA' or "
            "'VERIFY_IDENTITY' and OPTIONS['ssl'] = {'ca': ...} it refuses.",
            id="django_mysql_recycle.E101",
        )
    ]


def _check_version(alias: str, facts: ServerFacts) -> Iterator[checks.CheckMessage]:
    oldest = OLDEST.get(facts.vendor)
    found = numbers(facts.version)
    if oldest and found and found < oldest:
        name = "MariaDB" if facts.is_mariadb else "MySQL"
        yield checks.Warning(
            f"The server of {alias!r} is {name} {facts.version}: this backend is made for "
            f"{text(oldest)} and later.",
            hint="Which error proves what is known for those versions alone. Update the server.",
            id="django_mysql_recycle.W105",
        )


def _check_short(alias: str, facts: ServerFacts) -> Iterator[checks.CheckMessage]:
    if facts.wait_timeout is not None and 0 < facts.wait_timeout <= SHORT:
        limit = idle_limit_of(facts.wait_timeout, None)
        yield checks.Warning(
            f"The server of {alias!r} closes a connection after {facts.wait_timeout} s of silence "
            f"(wait_timeout): connections are replaced after {limit} s, over and over.",
            hint="Each costs a connect, and a transaction that pauses for that long is lost. "
            "Raise wait_timeout at the server, or for this application with "
            "OPTIONS['init_command'] = 'SET SESSION wait_timeout = 600'.",
            id="django_mysql_recycle.W101",
        )


def _check_idle_limit(
    alias: str, options: Options, given: Mapping[str, Any], facts: ServerFacts
) -> Iterator[checks.CheckMessage]:
    limit = idle_limit_of(facts.wait_timeout, None)
    if limit is None:
        return
    if options.idle_limit is not None and options.idle_limit > limit:
        yield checks.Warning(
            f"{path_of(alias, 'idle_limit')} ({options.idle_limit}) has no effect: the server's "
            f"wait_timeout is {facts.wait_timeout} s, which makes the idle limit {limit:g} s.",
            hint="The shorter one counts. Lower idle_limit below what the proxy allows, or "
            "remove it. Seconds, not milliseconds.",
            id="django_mysql_recycle.W102",
        )
    own = options.idle_limit
    if (
        "ping_after" in given
        and options.ping_after is not None
        and options.ping_after >= limit
        and not (own is not None and options.ping_after >= own)  # W001 says so without a server
    ):
        yield checks.Warning(
            f"{path_of(alias, 'ping_after')} ({options.ping_after}) has no effect: the server's "
            f"wait_timeout is {facts.wait_timeout} s, and a connection that has been idle for "
            f"{limit:g} s is replaced without a ping.",
            hint="Lower ping_after, or remove it.",
            id="django_mysql_recycle.W103",
        )


def _check_age(
    alias: str, settings: Mapping[str, Any], options: Options, facts: ServerFacts
) -> Iterator[checks.CheckMessage]:
    limit = max_age_of(alias, settings)
    max_age = limit.between_statements
    if max_age is None or facts.wait_timeout is None or max_age <= facts.wait_timeout:
        return
    idle_limit = idle_limit_of(facts.wait_timeout, options.idle_limit)
    yield checks.Info(
        f"DATABASES[{alias!r}]: {limit.setting} ({max_age:g}) is longer than the server lets a "
        f"connection be silent (wait_timeout {facts.wait_timeout}): only one that is used more "
        "often than that becomes so old.",
        hint=f"With this backend that does no harm: a silent one is replaced after {idle_limit:g} s. "
        "With Django's own the next statement would fail. Set CONN_MAX_AGE below wait_timeout, "
        "or to None.",
        id="django_mysql_recycle.I101",
    )


def _check_transaction_timeouts(alias: str, facts: ServerFacts) -> Iterator[checks.CheckMessage]:
    set_ = {name: getattr(facts, name) for name in _TRANSACTION_TIMEOUTS}
    told = ", ".join(f"{name} = {seconds}" for name, seconds in set_.items() if seconds)
    if told:
        yield checks.Info(
            f"The server of {alias!r} ends transactions that are silent ({told}; seconds): the "
            "next statement in such an atomic block raises.",
            hint="A connection is never replaced inside a transaction. Do what takes time "
            "before the block or after it.",
            id="django_mysql_recycle.I102",
        )


def _check_read_only(
    alias: str, options: Options, facts: ServerFacts
) -> Iterator[checks.CheckMessage]:
    if facts.read_only and options.recycle_read_only:
        yield checks.Warning(
            f"The server of {alias!r} is read-only ({', '.join(facts.read_only)}), and "
            "recycle_read_only is on: each write that it refuses costs a new connection.",
            hint=f"A replica on purpose: set {path_of(alias, 'recycle_read_only')} to False. "
            "Otherwise HOST names the wrong node.",
            id="django_mysql_recycle.W104",
        )
