"""The same behaviour for GeoDjango: ``ENGINE = "django_mysql_recycle.gis"``."""

from __future__ import annotations

from ..base import RecycleMixin  # first: it chooses the driver

from django.contrib.gis.db.backends.mysql.base import (  # isort: skip
    DatabaseWrapper as GisDatabaseWrapper,
)

__all__ = ["DatabaseWrapper"]


class DatabaseWrapper(RecycleMixin, GisDatabaseWrapper):
    """GeoDjango's MySQL backend with RecycleMixin in front of it."""
