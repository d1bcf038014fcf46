"""The app: with it in INSTALLED_APPS the backend reports to the global providers of OpenTelemetry."""

from django.apps import AppConfig

from . import instrument


class OpenTelemetryConfig(AppConfig):
    name = "django_mysql_recycle.contrib.opentelemetry"
    label = "django_mysql_recycle_opentelemetry"

    def ready(self) -> None:
        instrument()
