from __future__ import annotations

from django.db import connections
from django.http import HttpRequest, JsonResponse
from django.urls import path


def connection_id(request: HttpRequest, alias: str) -> JsonResponse:
    """Answer with the server's id of the connection that served this request."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        return JsonResponse({"id": cursor.fetchone()[0]})


urlpatterns = [path("connection/<str:alias>/", connection_id)]
