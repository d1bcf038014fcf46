"""Django's settings for the tests; where the server is comes from conftest once it runs."""

from __future__ import annotations

import os
from typing import Any

from .choice import DRIVER

# Here and not in conftest: the first model that is loaded makes the backend choose its driver.
os.environ["DJANGO_MYSQL_RECYCLE_DRIVER"] = DRIVER


def _database(engine: str) -> dict[str, Any]:
    # No server listens on port 1: a test that connects without the `server` fixture fails at once.
    return {"ENGINE": engine, "HOST": "127.0.0.1", "PORT": 1, "NAME": "recycle", "OPTIONS": {}}


DATABASES = {
    "default": _database("django_mysql_recycle"),
    "stock": _database("django.db.backends.mysql"),
}
INSTALLED_APPS = ["tests.testapp"]
ROOT_URLCONF = "tests.testapp.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "for tests only"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
