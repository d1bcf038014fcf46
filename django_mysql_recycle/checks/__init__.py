"""System checks: of the settings, of the driver, and of the server. docs/checks.md describes each.

base.py registers `check_settings` when Django imports it for an alias, so that plain ``check``
and ``runserver`` show its findings without INSTALLED_APPS. Those that need a server are in
server.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from .driver import authority_findings, driver_findings
from .entry import Entry
from .finding import Finding, check
from .packages import package_findings
from .settings import (
    misplaced_findings,
    option_findings,
    other_backend_findings,
    refused_findings,
)

__all__ = ["check_settings", "settings_findings", "takes_options"]

#: Methods of a wrapper through which OPTIONS goes to the driver.
_PASSES_OPTIONS = frozenset({"get_connection_params", "get_new_connection"})


def check_settings(
    databases: Iterable[str] | None = None,
    **kwargs: Any,  # noqa: ARG001 - Django's signature
) -> list[checks.CheckMessage]:
    """Check the settings of each alias on this backend, and look for settings of ours elsewhere.

    `databases` are the aliases whose servers are asked as well (server.py).
    """
    asked = frozenset(databases or ())
    from django.db import connections

    found: list[Finding] = []
    for alias in connections:
        try:
            connection = connections[alias]
        except Exception:
            continue  # the first use of the alias raises it
        # Where no alias has loaded base.py it stays unloaded: it needs a driver.
        base = sys.modules.get("django_mysql_recycle.base")
        if base is not None and isinstance(connection, base.RecycleMixin):
            found += settings_findings(
                alias,
                connection.settings_dict,
                connects=alias in asked,
                takes_options=takes_options(connection),
            )
        else:
            found += other_backend_findings(Entry(alias, connection.settings_dict))
    return [one.as_check() for one in found]


def takes_options(wrapper: Any) -> bool:
    """Whether a class that is neither Django's nor this backend's reads OPTIONS before the driver.

    It may take out keys of its own, which the driver never gets.
    """
    return any(
        not _PASSES_OPTIONS.isdisjoint(vars(base))
        and base.__module__.partition(".")[0] not in ("django", "django_mysql_recycle")
        for base in type(wrapper).__mro__
    )


def settings_findings(
    alias: str,
    settings: Mapping[str, Any],
    *,
    connects: bool = False,
    takes_options: bool = False,
) -> list[Finding]:
    """What is wrong with one entry of DATABASES, as far as that shows without a server.

    The entry is one of this backend's. Never raises: a setting that cannot be used is a finding.
    `connects`: what only a connection shows for certain is left out. `takes_options`: it is not
    known which keys of OPTIONS reach the driver.
    """
    entry = Entry(alias, settings)
    found = [] if takes_options else [*refused_findings(entry)]
    found += misplaced_findings(entry)
    try:
        found += option_findings(entry)
    except ImproperlyConfigured as error:
        return [*found, check("E001", str(error))]
    found += driver_findings(entry)
    if not connects:
        found += authority_findings(entry)
    found += package_findings(entry)
    return found
