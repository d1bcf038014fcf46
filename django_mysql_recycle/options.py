"""The user's settings: ``DATABASES[alias]["OPTIONS"]["recycle"]``.

Parsing, defaults and every ImproperlyConfigured text are here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from math import inf, isfinite
from numbers import Integral, Real
from random import random
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured

__all__ = [
    "DEFAULT_CONNECT_TIMEOUT",
    "KEYS",
    "NO_MAX_AGE",
    "MaxAge",
    "Options",
    "PoolOptions",
    "given_options",
    "is_number",
    "max_age_of",
    "misplaced_hint",
    "path_of",
    "refused_argument",
]

#: The keys of OPTIONS that are settings of this backend. Django hands the others to the driver.
KEYS = ("recycle", "pool")

#: Seconds for all tries to connect together, unless the user sets ``connect_timeout``
#: (mysqlclient alone waits 135 s for a host that does not answer: measured).
DEFAULT_CONNECT_TIMEOUT = 10


@dataclass(frozen=True, slots=True)
class Options:
    """The settings of one alias. Seconds unless said otherwise; ``None`` is off."""

    #: The user's own limit on idle time, for a proxy or load balancer on the way.
    idle_limit: float | None = None
    #: Share by which each connection's max age is randomly shortened, 0 to 1.
    jitter: float | None = 0.05
    #: Look at the socket before each statement at a safe point.
    liveness_check: bool = True
    #: Idle seconds after which a ping comes before the statement.
    ping_after: float | None = 10
    #: Bound on each round trip of the backend's own; a shorter `read_timeout` of the driver counts.
    ping_timeout: float | None = 5
    #: Seconds without a packet from the peer before the kernel probes it (TCP).
    keepalive: float | None = 10
    #: How long sent data, and probes, may stay unanswered (TCP).
    network_timeout: float | None = 30
    #: Most further tries if the server refuses a connection for the moment. A count.
    connect_retries: int | None = 4
    #: Never replace a connection that has session state without an error.
    pin_session_state: bool = True
    #: Leave a node that has turned read-only.
    recycle_read_only: bool = True
    #: How long writes wait for a node that takes them, after the first one was refused.
    failover_timeout: float | None = 10
    #: Ask each new connection whether its node takes writes, and use no other.
    require_primary: bool = False

    @classmethod
    def of(cls, alias: str, settings: Mapping[str, Any]) -> Options:
        """The settings of `alias`, taken from its entry in DATABASES.

        Raises ImproperlyConfigured naming the setting, what was expected and what was given.
        """
        given = given_options(alias, settings).get("recycle")
        if given is None:
            return _DEFAULTS
        if not isinstance(given, Mapping):
            # A string may be a URL with a password.
            shown = "str" if isinstance(given, str) else _shown(given)
            raise _improper(path_of(alias), "a dict", shown)
        valid = [field.name for field in fields(cls)]
        for key in given:
            if key not in valid:
                similar = _similar(key, valid)
                hint = f"did you mean {similar!r}? " if similar else ""
                raise ImproperlyConfigured(
                    f"{path_of(alias)}: unknown key {key!r}; {hint}"
                    f"the valid keys are {', '.join(valid)}"
                )
        return cls(**{key: _checked(alias, key, value) for key, value in given.items()})

    def within(self, params: Mapping[str, Any]) -> Options:
        """The same, with no `ping_timeout` longer than the driver's `read_timeout`.

        `params`: the driver's parameters.
        """
        limit: Any = params.get("read_timeout")
        if limit is None or not is_number(limit) or not 0 < limit < (self.ping_timeout or inf):
            return self
        return replace(self, ping_timeout=limit)


_DEFAULTS = Options()


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """``OPTIONS["pool"]`` of one alias. The names are psycopg_pool's. Seconds and counts."""

    #: Most connections that this process has open at a time, in use and idle together.
    max_size: int = 10
    #: Idle connections that `max_idle` leaves open. None is opened in advance.
    min_size: int = 0
    #: How long a borrower waits for a connection.
    timeout: float = 10
    #: Most borrowers that wait at a time; 0 is no limit.
    max_waiting: int = 0
    #: Max age of a connection, if CONN_MAX_AGE is not shorter.
    max_lifetime: float = 3600
    #: How long a connection may be idle in the pool before it is closed.
    max_idle: float = 600

    @classmethod
    def of(cls, alias: str, settings: Mapping[str, Any]) -> PoolOptions | None:
        """The settings of the pool of `alias`; None if it has none.

        Raises ImproperlyConfigured naming the setting, what was expected and what was given.
        """
        given = given_options(alias, settings).get("pool")
        if not given and not isinstance(given, Mapping):
            return None
        if given is True:
            return _POOL_DEFAULTS
        known, pool = _pools.get(alias, (None, _POOL_DEFAULTS))
        if known == given:  # which each borrowing of a connection asks
            return pool
        path = f"DATABASES[{alias!r}]['OPTIONS']['pool']"
        if not isinstance(given, Mapping):
            shown = "str" if isinstance(given, str) else _shown(given)
            raise _improper(path, "True, False or a dict", shown)
        valid = [field.name for field in fields(cls)]
        for key in given:
            if key not in valid:
                similar = _similar(key, valid)
                hint = f"did you mean {similar!r}? " if similar else ""
                unknown = f"unknown key; {hint}the valid keys are {', '.join(valid)}"
                why = _NOT_IN_POOL.get(key, unknown)
                raise ImproperlyConfigured(f"{path}[{key!r}]: {why}")
        pool = cls(**{key: _checked_of_pool(f"{path}[{key!r}]", key, given[key]) for key in given})
        if pool.min_size > pool.max_size:
            raise _improper(
                f"{path}['min_size']", f"at most max_size ({pool.max_size})", str(pool.min_size)
            )
        _pools[alias] = (dict(given), pool)
        return pool


_POOL_DEFAULTS = PoolOptions()
_pools: dict[str, tuple[Mapping[str, Any] | None, PoolOptions]] = {}

#: Settings of psycopg_pool that this pool has no use for.
_NOT_IN_POOL = {
    "num_workers": "this pool starts no threads. Remove the key",
    "check": "each connection is checked before its next statement. Remove the key",
    "configure": "use the signal connection_created. Remove the key",
    "reset": "a connection with session state is closed and not reset. Remove the key",
    "reconnect_timeout": "OPTIONS['connect_timeout'] bounds connecting. Remove the key",
    "open": "the pool opens connections when they are wanted. Remove the key",
    "name": "the alias is the name of the pool. Remove the key",
}


def _checked_of_pool(path: str, key: str, value: Any) -> Any:
    expected, suits = "seconds > 0", is_number(value) and value > 0
    if key in ("max_size", "min_size", "max_waiting"):
        least = 1 if key == "max_size" else 0
        expected = f"a whole number >= {least}"
        suits = suits or value == least == 0
        suits = suits and isinstance(value, Integral) and int(value) >= least
    if not suits:
        raise _improper(path, expected, _shown(value))
    return int(value) if isinstance(value, Integral) else float(value)


def given_options(alias: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """OPTIONS of an entry in DATABASES. Raises ImproperlyConfigured where it is no dict."""
    options = settings.get("OPTIONS", {})
    if isinstance(options, Mapping):
        return options
    # The value itself is not shown: it may hold a password.
    kind = "None" if options is None else type(options).__name__
    raise _improper(f"DATABASES[{alias!r}]['OPTIONS']", "a dict", kind)


def path_of(alias: str, key: str | None = None) -> str:
    """The path of a setting as the settings module has it."""
    path = f"DATABASES[{alias!r}]['OPTIONS']['recycle']"
    return path if key is None else f"{path}[{key!r}]"


#: The settings of this backend, by the key of OPTIONS that they are in.
_SETTINGS = {
    "recycle": [field.name for field in fields(Options)],
    "pool": [field.name for field in fields(PoolOptions)],
}

#: Names that users know from other pools and from Django, and what to do about them in OPTIONS.
_MAX_AGE = (
    "Remove it: DATABASES[{alias!r}]['CONN_MAX_AGE'] limits the age of a connection, and in a pool "
    "OPTIONS['pool']['max_lifetime'] as well."
)
_POOL = "Remove it: the settings of the pool of this backend are in OPTIONS['pool']."
_BESIDE = "Move it out of OPTIONS, to DATABASES[{alias!r}][{name!r}]."
_KNOWN_ELSEWHERE = {
    "pool_recycle": _MAX_AGE,
    "pool_pre_ping": "Remove it: this backend checks each connection before a statement anyway.",
    "pool_size": "Set OPTIONS['pool'] = {{'max_size': ...}} instead.",
    "pool_timeout": "Set OPTIONS['pool'] = {{'timeout': ...}} instead.",
    **dict.fromkeys(
        (
            *("echo_pool", "max_connections", "max_conns", "max_overflow", "pool_class"),
            *("pool_options", "pool_reset_on_return", "pool_use_lifo", "poolclass", "use_pool"),
        ),
        _POOL,
    ),
    **dict.fromkeys(
        ("conn_max_age", "conn_health_checks", "atomic_requests", "autocommit"), _BESIDE
    ),
}

#: What Python says of an argument that a function does not have.
_REFUSED = re.compile(
    r"unexpected keyword argument '([^']+)'|'([^']+)' is an invalid keyword argument"
)


def misplaced_hint(alias: str, name: Any) -> str | None:
    """What to do about a key of OPTIONS that the driver does not know.

    None unless the name is that of a setting of this backend, is similar to one, or is well known
    from Django or a connection pool.
    """
    known = _KNOWN_ELSEWHERE.get(str(name).lower())
    if known is not None:
        return known.format(alias=alias, name=str(name).upper())
    if str(name).partition(".")[0] in KEYS:
        return "Call django_mysql_recycle.options_from_url() with the entry made of the URL."
    for key, settings in _SETTINGS.items():
        if name in settings:
            return f"Move it to {_path_in_options(alias, key, name)}."
    if similar := _similar(name, KEYS):
        return f"Did you mean {_path_in_options(alias, similar)}?"
    for key, settings in _SETTINGS.items():
        if similar := _similar(name, settings):
            return f"Did you mean {_path_in_options(alias, key, similar)}?"
    return None


def refused_argument(
    alias: str, params: Mapping[str, Any], error: TypeError, driver: str
) -> ImproperlyConfigured | None:
    """What to raise in the place of the driver's TypeError, if it has refused a misplaced setting.

    `params` are the driver's parameters, `driver` is its name. None if the error has another cause,
    or if the name of the argument means nothing to this backend.
    """
    found = _REFUSED.search(str(error))
    name = None if found is None else found[1] or found[2]
    hint = misplaced_hint(alias, name) if name in params else None
    if hint is None:
        return None
    return ImproperlyConfigured(
        f"{_path_in_options(alias, str(name))}: {driver} has no such argument. {hint}"
    )


def _path_in_options(alias: str, *keys: str) -> str:
    return f"DATABASES[{alias!r}]['OPTIONS']" + "".join(f"[{key!r}]" for key in keys)


def _similar(name: Any, known: Iterable[str]) -> str | None:
    """The name that was probably meant. None if there is none."""
    # The drivers' own timeouts resemble some of ours by up to 0.74.
    found = get_close_matches(str(name).lower().replace("-", "_"), known, 1, cutoff=0.8)
    return found[0] if found else None


class MaxAge(NamedTuple):
    """How old a connection may become, in seconds, and which setting says so."""

    #: The limit at both ends of a request, which Django checks. ``None`` is no limit; 0 or less
    #: closes the connection each time.
    at_boundary: float | None
    #: The limit between two statements, without jitter. ``None`` is no limit.
    between_statements: float | None
    setting: str = "CONN_MAX_AGE"
    #: The settings of the pool, if there is one.
    pool: PoolOptions | None = None

    @property
    def closes_at_boundary(self) -> bool:
        """Whether every end of a request closes the connection, however old it is."""
        return self.at_boundary is not None and self.at_boundary <= 0

    def drawn(self, jitter: float | None, draw: Callable[[], float] = random) -> float | None:
        """The limit between statements for one connection, shortened at random by the jitter."""
        limit = self.between_statements
        return None if limit is None else limit * (1 - (jitter or 0) * draw())


NO_MAX_AGE = MaxAge(None, None)


def max_age_of(alias: str, settings: Mapping[str, Any]) -> MaxAge:
    """The max age of the connections of `alias`. No other code reads ``CONN_MAX_AGE``.

    Raises ImproperlyConfigured.
    """
    value = settings.get("CONN_MAX_AGE", 0)
    if value is None or value == inf:  # Django takes either
        limit = NO_MAX_AGE
    elif not is_number(value):
        raise _improper(f"DATABASES[{alias!r}]['CONN_MAX_AGE']", "seconds or None", _shown(value))
    else:
        limit = MaxAge(float(value), float(value) if value > 0 else None)
    options = settings.get("OPTIONS")
    if not isinstance(options, Mapping) or not options.get("pool"):
        return limit
    pool = PoolOptions.of(alias, settings)
    if pool is None:
        return limit
    # The end of a request returns each connection to the pool, whatever its age.
    own = limit.between_statements
    if own is not None and own < pool.max_lifetime:
        return MaxAge(0.0, own, pool=pool)
    return MaxAge(0.0, pool.max_lifetime, "OPTIONS['pool']['max_lifetime']", pool)


def _checked(alias: str, key: str, value: Any) -> Any:
    expected, suits = "seconds >= 0, or None", is_number(value) and value >= 0
    if key in ("liveness_check", "pin_session_state", "recycle_read_only", "require_primary"):
        if isinstance(value, bool):
            return bool(value)  # a lazy object of Django's, too
        expected, suits = "True or False", False
    elif value is None:
        return None
    elif key == "connect_retries":
        expected, suits = "a whole number >= 0, or None", suits and isinstance(value, Integral)
    elif key == "jitter":
        expected, suits = "a share between 0 and 1, or None", suits and value <= 1
    elif key in ("ping_timeout", "keepalive", "network_timeout", "idle_limit", "failover_timeout"):
        expected, suits = "seconds > 0, or None", suits and value > 0
    if not suits:
        raise _improper(path_of(alias, key), expected, _shown(value))
    return int(value) if isinstance(value, Integral) else float(value)


def is_number(value: Any) -> bool:
    """Whether a setting can be counted with: no bool, NaN or infinity, nothing beyond a float."""
    # By the class it has: Django's lazy objects answer isinstance() for what they stand for, and
    # are none. NumPy's numbers are of the class Real.
    kind: type = type(value)
    try:
        return kind is not bool and issubclass(kind, Real) and isfinite(value)
    except OverflowError:
        return False  # an int beyond a float


def _improper(path: str, expected: str, given: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{path}: expected {expected}, got {given}")


def _shown(value: Any) -> str:
    """A value in an error. Of a long one no more than its type, for it may hold a secret."""
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python converts
        text = ""
    return text if 0 < len(text) <= 40 else type(value).__name__
