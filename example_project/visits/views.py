from __future__ import annotations

import time

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from .models import Visit
from .server import connection_id, driver_name, server_name

#: Longer than the wait_timeout of the server that `make run` runs.
PAUSE = 5


def index(request: HttpRequest) -> HttpResponse:
    """Store this visit and show the latest."""
    visits = [_store_visit()]
    return _page(request, visits)


def pause(request: HttpRequest) -> HttpResponse:
    """Store a visit, run no statement for five seconds, and store another visit.

    CONN_HEALTH_CHECKS does not help with a pause in the middle of a request.
    """
    visits = [_store_visit()]
    time.sleep(PAUSE)
    visits.append(_store_visit())
    return _page(request, visits)


def _store_visit() -> Visit:
    connection.ensure_connection()
    return Visit.objects.create(connection_id=connection_id(connection))


def _page(request: HttpRequest, visits: list[Visit]) -> HttpResponse:
    context = {
        "engine": settings.DATABASES["default"]["ENGINE"],
        "driver": driver_name(connection),
        "server": server_name(connection),
        "pause": PAUSE,
        "stored": visits,
        "latest": Visit.objects.all()[:20],
        "total": Visit.objects.count(),
    }
    return render(request, "visits/index.html", context)
