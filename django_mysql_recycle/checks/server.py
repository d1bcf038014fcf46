"""System checks that need the server: they run with ``check --database`` and with ``migrate``.

Django calls them through the wrapper's ``validation_class``, which needs no INSTALLED_APPS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db.utils import Error

from .. import network_path, server_facts
from ..drivers import choose
from ..drivers.versions import numbers, text
from ..policy import idle_limit_of
from ..server_facts import ServerFacts
from .driver import authority_findings
from .entry import Entry
from .finding import Finding, check

__all__ = ["TLS_HINT", "ServerValidation", "server_findings", "with_server_checks"]

#: The oldest servers that this backend is made for.
OLDEST = {"mariadb": (10, 11), "mysql": (8, 4)}

#: A session ``wait_timeout`` of so many seconds or less ends connections in every short pause.
SHORT = 2

TLS_HINT = (
    "Turn TLS on at the server. If the server offers no TLS, mysqlclient with MariaDB Connector/C "
    "connects without it, even with ssl_mode 'REQUIRED'. With 'VERIFY_CA' or 'VERIFY_IDENTITY' and "
    "OPTIONS['ssl'] = {'ca': ...} it refuses to connect."
)

_TRANSACTION_TIMEOUTS = (
    "idle_transaction_timeout",
    "idle_readonly_transaction_timeout",
    "idle_write_transaction_timeout",
)


class ServerValidation:
    """Adds this backend's checks to those of the validation class that follows it in the MRO."""

    connection: Any

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        # Django's own come first: a server that cannot be reached raises there as it does on
        # the stock backend.
        found = self.inherited(**kwargs)
        return [*found, *(one.as_check() for one in _connection_findings(self.connection))]

    def inherited(self, **kwargs: Any) -> list[checks.CheckMessage]:
        """The checks without this backend's."""
        return list(super().check(**kwargs))  # type: ignore[misc]


@cache
def with_server_checks(theirs: type[Any]) -> type[Any]:
    """The validation class of the wrapper below RecycleMixin, with this backend's in front."""
    if issubclass(theirs, ServerValidation):
        return theirs
    return type(theirs.__name__, (ServerValidation, theirs), {"__module__": __name__})


def _connection_findings(connection: Any) -> list[Finding]:
    entry = Entry(connection.alias, connection.settings_dict)
    try:
        # Closes what it opens, and leaves an open connection open.
        with connection.temporary_connection():
            facts = server_facts.read(connection)
            encrypted = choose().is_encrypted(connection.connection)
            local = network_path.is_unix_socket(choose().descriptor(connection.connection))
        found = server_findings(entry.alias, entry.settings, facts)
    except (Error, ImproperlyConfigured):
        return []  # lost meanwhile, or E001: neither is what `check` was asked about
    if encrypted:
        return [*authority_findings(entry), *found]
    if not local and choose().asks_for_tls(entry.params):
        message = (
            f"The settings of {entry.alias!r} ask for TLS, but the connection is not encrypted: "
            "passwords, statements and rows are sent in clear text."
        )
        return [check("E101", message, TLS_HINT), *found]
    return found


def server_findings(alias: str, settings: Mapping[str, Any], facts: ServerFacts) -> list[Finding]:
    """What is wrong with the server, or with one entry of DATABASES for this server.

    Raises ImproperlyConfigured where the settings cannot be used.
    """
    entry = Entry(alias, settings)
    return [
        *_check_version(entry, facts),
        *_check_idle_limit(entry, facts),
        *_check_age(entry, facts),
        *_check_transaction_timeouts(entry, facts),
        *_check_read_only(entry, facts),
        *_check_pool(entry, facts),
    ]


def _check_version(entry: Entry, facts: ServerFacts) -> Iterator[Finding]:
    oldest = OLDEST.get(facts.vendor)
    found = numbers(facts.version)
    if oldest and found and found < oldest:
        name = "MariaDB" if facts.is_mariadb else "MySQL"
        yield check(
            "W105",
            f"The server of {entry.alias!r} is {name} {facts.version}. This backend is made for "
            f"{text(oldest)} and later.",
            "What each error number proves is known for those versions only. Update the server.",
        )


def _check_idle_limit(entry: Entry, facts: ServerFacts) -> Iterator[Finding]:
    limit = idle_limit_of(facts.wait_timeout, None)
    if limit is None or facts.wait_timeout is None:
        return
    own, ping_after = entry.options.idle_limit, entry.options.ping_after
    if 0 < facts.wait_timeout <= SHORT:
        yield check(
            "W101",
            f"The server of {entry.alias!r} closes a connection that has been idle for "
            f"{facts.wait_timeout} s (wait_timeout). The backend replaces it after {limit} s "
            "already.",
            "Each replacement costs a connect, and a transaction that pauses for that long fails. "
            "Raise wait_timeout at the server, or for this application with "
            "OPTIONS['init_command'] = 'SET SESSION wait_timeout = 600'.",
        )
    because = f"has no effect: the server's wait_timeout is {facts.wait_timeout} s, and"
    if own is not None and own > limit:
        yield check(
            "W102",
            f"{entry.own('idle_limit')} ({own}) {because} the idle limit is therefore {limit:g} s.",
            "The shorter limit counts. Set idle_limit below the limit of your proxy, or remove it. "
            "The setting is in seconds, not in milliseconds.",
        )
    if (
        "ping_after" in entry.given
        and ping_after is not None
        and ping_after >= limit
        and not (own is not None and ping_after >= own)  # W001 says so without a server
    ):
        yield check(
            "W103",
            f"{entry.own('ping_after')} ({ping_after}) {because} a connection that has been idle "
            f"for {limit:g} s is replaced without a ping.",
            "Lower ping_after, or remove it.",
        )


def _check_age(entry: Entry, facts: ServerFacts) -> Iterator[Finding]:
    max_age, wait_timeout = entry.max_age.between_statements, facts.wait_timeout
    if max_age is None or wait_timeout is None or max_age <= wait_timeout:
        return
    if entry.max_age.pool is not None and "max_lifetime" not in entry.pool:
        return  # the user has set nothing
    idle_limit = idle_limit_of(wait_timeout, entry.options.idle_limit)
    name = entry.max_age.setting
    yield check(
        "I101",
        f"{entry.path()}: {name} ({max_age:g}) is longer than the server's wait_timeout "
        f"({wait_timeout}). Only a connection that is used at least every {wait_timeout} s becomes "
        "that old.",
        f"This does no harm: an idle connection is replaced after {idle_limit:g} s. On Django's "
        f"own backend the next statement would fail. Set {name} below wait_timeout, or to None.",
    )


def _check_pool(entry: Entry, facts: ServerFacts) -> Iterator[Finding]:
    pool, most = entry.max_age.pool, facts.max_connections
    if pool is None or most is None:
        return
    clients = facts.clients or 1
    if pool.max_size * clients > most:
        yield check(
            "W106",
            f"{entry.path('OPTIONS', 'pool', 'max_size')} ({pool.max_size}) allows more connections "
            f"than the server of {entry.alias!r} has (max_connections {most}), if each of the "
            f"{clients} machines that are connected now runs one process.",
            "The connections of all processes have to fit: processes x max_size. Lower max_size, or "
            "raise max_connections. Otherwise connecting fails with error 1040.",
        )


def _check_transaction_timeouts(entry: Entry, facts: ServerFacts) -> Iterator[Finding]:
    limits = {name: getattr(facts, name) for name in _TRANSACTION_TIMEOUTS}
    given = ", ".join(f"{name} = {seconds}" for name, seconds in limits.items() if seconds)
    if given:
        yield check(
            "I102",
            f"The server of {entry.alias!r} ends idle transactions ({given}; in seconds): after "
            "that, the next statement in the atomic block fails.",
            "A connection is never replaced inside a transaction. Do slow work before or after the "
            "atomic block.",
        )


def _check_read_only(entry: Entry, facts: ServerFacts) -> Iterator[Finding]:
    if facts.read_only and entry.options.recycle_read_only:
        yield check(
            "W104",
            f"The server of {entry.alias!r} is read-only ({', '.join(facts.read_only)}), and "
            "recycle_read_only is on: each write that the server refuses costs a new connection.",
            f"If this alias is for a read-only replica, set {entry.own('recycle_read_only')} to "
            "False. Otherwise HOST names the wrong node.",
        )
