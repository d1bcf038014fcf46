"""The page of the measures that serve requests. It runs one query."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path

from .models import Item


def item(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    return HttpResponse(Item.objects.get(pk=1).name)


urlpatterns = [path("item/", item)]
