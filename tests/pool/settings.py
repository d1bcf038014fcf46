"""The settings of the site. POOL_SITE_DATABASE is the entry of DATABASES as JSON."""

from __future__ import annotations

import json
import os

_database = json.loads(os.environ["POOL_SITE_DATABASE"])
if os.environ["DJANGO_MYSQL_RECYCLE_DRIVER"] == "pymysql" and not _database["ENGINE"].startswith(
    "django_mysql_recycle"
):
    # What users of the other backends do. This backend chooses the driver itself.
    import pymysql

    pymysql.install_as_MySQLdb()

ALLOWED_HOSTS = ["*"]
DATABASES = {"default": {"ATOMIC_REQUESTS": True, **_database}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["tests.testapp"]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {
        "console": {"class": "logging.StreamHandler"},
        "none": {"class": "logging.NullHandler"},
    },
    "loggers": {
        "django_mysql_recycle": {"handlers": ["console"], "level": "WARNING"},
        # Views that fail on purpose, and statements that were killed.
        "django.request": {"handlers": ["none"], "propagate": False},
    },
}
ROOT_URLCONF = "tests.pool.site"
SECRET_KEY = "for tests only"
USE_TZ = True
