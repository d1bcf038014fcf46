"""A Django database backend for MySQL and MariaDB that replaces stale connections.

``DATABASES = {"default": {"ENGINE": "django_mysql_recycle", ...}}`` is the whole installation.
"""

from __future__ import annotations

from .database_url import options_from_url
from .drivers import use_driver
from .errors import PoolClosed, PoolTimeout, SessionStateLost, TooManyRequests
from .events import counters
from .inspection import ConnectionInfo, inspect_connection
from .option_types import PoolOptions, RecycleOptions
from .pinning import pinned
from .retrying import retry_transaction, run_transaction
from .what_ran import may_have_run

__all__ = [
    "ConnectionInfo",
    "PoolClosed",
    "PoolOptions",
    "PoolTimeout",
    "RecycleOptions",
    "SessionStateLost",
    "TooManyRequests",
    "counters",
    "inspect_connection",
    "may_have_run",
    "options_from_url",
    "pinned",
    "retry_transaction",
    "run_transaction",
    "use_driver",
]
