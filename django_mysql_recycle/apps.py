"""For INSTALLED_APPS, which only the command ``mysql_recycle`` needs."""

from django.apps import AppConfig
from django.core import checks

__all__ = ["MySQLRecycleConfig"]


class MySQLRecycleConfig(AppConfig):
    name = "django_mysql_recycle"
    verbose_name = "MySQL recycle"
    default_auto_field = "django.db.models.BigAutoField"  # there are no models

    def ready(self) -> None:
        # base.py does the same, but nobody loads it where only the second alias uses it, or
        # none. Registering twice is registering once.
        from .checks import check_settings

        checks.register(check_settings)
