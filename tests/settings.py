"""Django's settings for the tests; where the server is comes from conftest once it runs."""

from __future__ import annotations

from typing import Any


def _database(engine: str) -> dict[str, Any]:
    # Port 1 answers nobody: a test that connects without the `server` fixture fails at once.
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
