"""Settings for Django's own tests, on the engine and the server that the environment names."""

from __future__ import annotations

import os
from typing import Any

from django_mysql_recycle.drivers import choose

# The stock engine has to run on the chosen driver, too.
choose()


def _database(number: int) -> dict[str, Any]:
    name = f"suite_{os.environ['SUITE_NAME']}_{number}"
    # More than any test has threads.
    pool = {"OPTIONS": {"pool": {"max_size": 20}}} if os.environ.get("SUITE_POOL") else {}
    return {
        **pool,
        "ENGINE": os.environ["SUITE_ENGINE"],
        "HOST": os.environ["MYSQL_HOST"],
        "PORT": os.environ["MYSQL_PORT"],
        "USER": os.environ["MYSQL_USER"],
        "PASSWORD": os.environ["MYSQL_PASSWORD"],
        "NAME": name,
        "TEST": {"NAME": f"test_{name}", "CHARSET": "utf8mb4"},
    }


DATABASES = {"default": _database(1), "other": _database(2)}
TEST_RUNNER = "django_suite_runner.RecordingRunner"
SECRET_KEY = "for tests only"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
