"""A site with one view that runs one query, as gunicorn and uvicorn load it.

The environment says which backend it uses: BENCHMARK_DATABASE is the entry of DATABASES as JSON,
BENCHMARK_DRIVER is the driver.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

_database = json.loads(os.environ["BENCHMARK_DATABASE"])
_driver = os.environ["BENCHMARK_DRIVER"]
os.environ["DJANGO_MYSQL_RECYCLE_DRIVER"] = _driver
if _driver == "pymysql" and _database["ENGINE"] != "django_mysql_recycle":
    # What users of the other backends do. This backend chooses the driver itself.
    import pymysql

    pymysql.install_as_MySQLdb()

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": _database},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["benchmarks"],
    LOGGING_CONFIG=None,
    MIDDLEWARE=[],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for measuring only",
    USE_TZ=True,
)
django.setup()


def _answer(text: str, status: int = 200) -> HttpResponse:
    # With a length, so that the HTTP connection can be kept.
    return HttpResponse(text, status=status, headers={"Content-Length": str(len(text))})


def item(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    from .models import Item

    return _answer(Item.objects.get(pk=1).name)


def handler500(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    error = sys.exc_info()[1]
    # The driver's number, for the report.
    return _answer(f"error {error.args[0]}" if error and error.args else "failed", 500)


urlpatterns: list[Any] = [path("", item)]

wsgi = get_wsgi_application()
asgi = get_asgi_application()
