"""Settings of the example project. The database comes from the environment (see README.md)."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import django_mysql_recycle

from .environment import choice, database_variables, port

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = "for this machine alone: the example project is never deployed"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

INSTALLED_APPS = ["django.contrib.staticfiles", "bench", "visits"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "config.urls"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
WSGI_APPLICATION = "config.wsgi.application"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

ENGINES = ("django_mysql_recycle", "django.db.backends.mysql")

_database = database_variables(BASE_DIR / ".server.json")

DATABASES = {
    "default": {
        # Only this line differs from a project on Django's own backend.
        "ENGINE": choice("EXAMPLE_ENGINE", ENGINES, ENGINES[0]),
        "NAME": _database.get("MYSQL_DATABASE", "recycle"),
        "USER": _database.get("MYSQL_USER", "root"),
        "PASSWORD": _database.get("MYSQL_PASSWORD", ""),
        # Django takes a HOST that begins with a slash for a unix socket.
        "HOST": _database.get("MYSQL_HOST") or _database["MYSQL_SOCKET"],
        "PORT": port(_database.get("MYSQL_PORT", "3306")),
        "CONN_MAX_AGE": None,
    }
}

# The bench runs the same statements with both backends. Its connections have a short wait_timeout
# of their own. If `make run` has started the server, they go through a proxy that can block or close
# them.
WAIT_TIMEOUT = 3
_bench = {
    **DATABASES["default"],
    "CONN_MAX_AGE": 60,
    "OPTIONS": {"init_command": f"SET SESSION wait_timeout = {WAIT_TIMEOUT}"},
}
if _path := os.environ.get("EXAMPLE_PATH"):
    _bench["HOST"], _, _path_port = _path.partition(":")
    _bench["PORT"] = port(_path_port)
# The defaults, 10 and 5, would take too long to watch.
_quick = {"ping_after": 1, "ping_timeout": 2}
DATABASES["ours"] = {
    **_bench,
    "ENGINE": ENGINES[0],
    "OPTIONS": {**_bench["OPTIONS"], "recycle": _quick},
}
DATABASES["stock"] = {**_bench, "ENGINE": ENGINES[1]}

# django_mysql_recycle finds its driver without this. It is for the comparison with Django's own
# backend, which only knows the driver MySQLdb (mysqlclient).
_present = "mysqlclient" if find_spec("MySQLdb") else "pymysql"
_driver = choice("DJANGO_MYSQL_RECYCLE_DRIVER", ("mysqlclient", "pymysql"), _present)
if _driver == "pymysql":
    django_mysql_recycle.use_driver(_driver)

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{levelname} {name}: {message}", "style": "{"}},
    "filters": {
        # The page asks for its state several times a second.
        "no_polls": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: "/state/" not in record.getMessage(),
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {
        "django_mysql_recycle": {"handlers": ["console"], "level": "INFO"},
        "django.server": {
            "handlers": ["console"],
            "level": "INFO",
            "filters": ["no_polls"],
            "propagate": False,
        },
    },
}
