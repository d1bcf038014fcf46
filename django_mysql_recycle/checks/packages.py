"""System check of other packages that look up the name of the ENGINE in a list of their own.

docs/other-packages.md describes them. A package that asks for ``connection.vendor``, or whether
"mysql" is a part of the name, needs no setting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from django.apps import apps
from django.conf import settings

from .entry import Entry
from .finding import Finding, check

__all__ = ["package_findings"]


class Package(NamedTuple):
    app: str  #: the name in INSTALLED_APPS
    name: str  #: as it is installed
    effect: str  #: what it does with an ENGINE that it does not know
    hint: str  #: the setting that makes it known
    #: Whether the settings of the project make the ENGINE of an alias known to it.
    knows: Callable[[str, str], bool]


def _setting(name: str) -> Any:
    return getattr(settings, name, None) or ()


def _dbbackup_knows(alias: str, engine: str) -> bool:
    connectors = _setting("DBBACKUP_CONNECTORS") or {}
    return engine in _setting("DBBACKUP_CONNECTOR_MAPPING") or bool(
        connectors.get(alias, {}).get("CONNECTOR")
    )


def _cachalot_knows(_alias: str, engine: str) -> bool:
    chosen = _setting("CACHALOT_DATABASES") or "supported_only"
    if chosen != "supported_only":
        return True  # the project itself says which aliases are cached
    return bool(_setting("CACHALOT_USE_UNSUPPORTED_DATABASE")) or (
        engine in _setting("CACHALOT_ADDITIONAL_SUPPORTED_DATABASES")
    )


_PACKAGES = (
    Package(
        "dbbackup",
        "django-dbbackup",
        "'dbbackup' writes the data of the models as JSON instead of calling mysqldump, and "
        "'dbrestore' refuses the backups that mysqldump has made.",
        "Add {engine!r}: 'dbbackup.db.mysql.MysqlDumpConnector' to DBBACKUP_CONNECTOR_MAPPING.",
        _dbbackup_knows,
    ),
    Package(
        "cachalot",
        "django-cachalot",
        "the queries of this alias are not cached.",
        "Add {engine!r} to CACHALOT_ADDITIONAL_SUPPORTED_DATABASES.",
        _cachalot_knows,
    ),
    Package(
        "django_extensions",
        "django-extensions",
        "reset_db and sqldsn do not work for this alias, and sqlcreate prints SQL that is not "
        "MySQL's.",
        "Set DJANGO_EXTENSIONS_RESET_DB_MYSQL_ENGINES = [{engine!r}, 'django.db.backends.mysql'].",
        lambda _, engine: engine in _setting("DJANGO_EXTENSIONS_RESET_DB_MYSQL_ENGINES"),
    ),
)


def package_findings(entry: Entry) -> Iterator[Finding]:
    """Installed packages that do not know the ENGINE of an entry of DATABASES."""
    engine = str(entry.settings.get("ENGINE", ""))
    if not engine or not apps.apps_ready:
        return
    for package in _PACKAGES:
        if apps.is_installed(package.app) and not package.knows(entry.alias, engine):
            yield check(
                "W016",
                f"{package.name} does not know the ENGINE of {entry.alias!r} ({engine!r}): "
                f"{package.effect}",
                package.hint.format(engine=engine),
            )
