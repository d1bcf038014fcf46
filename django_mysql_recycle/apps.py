"""For INSTALLED_APPS, which only the command ``mysql_recycle`` needs."""

from django.apps import AppConfig
from django.core import checks

__all__ = ["MySQLRecycleConfig"]


class MySQLRecycleConfig(AppConfig):
    name = "django_mysql_recycle"
    verbose_name = "MySQL recycle"
    default_auto_field = "django.db.models.BigAutoField"  # there are no models

    def ready(self) -> None:
        # base.py does the same, but Django does not load it if no alias uses it, or only one that
        # is not the default. Registering the same function twice has no further effect.
        from .checks import check_settings

        checks.register(check_settings)
