"""Requests served by Django's own handlers, as a WSGI and an ASGI server call them."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections
from django.test import override_settings

Patterns = Sequence[Any]
"""What is usually `urlpatterns`: a tuple, since Django caches what it makes of it."""


def serve_wsgi(patterns: Patterns, page: str) -> int:
    """Serve one request in this thread and return its status."""
    statuses: list[str] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": page,
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "wsgi.input": io.BytesIO(),
        "wsgi.url_scheme": "http",
    }

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], None]:
        statuses.append(status)
        return lambda _data: None

    with override_settings(ROOT_URLCONF=patterns):
        response = WSGIHandler()(environ, start_response)
        list(response)
        response.close()
    return int(statuses[0].split()[0])


def serve_asgi(
    patterns: Patterns, *pages: str, between: Callable[[], None] = lambda: None
) -> list[int]:
    """Serve requests one after the other in one event loop, whose pool has one thread."""

    async def serve() -> list[int]:
        asyncio.get_running_loop().set_default_executor(pool)
        handler = ASGIHandler()
        statuses = []
        try:
            for page in pages:
                statuses.append(await _get(handler, page))
                between()
        finally:
            # The connections of the pool's thread are closed by that thread.
            await asyncio.wrap_future(pool.submit(connections.close_all))
        return statuses

    with ThreadPoolExecutor(1) as pool, override_settings(ROOT_URLCONF=patterns):
        return asyncio.run(serve())


async def _get(handler: ASGIHandler, page: str) -> int:
    scope: Any = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": page,
        "query_string": b"",
        "headers": [],
        "server": ("testserver", 80),
    }
    requests = [{"type": "http.request", "body": b"", "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if not requests:
            await asyncio.Event().wait()  # the client stays and says nothing
        return requests.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    await handler(scope, receive, send)
    return int(sent[0]["status"])
