"""Which version of a driver is installed, whatever it was made to say of itself.

PyMySQL stands in for mysqlclient, and people make it claim a version for Django's sake. What
counts here is the installed distribution.
"""

from __future__ import annotations

import re
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from django.core.exceptions import ImproperlyConfigured

__all__ = ["explained", "false_claim", "installed", "is_connector_c", "numbers", "text"]

OLDEST = {"mysqlclient": (2, 2, 1), "pymysql": (1, 2)}
PACKAGES = {"mysqlclient": "mysqlclient", "pymysql": "PyMySQL"}

#: What Django 6.0 and 6.1 ask ``MySQLdb.version_info`` for; 5.2 asks for (1, 4, 3).
_DJANGO_ASKS = (2, 2, 1)


def installed(name: str) -> str | None:
    """The version of the driver's distribution, or None where it was installed without one."""
    try:
        return version(PACKAGES[name])
    except PackageNotFoundError:
        return None


def numbers(text: str) -> tuple[int, ...]:
    """``"2.2.1rc1"`` is (2, 2, 1)."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def false_claim(name: str) -> tuple[Any, ...] | None:
    """What PyMySQL was made to claim, if that is less than Django 6 asks for.

    PyMySQL 1.2 claims enough by itself: https://github.com/PyMySQL/PyMySQL/blob/v1.2.4/pymysql/__init__.py
    """
    if name != "pymysql":
        return None
    claimed = getattr(import_module("pymysql"), "version_info", None)
    return claimed if isinstance(claimed, tuple) and claimed[:3] < _DJANGO_ASKS else None


def explained(name: str, error: ImproperlyConfigured) -> ImproperlyConfigured:
    """Django's refusal to import its MySQL backend, in the words of what is behind it."""
    claimed = false_claim(name)
    if claimed is None:
        return error
    found = installed(name) or "of unknown version"
    if numbers(found) < OLDEST[name]:
        return ImproperlyConfigured(
            f"{error} The driver is PyMySQL {found}; Django takes PyMySQL "
            f"{text(OLDEST[name])} and later."
        )
    return ImproperlyConfigured(
        f"{error} The driver is PyMySQL {found}, which Django would take, but pymysql.version_info "
        f"has been set to {claimed}: remove that line from the settings."
    )


def is_connector_c() -> bool:
    """Whether mysqlclient is built on MariaDB Connector/C, and not on Oracle's libmysqlclient."""
    found = numbers(str(import_module("MySQLdb").get_client_info()))
    # Connector/C counts from 2 to 3, or calls itself by the MariaDB server it came with.
    return found[:1] in ((2,), (3,)) or found >= (10,)
