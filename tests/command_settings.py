"""Settings of a project that lists the app; its databases come from the environment as JSON."""

from __future__ import annotations

import json
import os

from .choice import DRIVER

os.environ["DJANGO_MYSQL_RECYCLE_DRIVER"] = DRIVER

DATABASES = json.loads(os.environ["RECYCLE_TEST_DATABASES"])
INSTALLED_APPS = json.loads(os.environ.get("RECYCLE_TEST_APPS", '["django_mysql_recycle"]'))
SECRET_KEY = "for tests only"
USE_TZ = True

# A project may log to stdout, where --json has the document alone.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
    "loggers": {"django_mysql_recycle": {"handlers": ["console"], "level": "DEBUG"}},
}
