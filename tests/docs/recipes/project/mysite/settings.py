"""A project like any other; the test says which engine, driver and server it uses."""

import json
import os

ENGINE = os.environ["RECIPE_ENGINE"]
if os.environ["DJANGO_MYSQL_RECYCLE_DRIVER"] == "pymysql" and ENGINE != "django_mysql_recycle":
    import pymysql

    pymysql.install_as_MySQLdb()

DATABASES = {
    "default": {
        "ENGINE": ENGINE,
        "HOST": os.environ["MYSQL_HOST"],
        "PORT": os.environ["MYSQL_PORT"],
        "USER": os.environ["MYSQL_USER"],
        "PASSWORD": os.environ["MYSQL_PASSWORD"],
        "NAME": os.environ["MYSQL_DATABASE"],
        **json.loads(os.environ.get("RECIPE_DATABASE", "{}")),
    }
}
INSTALLED_APPS = ["bank"]
STATIC_URL = "static/"
ROOT_URLCONF = "mysite.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "for tests only"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
