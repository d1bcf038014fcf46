"""System checks that need no server: who is checked, and the settings that cannot be used at all.

base.py registers them when Django imports it for an alias, so that plain ``check`` and
``runserver`` show them without INSTALLED_APPS. docs/checks.md describes each. Those that need a
server are in validation.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from ..options import Options, max_age_of, path_of
from .driver import NO_AUTHORITY, driver_findings
from .options import driver_options, option_findings

__all__ = ["check_settings", "settings_findings"]

_OURS = frozenset(field.name for field in fields(Options))

#: Of backends with a pool, in OPTIONS: for a MySQL driver they are unknown arguments.
_OF_POOLS = frozenset({"pool", "pool_pre_ping", "pool_recycle"})

#: Beside OPTIONS, where Django hands them to nobody: what other backends read there.
_OF_OTHERS = frozenset({"recycle", "pool_options", "pool_recycle"})


def check_settings(
    databases: Iterable[str] | None = None,
    **kwargs: Any,  # noqa: ARG001 - Django's signature
) -> list[checks.CheckMessage]:
    """Every alias whose connection is one of this backend's, and settings of ours elsewhere.

    `databases` are those whose servers are asked as well (validation.py).
    """
    asked = frozenset(databases or ())
    from django.db import connections

    messages: list[checks.CheckMessage] = []
    for alias in connections:
        try:
            connection = connections[alias]
        except ImproperlyConfigured:
            continue  # the backend's trouble, which the first use of it will tell
        # Where no alias has loaded base.py it stays unloaded: it needs a driver.
        base = sys.modules.get("django_mysql_recycle.base")
        if base is not None and isinstance(connection, base.RecycleMixin):
            found = settings_findings(alias, connection.settings_dict)
            # Only the connection tells whether there is TLS at all.
            messages += [one for one in found if not (alias in asked and one.id == NO_AUTHORITY)]
        else:
            messages += _on_another_backend(alias, connection.settings_dict)
    return messages


def settings_findings(alias: str, settings: Mapping[str, Any]) -> list[checks.CheckMessage]:
    """What is wrong with one entry of DATABASES, as far as that shows without a server.

    The entry is one of this backend's. Never raises: what cannot be used is a finding, too.
    """
    messages = list(_misplaced(alias, settings))
    try:
        options = Options.of(alias, settings)
        max_age_of(alias, settings)
    except ImproperlyConfigured as error:
        return [*messages, checks.Error(str(error), id="django_mysql_recycle.E001")]
    messages += option_findings(alias, options, settings)
    messages += driver_findings(alias, settings)
    return messages


def _misplaced(alias: str, settings: Mapping[str, Any]) -> Iterator[checks.CheckMessage]:
    for key in driver_options(settings):
        if key in _OURS:
            hint = f"Move it to {path_of(alias, key)}."
        elif key in _OF_POOLS:
            hint = "Remove it: this backend does not pool, and CONN_MAX_AGE is its max age."
        else:
            continue
        yield checks.Error(
            f"DATABASES[{alias!r}]['OPTIONS'][{key!r}]: the driver takes no such argument and "
            "will refuse to connect.",
            hint=hint,
            id="django_mysql_recycle.E002",
        )
    for key in settings:
        if str(key).lower() in _OURS | _OF_OTHERS:
            yield checks.Warning(
                f"DATABASES[{alias!r}][{key!r}] has no effect: nothing reads it there.",
                hint=f"The settings of this backend are in {path_of(alias)}.",
                id="django_mysql_recycle.W013",
            )


def _on_another_backend(alias: str, settings: Mapping[str, Any]) -> Iterator[checks.CheckMessage]:
    given = driver_options(settings).get("recycle")
    if isinstance(given, Mapping) and given.keys() <= _OURS:
        yield checks.Error(
            f"{path_of(alias)} is set, but the ENGINE of this alias is "
            f"{settings.get('ENGINE')!r}, whose driver will refuse the argument.",
            hint=f"Set DATABASES[{alias!r}]['ENGINE'] to 'django_mysql_recycle', or remove it.",
            id="django_mysql_recycle.E003",
        )
