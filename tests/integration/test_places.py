"""Wherever a statement runs: in a command, a thread, a request, an async view, a loop of tasks.

Requests go through Django's own handlers: `django.test.Client` detaches the signals at both ends of
a request, which are part of the matter.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import Error, close_old_connections, connections
from django.http import HttpRequest, JsonResponse
from django.urls import path

from ..testapp.models import Account
from .admin import Admin
from .connections import OURS, STOCK, ConnectionFactory
from .handlers import serve_asgi, serve_wsgi
from .queries import connection_id, settle, value

NAMES = ["before", "after"]


class Work:
    """One piece of work with a pause in the middle in which its connection is lost."""

    def __init__(self, alias: str, admin: Admin) -> None:
        self.alias = alias
        self._admin = admin

    def add(self, name: str) -> int:
        """Write a row; returns the number of the connection that it went over."""
        Account.objects.using(self.alias).create(owner=name)
        return connection_id(connections[self.alias])

    def lose(self, number: int) -> None:
        self._admin.kill(number)
        settle()

    def whole(self) -> None:
        self.lose(self.add("before"))
        self.add("after")

    def written(self) -> list[str]:
        return [row[0] for row in self._admin.rows("SELECT owner FROM testapp_account ORDER BY id")]


@pytest.fixture
def make_work(make_connection: ConnectionFactory, admin: Admin) -> Callable[..., Work]:
    def make(engine: str = OURS, **settings: Any) -> Work:
        return Work(make_connection(engine, **settings).alias, admin)

    return make


@pytest.fixture
def work(make_work: Callable[..., Work]) -> Work:
    return make_work(CONN_MAX_AGE=None)


@pytest.fixture
def stock(make_work: Callable[..., Work]) -> Work:
    """The control: health checks and all."""
    return make_work(STOCK, CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)


class Command(BaseCommand):
    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work

    def handle(self, *args: Any, **options: Any) -> None:
        self.work.whole()


@pytest.mark.core
def test_management_command(work: Work) -> None:
    call_command(Command(work))
    assert work.written() == NAMES


def test_management_command_on_the_stock_backend(stock: Work) -> None:
    with pytest.raises(Error):
        call_command(Command(stock))
    assert stock.written() == ["before"]


def in_a_thread(act: Callable[[], None]) -> Exception | None:
    """Run in a new thread, whose connections are its own, and return what it raised."""
    raised: list[Exception] = []

    def target() -> None:
        try:
            act()
        except Exception as error:
            raised.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=target)
    thread.start()
    thread.join(30)
    return raised[0] if raised else None


@pytest.mark.core
def test_thread(work: Work) -> None:
    assert in_a_thread(work.whole) is None
    assert work.written() == NAMES


def test_thread_on_the_stock_backend(stock: Work) -> None:
    assert isinstance(in_a_thread(stock.whole), Error)


def test_each_thread_has_its_own_connection_and_replaces_only_that(work: Work) -> None:
    mine = connection_id(connections[work.alias])
    assert in_a_thread(work.whole) is None
    assert connection_id(connections[work.alias]) == mine


def run_tasks(work: Work) -> list[str]:
    """A worker that takes tasks off a queue, in a thread of its own and without any signal."""
    tasks: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    outcomes = []
    for name in ("task 1", "task 2", "task 3", None):
        tasks.put(name)

    def worker() -> None:
        while (name := tasks.get()) is not None:
            try:
                number = work.add(name)
            except Error:
                outcomes.append("failed")
            else:
                outcomes.append("done")
                work.lose(number)

    assert in_a_thread(worker) is None
    return outcomes


@pytest.mark.core
def test_loop_of_tasks_without_signals(work: Work) -> None:
    assert run_tasks(work) == ["done"] * 3
    assert work.written() == ["task 1", "task 2", "task 3"]


def test_loop_of_tasks_on_the_stock_backend(stock: Work) -> None:
    assert run_tasks(stock) == ["done", "failed", "failed"]


def test_loop_of_tasks_that_calls_close_old_connections(work: Work) -> None:
    for name in NAMES:
        close_old_connections()
        work.lose(work.add(name))
        close_old_connections()
    assert work.written() == NAMES


class Site:
    """A site whose pages add a row each, or two with a loss in between."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.patterns = (
            path("add/<str:name>/", self.add),
            path("whole/", self.whole),
            path("async/add/<str:name>/", self.async_add),
            path("async/whole/", self.async_whole),
            path("async/pool/<str:name>/", self.async_pool),
        )

    def add(self, request: HttpRequest, name: str) -> JsonResponse:
        return JsonResponse({"id": self.work.add(name)})

    def whole(self, request: HttpRequest) -> JsonResponse:
        self.work.whole()
        return JsonResponse({})

    async def async_add(self, request: HttpRequest, name: str) -> JsonResponse:
        await Account.objects.using(self.work.alias).acreate(owner=name)
        return JsonResponse({"id": 0})

    async def async_whole(self, request: HttpRequest) -> JsonResponse:
        await Account.objects.using(self.work.alias).acreate(owner="before")
        number = await sync_to_async(lambda: connection_id(connections[self.work.alias]))()
        await asyncio.to_thread(self.work.lose, number)
        await Account.objects.using(self.work.alias).acreate(owner="after")
        return JsonResponse({})

    async def async_pool(self, request: HttpRequest, name: str) -> JsonResponse:
        # In the loop's own threads, which live on between requests and see no signal.
        return JsonResponse(
            {"id": await sync_to_async(self.work.add, thread_sensitive=False)(name)}
        )


@pytest.mark.core
def test_wsgi_request_in_the_middle(work: Work) -> None:
    assert serve_wsgi(Site(work).patterns, "/whole/") == 200
    assert work.written() == NAMES


def test_wsgi_request_in_the_middle_on_the_stock_backend(stock: Work) -> None:
    assert serve_wsgi(Site(stock).patterns, "/whole/") == 500
    assert stock.written() == ["before"]


@pytest.mark.core
@pytest.mark.parametrize("checks", [False, True], ids=["", "with health checks"])
def test_between_two_wsgi_requests(make_work: Callable[..., Work], checks: bool) -> None:
    work = make_work(CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=checks)
    site = Site(work)
    assert serve_wsgi(site.patterns, "/add/before/") == 200
    work.lose(connection_id(connections[work.alias]))
    assert serve_wsgi(site.patterns, "/add/after/") == 200
    assert work.written() == NAMES


def test_between_two_wsgi_requests_on_the_stock_backend(make_work: Callable[..., Work]) -> None:
    work = make_work(STOCK, CONN_MAX_AGE=None)
    site = Site(work)
    assert serve_wsgi(site.patterns, "/add/before/") == 200
    work.lose(connection_id(connections[work.alias]))
    assert serve_wsgi(site.patterns, "/add/after/") == 500


def test_connection_lives_on_between_healthy_wsgi_requests(work: Work) -> None:
    site = Site(work)
    serve_wsgi(site.patterns, "/add/before/")
    first = connection_id(connections[work.alias])
    serve_wsgi(site.patterns, "/add/after/")
    assert connection_id(connections[work.alias]) == first


@pytest.fixture
def short(make_work: Callable[..., Work]) -> Work:
    """Closed at the end of each request, since the thread that serves it ends then."""
    return make_work(CONN_MAX_AGE=0)


@pytest.mark.core
@pytest.mark.parametrize("page", ["/whole/", "/async/whole/"])
def test_asgi_request_in_the_middle(short: Work, page: str) -> None:
    assert serve_asgi(Site(short).patterns, page) == [200]
    assert short.written() == NAMES


@pytest.mark.parametrize("page", ["/whole/", "/async/whole/"])
def test_asgi_request_in_the_middle_on_the_stock_backend(
    make_work: Callable[..., Work], page: str
) -> None:
    work = make_work(STOCK, CONN_MAX_AGE=0, CONN_HEALTH_CHECKS=True)
    assert serve_asgi(Site(work).patterns, page) == [500]
    assert work.written() == ["before"]


def lose_all(admin: Admin) -> Callable[[], None]:
    def lose() -> None:
        for number in admin.connection_ids():
            admin.kill(number)
        settle()

    return lose


@pytest.mark.core
def test_between_two_asgi_requests(work: Work, admin: Admin) -> None:
    site = Site(work)
    pages = [f"/async/pool/{name}/" for name in NAMES]
    assert serve_asgi(site.patterns, *pages, between=lose_all(admin)) == [200, 200]
    assert work.written() == NAMES


def test_between_two_asgi_requests_on_the_stock_backend(stock: Work, admin: Admin) -> None:
    site = Site(stock)
    pages = [f"/async/pool/{name}/" for name in NAMES]
    assert serve_asgi(site.patterns, *pages, between=lose_all(admin)) == [200, 500]


def test_async_views_use_the_asynchronous_orm(short: Work, admin: Admin) -> None:
    pages = [f"/async/add/{name}/" for name in NAMES]
    assert serve_asgi(Site(short).patterns, *pages, between=lose_all(admin)) == [200, 200]
    assert short.written() == NAMES


def test_asynchronous_code_without_a_request(work: Work) -> None:
    async def main() -> None:
        alias = work.alias
        await Account.objects.using(alias).acreate(owner="before")
        number = await sync_to_async(lambda: connection_id(connections[alias]))()
        await asyncio.to_thread(work.lose, number)
        await Account.objects.using(alias).acreate(owner="after")
        count = await sync_to_async(
            lambda: value(connections[alias], "SELECT COUNT(*) FROM testapp_account")
        )()
        assert count == 2
        await sync_to_async(connections.close_all)()

    asyncio.run(main())
    assert work.written() == NAMES
