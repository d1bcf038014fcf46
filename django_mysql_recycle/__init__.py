"""A Django database backend for MySQL and MariaDB that replaces stale connections.

``DATABASES = {"default": {"ENGINE": "django_mysql_recycle", ...}}`` is the whole installation.
"""

from __future__ import annotations

from .drivers import use_driver
from .errors import PoolClosed, PoolTimeout, SessionStateLost, TooManyRequests
from .events import counters
from .pinning import pinned
from .retrying import retry_transaction, run_transaction
from .what_ran import may_have_run

__all__ = [
    "PoolClosed",
    "PoolTimeout",
    "SessionStateLost",
    "TooManyRequests",
    "counters",
    "may_have_run",
    "pinned",
    "retry_transaction",
    "run_transaction",
    "use_driver",
]
