"""The bench: one page, its state as JSON, and the buttons, which only accept POST."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from ipaddress import ip_address
from threading import Lock
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_POST

import django_mysql_recycle

from .control import Refused
from .experiments import STATEMENTS, Bench

View = Callable[..., HttpResponse]

#: The page loads only from the server that it came from.
_POLICY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; form-action 'self'"


_making = Lock()
_made: list[Bench] = []


def the_bench() -> Bench:
    """The one bench of the process. Its connections stay open across requests."""
    with _making:
        if not _made:
            _made.append(Bench())
        return _made[0]


def local_only(view: View) -> View:
    """Refuse other machines, and everything without DEBUG: the bench can harm a server."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not settings.DEBUG:
            raise Http404
        if not ip_address(request.META["REMOTE_ADDR"]).is_loopback:
            raise PermissionDenied("the bench answers only requests from this machine")
        return view(request, *args, **kwargs)

    return guarded


@local_only
@never_cache
@require_GET
@ensure_csrf_cookie
def page(request: HttpRequest) -> HttpResponse:
    bench = the_bench()
    context = {
        "throwaway": bench.control.throwaway,
        "acts": bench.control.acts,
        "wait_timeout": settings.WAIT_TIMEOUT,
        "lanes": list(bench.lanes.values()),
    }
    response = render(request, "bench/bench.html", context)
    response["Content-Security-Policy"] = _POLICY
    return response


@local_only
@never_cache
@require_GET
def state(request: HttpRequest) -> HttpResponse:
    """The events after number `since`, and the current state."""
    since = request.GET.get("since", "0")
    answer = the_bench().state(int(since) if since.isdecimal() else 0)
    counted = django_mysql_recycle.counters().get("ours", {})
    answer["counters"] = {
        f"{event.replace('_', ' ')}: {reason}": count
        for event, reasons in counted.items()
        for reason, count in reasons.items()
    }
    return JsonResponse(answer)


@local_only
@require_POST
def act(_request: HttpRequest, name: str) -> HttpResponse:
    """Run a statement on both connections, or begin an experiment."""
    bench = the_bench()
    if name in bench.destructive and not bench.control.throwaway:
        raise PermissionDenied("only against the server that `make run` starts")
    try:
        if name in STATEMENTS:
            bench.run_statement(name)
        elif name in bench.harmless or name in bench.destructive:
            bench.run_experiment(name)
        else:
            raise Http404
    except Refused as error:
        return JsonResponse({"error": str(error)}, status=409)
    return JsonResponse({}, status=202)
