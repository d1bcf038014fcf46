"""A view for projects that do not yet serve metrics."""

from __future__ import annotations

import os

from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

__all__ = ["metrics"]


def metrics(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - a view takes it
    """All metrics of the default registry; in multi-process mode those of all processes.

    It asks for no login. Let only the scraper reach its address.
    """
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
