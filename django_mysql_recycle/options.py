"""The user's settings: ``DATABASES[alias]["OPTIONS"]["recycle"]``.

Parsing, defaults and every ImproperlyConfigured text are here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from math import inf, isfinite
from numbers import Integral, Real
from random import random
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured

__all__ = [
    "DEFAULT_CONNECT_TIMEOUT",
    "NO_MAX_AGE",
    "MaxAge",
    "Options",
    "PoolOptions",
    "given_options",
    "is_number",
    "max_age_of",
    "path_of",
]

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
                raise ImproperlyConfigured(
                    f"{path_of(alias)}: unknown key {key!r}; the valid keys are {', '.join(valid)}"
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
                why = _NOT_IN_POOL.get(key, f"unknown key; the valid keys are {', '.join(valid)}")
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
    if key in ("liveness_check", "pin_session_state", "recycle_read_only"):
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
