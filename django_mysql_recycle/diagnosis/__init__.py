"""Look at an alias through connections made for this, which are closed again. Prints nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from ..checks.finding import ERROR, NOTE, WARNING
from ..drivers import choose
from .findings import without_password
from .inquiry import STOCK, Connecting, Inquiry
from .proof import Progress
from .report import AliasReport

__all__ = ["diagnose", "survey"]

#: Engines that are reported even where they cannot be loaded.
_ENGINES = ("django_mysql_recycle", STOCK, "django.contrib.gis.db.backends.mysql")


def survey() -> tuple[list[str], dict[str, str]]:
    """The aliases on MySQL or MariaDB, and the engines of those that are ignored."""
    with suppress(ImproperlyConfigured):
        choose()  # before Django's own backend looks for MySQLdb
    concerned, ignored = [], {}
    for alias in connections:
        engine = str(connections.settings[alias]["ENGINE"])
        try:
            is_mysql = _is_djangos(connections.create_connection(alias))
        except Exception:
            is_mysql = engine.startswith(_ENGINES)
        if is_mysql:
            concerned.append(alias)
        else:
            ignored[alias] = engine
    return concerned, ignored


def diagnose(
    alias: str,
    *,
    with_checks: bool = True,
    progress: Progress | None = None,
    connecting: Connecting | None = None,
) -> AliasReport:
    """The report of one alias; with `progress`, the proof as well.

    `connecting` is called each second while the first connection is being opened.

    Whatever goes wrong with the alias is a finding.
    """
    with _without_logging():
        inquiry = Inquiry(alias, with_checks, progress, connecting)
        inquiry.run()
    shown = [
        replace(found, message=without_password(found.message, inquiry.entry.settings))
        for found in inquiry.found
        if found.id not in django_settings.SILENCED_SYSTEM_CHECKS
    ]
    shown.sort(key=lambda found: (ERROR, WARNING, NOTE).index(found.level))
    inquiry.report.findings = tuple(dict.fromkeys(shown))
    return inquiry.report


def _is_djangos(wrapper: Any) -> bool:
    """Whether it is Django's MySQL wrapper, or made from it: another one has another driver."""
    return any(base.__module__ == f"{STOCK}.base" for base in type(wrapper).__mro__)


@contextmanager
def _without_logging() -> Iterator[None]:
    """What happens to the command's own connections is in the report, and not in the project's log."""
    thread = threading.get_ident()

    def from_elsewhere(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger = logging.getLogger("django_mysql_recycle")
    logger.addFilter(from_elsewhere)
    try:
        yield
    finally:
        logger.removeFilter(from_elsewhere)
