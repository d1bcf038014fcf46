"""A Django database backend for MySQL and MariaDB that replaces stale connections.

``DATABASES = {"default": {"ENGINE": "django_mysql_recycle", ...}}`` is the whole installation.
"""

from __future__ import annotations

from .drivers import use_driver
from .errors import SessionStateLost
from .events import counters
from .pinning import pinned

__all__ = ["SessionStateLost", "counters", "pinned", "use_driver"]
