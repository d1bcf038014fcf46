"""Django's own MySQL backend, imported once the driver is chosen: it binds one by name."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from .drivers import choose, versions

__all__ = ["CursorWrapper", "DatabaseWrapper", "driver"]

driver = choose()

try:
    from django.db.backends.mysql.base import CursorWrapper, DatabaseWrapper
except ImproperlyConfigured as error:
    raise versions.explained(driver.name, error) from error
