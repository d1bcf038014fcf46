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
    #: Further tries if the server refuses a connection for the moment. A count.
    connect_retries: int | None = 1
    #: Never replace a connection that carries session state without an error.
    pin_session_state: bool = True
    #: Leave a node that has turned read-only.
    recycle_read_only: bool = True

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

    @property
    def closes_at_boundary(self) -> bool:
        """Whether every end of a request closes the connection, however old it is."""
        return self.at_boundary is not None and self.between_statements is None

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
        return NO_MAX_AGE
    if not is_number(value):
        raise _improper(f"DATABASES[{alias!r}]['CONN_MAX_AGE']", "seconds or None", _shown(value))
    return MaxAge(float(value), float(value) if value > 0 else None)


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
    elif key in ("ping_timeout", "keepalive", "network_timeout", "idle_limit"):
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
