"""A WSGI application for `gunicorn --preload`: its module uses the database before the fork.

Each answer is the worker's process id and the
number of its connection.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import django
from django.conf import settings
from django.db import connection, transaction

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": os.environ["PRELOADED_ENGINE"],
            "HOST": os.environ["MYSQL_HOST"],
            "PORT": os.environ["MYSQL_PORT"],
            "USER": os.environ["MYSQL_USER"],
            "PASSWORD": os.environ["MYSQL_PASSWORD"],
            "NAME": os.environ["MYSQL_DATABASE"],
            "CONN_MAX_AGE": None,
        }
    }
)
django.setup()


def connection_id() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        return int(cursor.fetchone()[0])


with connection.cursor() as opened:
    opened.execute("SELECT CONNECTION_ID()")
    print(f"master {opened.fetchone()[0]}", flush=True)  # noqa: T201


def application(
    environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], Any]
) -> Iterable[bytes]:
    with transaction.atomic():
        answer = f"{os.getpid()} {connection_id()}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer.encode()]
