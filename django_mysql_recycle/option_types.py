"""The settings for a type checker. What each key means, and its default, is in options.py.

Nothing here is checked when a program runs.
"""

from __future__ import annotations

from typing import TypedDict

__all__ = ["PoolOptions", "RecycleOptions"]


class RecycleOptions(TypedDict, total=False):
    """``OPTIONS["recycle"]`` of an alias."""

    idle_limit: float | None
    jitter: float | None
    liveness_check: bool
    ping_after: float | None
    ping_timeout: float | None
    keepalive: float | None
    network_timeout: float | None
    connect_retries: int | None
    pin_session_state: bool
    recycle_read_only: bool
    failover_timeout: float | None
    require_primary: bool


class PoolOptions(TypedDict, total=False):
    """``OPTIONS["pool"]`` of an alias, unless it is True."""

    max_size: int
    min_size: int
    timeout: float
    max_waiting: int
    max_lifetime: float
    max_idle: float
