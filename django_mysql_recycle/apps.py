"""For INSTALLED_APPS, which only the command ``mysql_recycle`` needs."""

from django.apps import AppConfig

__all__ = ["MySQLRecycleConfig"]


class MySQLRecycleConfig(AppConfig):
    name = "django_mysql_recycle"
    verbose_name = "MySQL recycle"
    default_auto_field = "django.db.models.BigAutoField"  # there are no models
