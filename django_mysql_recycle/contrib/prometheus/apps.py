"""The app: with it in INSTALLED_APPS the metrics are in prometheus_client's default registry."""

from django.apps import AppConfig

from . import register


class PrometheusConfig(AppConfig):
    name = "django_mysql_recycle.contrib.prometheus"
    label = "django_mysql_recycle_prometheus"

    def ready(self) -> None:
        register()
