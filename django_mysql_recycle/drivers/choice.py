"""Which driver this process uses.

It is chosen once, before Django's MySQL backend is imported, because Django binds it by name
(``import MySQLdb``).
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec

from django.core.exceptions import ImproperlyConfigured

from .interface import Driver
from .mysqlclient import MySQLClient
from .pymysql import PyMySQL

__all__ = ["ENVIRONMENT", "choose", "use_driver"]

#: Environment variable that names the driver: ``mysqlclient`` or ``pymysql``.
ENVIRONMENT = "DJANGO_MYSQL_RECYCLE_DRIVER"

_NAMES = ("mysqlclient", "pymysql")

_chosen: Driver | None = None


def use_driver(name: str) -> None:
    """Choose the driver of this process: ``"mysqlclient"`` or ``"pymysql"``.

    Call it in the settings module. Without it the environment variable
    ``DJANGO_MYSQL_RECYCLE_DRIVER`` decides, and without that mysqlclient is used where it is
    installed, PyMySQL otherwise.

    Raises ImproperlyConfigured for another name, for a driver that is not installed, and if
    Django's MySQL backend has been imported with another driver.
    """
    _use(name, "use_driver()")


def _use(name: str, source: str) -> None:
    """`source`: what has named the driver, for errors."""
    global _chosen
    if name not in _NAMES:
        raise ImproperlyConfigured(f"{source}: expected one of {', '.join(_NAMES)}, got {name!r}")
    bound = _bound()
    if bound is not None and bound != name:
        raise ImproperlyConfigured(
            f"{source}: expected {bound}, because Django's MySQL backend has already been imported "
            f"with it and the driver is chosen once per process; got {name!r}"
        )
    if not _installed(name):
        raise ImproperlyConfigured(
            f"{source}: expected an installed driver, got {name!r}, which cannot be found "
            f"(pip install {'mysqlclient' if name == 'mysqlclient' else 'PyMySQL'})"
        )
    if bound is None and name == "pymysql":
        _stand_in_for_mysqldb()
    elif bound is None:
        _undo_stand_in()
    _chosen = MySQLClient() if name == "mysqlclient" else PyMySQL()


def choose() -> Driver:
    """The driver of this process, chosen now if it has not been."""
    if _chosen is None:
        _use(*_default())
    assert _chosen is not None
    return _chosen


def _default() -> tuple[str, str]:
    if named := os.environ.get(ENVIRONMENT):
        return named, f"environment variable {ENVIRONMENT}"
    present = _bound() or _stand_in()
    for name in (present,) if present else _NAMES:
        if present or _installed(name):
            return name, "the driver in use"
    raise ImproperlyConfigured(
        "django_mysql_recycle needs a MySQL driver: pip install mysqlclient, or pip install PyMySQL"
    )


def _installed(name: str) -> bool:
    if name == "pymysql":
        return find_spec("pymysql") is not None
    if _stand_in() == "pymysql":
        # PyMySQL answers to the name MySQLdb here; look past it.
        return find_spec("_mysql") is not None or _on_path("MySQLdb")
    return find_spec("MySQLdb") is not None


def _on_path(name: str) -> bool:
    from importlib.machinery import PathFinder

    return PathFinder.find_spec(name) is not None


def _stand_in() -> str | None:
    """Who answers to the name MySQLdb, if it has been imported."""
    module = sys.modules.get("MySQLdb")
    if module is None:
        return None
    return "pymysql" if module.__name__.partition(".")[0] == "pymysql" else "mysqlclient"


def _bound() -> str | None:
    """The driver that Django's MySQL backend holds, if it has been imported."""
    backend = sys.modules.get("django.db.backends.mysql.base")
    database = getattr(backend, "Database", None)
    if database is None:
        return None
    name: str = database.__name__
    return "pymysql" if name.partition(".")[0] == "pymysql" else "mysqlclient"


def _stand_in_for_mysqldb() -> None:
    """Let ``import MySQLdb`` give PyMySQL, submodules included.

    Without the submodules ``from MySQLdb.converters import ...`` would load a second copy of
    them, whose exceptions are different classes.
    """
    import_module("pymysql.converters")
    import_module("pymysql.cursors")
    import_module("pymysql.constants.CLIENT")
    import_module("pymysql.constants.FIELD_TYPE")
    for name, module in list(sys.modules.items()):
        if name == "pymysql" or name.startswith("pymysql."):
            sys.modules["MySQLdb" + name[len("pymysql") :]] = module


def _undo_stand_in() -> None:
    """mysqlclient is wanted although PyMySQL was installed under its name."""
    for name, module in list(sys.modules.items()):
        if (name == "MySQLdb" or name.startswith("MySQLdb.")) and module.__name__.startswith(
            "pymysql"
        ):
            del sys.modules[name]
