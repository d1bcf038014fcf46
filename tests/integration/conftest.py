"""Fixtures that give a test real servers, real faults and fresh connections.

Tests commit for real; after each one every connection is closed, the server runs again with the
variables it had, and the tables are empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Literal

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connections
from pytest_django.plugin import DjangoDbBlocker

from django_mysql_recycle.signals import connection_recycled
from servers import FaultProxy, HAProxy, Namespace, Server

from .acts import Hooks, receiving
from .admin import Admin
from .connections import OURS, STOCK, Connection, ConnectionFactory, Proxied, point
from .far import Far, far_away

Transport = Literal["tcp", "tls", "socket"]


@pytest.fixture(scope="session")
def session_server(vendor: str) -> Iterator[Server]:
    """The server of the whole run; tests ask for `server`."""
    with Server(vendor) as server:
        yield server


@pytest.fixture(scope="session")
def django_db_setup(session_server: Server, django_db_blocker: DjangoDbBlocker) -> None:
    """Takes the place of pytest-django's: both engines on one database of a throwaway server."""
    with django_db_blocker.unblock():
        for alias in settings.DATABASES:
            point(settings.DATABASES[alias], session_server)
        # The first use chooses the driver for both engines: Django binds it by name.
        connections["default"]
        with connections["stock"].schema_editor() as editor:
            for model in apps.get_app_config("testapp").get_models():
                editor.create_model(model)
        connections.close_all()


@pytest.fixture(autouse=True)
def database(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Let a test use its connections, and close them after it."""
    with django_db_blocker.unblock():
        yield
        for connection in connections.all(initialized_only=True):
            connection.close()
            # What a test leaves half done (an open `atomic`, a closed-in-transaction mark) is its own.
            del connections[connection.alias]


@pytest.fixture
def server(session_server: Server, database: None) -> Iterator[Server]:
    """The session's server: stop, kill, pause or restart it; it runs again after the test."""
    yield session_server
    if session_server.running:
        session_server.resume()
    else:
        session_server.start()


@pytest.fixture
def admin(server: Server) -> Iterator[Admin]:
    """A connection of the test's own, to see what the server sees."""
    with Admin(server) as admin:
        yield admin
        if server.running:
            server.resume()
            admin.restore()


@pytest.fixture(autouse=True)
def _clean_tables(session_server: Server, database: None) -> Iterator[None]:
    yield
    # After `server` has put the server back: fixtures end in the reverse order.
    with Admin(session_server) as admin:
        admin.empty_tables()


@pytest.fixture
def own_server(vendor: str) -> Iterator[Callable[..., Server]]:
    """`own_server(vendor=None, **options)` starts another server: `own_server(wait_timeout=2)`."""
    with ExitStack() as stack:

        def start(kind: str = vendor, **options: Any) -> Server:
            return stack.enter_context(Server(kind, **options))

        yield start


@pytest.fixture
def proxy(server: Server) -> Iterator[Callable[..., FaultProxy]]:
    """`proxy(target=server)` puts a `FaultProxy` in front of a server."""
    with ExitStack() as stack:

        def start(target: Server = server) -> FaultProxy:
            return stack.enter_context(FaultProxy(target.host, target.port))

        yield start


@pytest.fixture
def proxied(make_connection: ConnectionFactory, proxy: Callable[..., FaultProxy]) -> Proxied:
    """`connection, proxy = proxied(engine=OURS, **as_for_make_connection)`: with one of its own."""

    def connect(engine: str = OURS, **arguments: Any) -> tuple[Connection, FaultProxy]:
        between = proxy()
        return make_connection(engine, via=between, **arguments), between

    return connect


@pytest.fixture
def haproxy(server: Server) -> Iterator[Callable[..., HAProxy]]:
    """`haproxy(*targets, client_timeout=..., server_timeout=...)`; targets default to `server`."""
    with ExitStack() as stack:

        def start(*targets: Server, **timeouts: float) -> HAProxy:
            addresses = [(target.host, target.port) for target in targets or (server,)]
            return stack.enter_context(HAProxy(*addresses, **timeouts))

        yield start


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A network namespace for `own_server(host=namespace.address, namespace=namespace.name)`."""
    with Namespace() as namespace:
        yield namespace


@pytest.fixture(scope="module")
def far(vendor: str) -> Iterator[Far]:
    """A server behind a path that can be broken, with a table of its own."""
    with far_away(vendor) as far:
        yield far


@pytest.fixture
def make_connection(server: Server, driver: str) -> Iterator[ConnectionFactory]:
    """`make_connection(engine=OURS, transport="tcp", via=None, recycle=None, options=None, **settings)`.

    A fresh `DatabaseWrapper`, registered in `django.db.connections` under an alias of its own
    (`.alias`, for `atomic(using=...)` and the ORM), closed and forgotten after the test.
    """
    factory = ConnectionFactory(server, driver)
    yield factory
    factory.close()


@pytest.fixture(params=[OURS, STOCK], ids=["ours", "stock"])
def engine(request: pytest.FixtureRequest) -> str:
    """Both engines in turn."""
    return str(request.param)


@pytest.fixture(params=["tcp", "tls", "socket"])
def transport(request: pytest.FixtureRequest) -> Transport:
    """The three ways to a server in turn."""
    kind: Transport = request.param
    return kind


@pytest.fixture
def recycles() -> Iterator[list[dict[str, Any]]]:
    """The facts of each `connection_recycled` since the test began, the oldest first."""
    reported: list[dict[str, Any]] = []

    def receive(**facts: Any) -> None:
        reported.append(facts)

    with receiving(connection_recycled, receive):
        yield reported


@pytest.fixture
def hooks() -> Hooks:
    """`hooks.register(connection, name)` registers a hook; `hooks` has the names of those that ran."""
    return Hooks()


@pytest.fixture
def connection(make_connection: ConnectionFactory) -> Connection:
    """One connection of ours with default settings over plain TCP."""
    return make_connection()
