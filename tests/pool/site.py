"""Views whose answers show whether a request got its own rows and a session like a new one.

Each request has a number. Its answer must consist of lines with this number, which came from the
database.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection, transaction
from django.db.models import Value
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from tests.testapp.models import Account, Item

#: The transfers go to and fro between these accounts, in this order, so that none waits in a circle.
OWNERS = ("ann", "bob")

#: Tasks that a view has started and that run on after its answer.
_tasks: set[asyncio.Task[None]] = set()


class Crossed(Exception):
    """The session of this request has what another one left in it."""


def ask(number: int) -> int:
    """Ask the database for the number. The session must be like a new one.

    pool_tenant() is a stored function that reads @tenant. A statement that names the variable itself
    would bind the session to this borrower.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT %s + 0, pool_tenant(), IS_USED_LOCK('pool') = CONNECTION_ID(),"
            " @@group_concat_max_len",
            [number],
        )
        answer, tenant, has_lock, length = cursor.fetchone()
    if tenant is not None or has_lock or length == 7654:
        raise Crossed(f"@tenant {tenant}, lock {has_lock}, group_concat_max_len {length}")
    return int(answer)


def value(sql: str, *parameters: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return cursor.fetchone()[0] if cursor.description else None


def by_orm(number: int) -> Any:
    return Account.objects.annotate(asked=Value(number)).get(owner="ann").asked


async def by_async_orm(number: int) -> Any:
    account = await Account.objects.annotate(asked=Value(number)).aget(owner="ann")
    return account.asked


def answer(*numbers: Any) -> HttpResponse:
    return HttpResponse("".join(f"{number}\n" for number in numbers), content_type="text/plain")


def pause_of(request: HttpRequest) -> float:
    return float(request.GET.get("pause", "0.01"))


def in_autocommit(view: Any) -> Any:
    return transaction.non_atomic_requests(view)


# ##### Synchronous views #####


@in_autocommit
def plain(request: HttpRequest, number: int) -> HttpResponse:
    return answer(ask(number))


@in_autocommit
def orm(request: HttpRequest, number: int) -> HttpResponse:
    return answer(by_orm(number))


def atomic(request: HttpRequest, number: int) -> HttpResponse:
    """Inside the transaction that ATOMIC_REQUESTS begins. The sum of the balances stays the same."""
    first = ask(number)
    amount = 1 if number % 2 else -1
    for owner, change in zip(OWNERS, (amount, -amount), strict=True):
        value("UPDATE testapp_account SET balance = balance + %s WHERE owner = %s", change, owner)
    Item.objects.create(name=f"transfer {number}")
    return answer(first, by_orm(number))


def failing(request: HttpRequest, number: int) -> HttpResponse:
    Item.objects.create(name=f"never {ask(number)}")
    raise ValueError(f"meant to fail {number}")


@in_autocommit
def lock(request: HttpRequest, number: int) -> HttpResponse:
    """Take a named lock, if it is free, and leave it to the end of the request."""
    first = ask(number)
    if value("SELECT GET_LOCK('pool', 0)") and not value(
        "SELECT IS_USED_LOCK('pool') = CONNECTION_ID()"
    ):
        raise Crossed("the lock was lost without an error")
    return answer(first)


@in_autocommit
def tenant(request: HttpRequest, number: int) -> HttpResponse:
    first = ask(number)
    value("SET @tenant = %s, SESSION group_concat_max_len = 7654", number)
    return answer(first, value("SELECT @tenant + 0 FROM DUAL WHERE @@group_concat_max_len = 7654"))


@in_autocommit
def temporary(request: HttpRequest, number: int) -> HttpResponse:
    value("CREATE TEMPORARY TABLE own (number INT)")
    value("INSERT INTO own VALUES (%s)", number)
    return answer(value("SELECT number FROM own"))


@in_autocommit
def sleeping(request: HttpRequest, number: int) -> HttpResponse:
    return answer(int(value("SELECT %s + SLEEP(%s)", number, pause_of(request))))


@in_autocommit
def resting(request: HttpRequest, number: int) -> HttpResponse:
    """Hold a connection without using it: the session is free, the request is not over."""
    first = ask(number)
    time.sleep(pause_of(request))
    return answer(first, ask(number))


@in_autocommit
def stream(request: HttpRequest, number: int) -> StreamingHttpResponse:
    def lines() -> Iterator[str]:
        for turn in range(3):
            if turn:
                time.sleep(pause_of(request))
            yield f"{ask(number)}\n"

    return StreamingHttpResponse(lines(), content_type="text/plain")


def session(request: HttpRequest, number: int) -> HttpResponse:
    """Keep a connection in a transaction, and answer with its number instead of the request's."""
    mine = value("SELECT CONNECTION_ID()")
    time.sleep(pause_of(request))
    return answer(mine)


# ##### Asynchronous views #####


@in_autocommit
async def async_plain(request: HttpRequest, number: int) -> HttpResponse:
    return answer(await sync_to_async(ask)(number))


@in_autocommit
async def async_orm(request: HttpRequest, number: int) -> HttpResponse:
    return answer(await by_async_orm(number))


@in_autocommit
async def gathered(request: HttpRequest, number: int) -> HttpResponse:
    return answer(*await asyncio.gather(*[by_async_orm(number) for _ in range(4)]))


@in_autocommit
async def executor(request: HttpRequest, number: int) -> HttpResponse:
    """The threads of the loop's executor live on and close nothing."""
    one = sync_to_async(ask, thread_sensitive=False)
    return answer(*await asyncio.gather(*[one(number) for _ in range(2)]))


@in_autocommit
async def async_atomic(request: HttpRequest, number: int) -> HttpResponse:
    view: Callable[..., HttpResponse] = transaction.atomic(atomic)
    return await sync_to_async(view)(request, number)


@in_autocommit
async def async_sleeping(request: HttpRequest, number: int) -> HttpResponse:
    return await sync_to_async(sleeping)(request, number)


@in_autocommit
async def async_stream(request: HttpRequest, number: int) -> StreamingHttpResponse:
    async def lines() -> AsyncIterator[str]:
        for turn in range(3):
            if turn:
                await asyncio.sleep(pause_of(request))
            yield f"{await by_async_orm(number)}\n"

    return StreamingHttpResponse(lines(), content_type="text/event-stream")


@in_autocommit
async def background(request: HttpRequest, number: int) -> HttpResponse:
    """Answer first and write a row afterwards."""

    async def later() -> None:
        await asyncio.sleep(0.01)
        await Item.objects.acreate(name=f"background {await sync_to_async(ask)(number)}")

    task = asyncio.create_task(later())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return answer(await by_async_orm(number))


@in_autocommit
async def cancelled(request: HttpRequest, number: int) -> HttpResponse:
    """Cancel one task before its statement or in the middle of it, and let another run out of time."""
    task = asyncio.create_task(sync_to_async(value)("SELECT SLEEP(0.01)"))
    await asyncio.sleep(0.002 * (number % 3))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(sync_to_async(value)("SELECT SLEEP(0.01)"), 0.003)
    return answer(await by_async_orm(number))


# ##### What a test asks #####


def state() -> dict[str, Any]:
    statistics: Callable[[], dict[str, Any]] | None = getattr(connection, "pool_stats", None)
    return {
        "pid": os.getpid(),
        "threads": threading.active_count(),
        "tasks": len(_tasks),
        "pool": statistics() if statistics else {},
    }


@in_autocommit
def stats(request: HttpRequest) -> JsonResponse:
    return JsonResponse(state())


@in_autocommit
async def async_stats(request: HttpRequest) -> JsonResponse:
    return JsonResponse(await sync_to_async(state)())


def handler500(request: HttpRequest) -> HttpResponse:
    error = sys.exc_info()[1]
    return HttpResponse(
        f"{type(error).__name__} {error.args[0] if error and error.args else ''}", status=500
    )


View = Callable[..., HttpResponse | StreamingHttpResponse | Awaitable[Any]]
VIEWS: tuple[View, ...] = (
    *(plain, orm, atomic, failing, lock, tenant, temporary, sleeping, resting, stream, session),
    *(async_plain, async_orm, gathered, executor, async_atomic, async_sleeping, async_stream),
    *(background, cancelled),
)
urlpatterns: list[Any] = [
    path("stats/", stats),
    path("async_stats/", async_stats),
    *[path(f"{view.__name__}/<int:number>/", view) for view in VIEWS],
]
