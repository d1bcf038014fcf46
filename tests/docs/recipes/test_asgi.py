"""docs/recipes/asgi.md: uvicorn with Channels, a websocket that stays open, an async view."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from servers.machine import free_port
from tests.integration.admin import Admin

from . import pages
from .conftest import balances
from .projects import OURS, STOCK, Program, Project, get

URLS = """
from bank import async_views, views
from django.urls import path

urlpatterns = [
    path("who/", views.who),
    path("statement/<str:owner>/", async_views.statement),
]
"""


def serve(project: Project, stack: ExitStack, engine: str) -> tuple[Program, str]:
    port = free_port()
    command = pages.command("asgi", "uvicorn", port=port)
    settings: dict[str, Any] = {}
    exec(pages.files("asgi")["mysite/database.py"], settings)
    database = settings["DATABASE"] if engine == OURS else None
    program = stack.enter_context(project.start(engine, *command, database=database))
    return program, f"127.0.0.1:{port}"


def balance(socket: ClientConnection) -> Any:
    """What the consumer says next; `None` if it has failed."""
    try:
        return json.loads(socket.recv(timeout=20))["balance"]
    except ConnectionClosed:
        return None


def test_consumer_and_async_view_go_on_after_a_pause(
    make_project: Callable[[str], Project], bank: Admin
) -> None:
    project = make_project("asgi")
    project.write("mysite/urls.py", URLS)
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        servers = [serve(project, stack, engine) for engine in (OURS, STOCK)]
        for program, address in servers:
            get(f"http://{address}/who/", program)  # it is up
        ours, stock = (
            stack.enter_context(connect(f"ws://{address}/", open_timeout=20))
            for _, address in servers
        )
        views = [
            pool.submit(get, f"http://{address}/statement/ann/", program)
            for program, address in servers
        ]
        for socket, owner in ((ours, "ann"), (stock, "bob")):
            socket.send(json.dumps({"owner": owner}))
            assert balance(socket) == 0
        assert (balance(ours), balance(stock)) == (1, None)
        ours.send(json.dumps({"owner": "ann"}))
        assert (balance(ours), balance(ours)) == (1, 2)  # the same socket, later
        assert views[0].result().keys() == {"balance"}
        assert views[1].result() == {"status": 500}
        assert "OperationalError" in servers[1][0].output
        assert balances(bank) == {"ann": 2, "bob": 0}
