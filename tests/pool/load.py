"""Clients of the site: they check each answer, hang up in the middle, and count what went wrong."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from websockets.asyncio.client import connect

#: Seconds after which an answer counts as missing. A request may wait for a connection for ten.
PATIENCE = 40.0

#: How often a view is asked: its name, and its weight in the draw.
ASYNC_MIX: Mapping[str, int] = {
    "plain": 12,
    "orm": 8,
    "atomic": 8,
    "failing": 3,
    "lock": 2,
    "tenant": 2,
    "temporary": 2,
    "sleeping": 3,
    "stream": 2,
    "async_plain": 12,
    "async_orm": 12,
    "gathered": 5,
    "executor": 4,
    "async_atomic": 4,
    "async_sleeping": 4,
    "async_stream": 3,
    "background": 2,
    "cancelled": 3,
    "websocket": 4,
}
SYNC_MIX: Mapping[str, int] = {
    "plain": 30,
    "orm": 20,
    "atomic": 20,
    "failing": 5,
    "lock": 3,
    "tenant": 3,
    "temporary": 3,
    "sleeping": 8,
    "resting": 5,
    "stream": 5,
}

_numbers = count(1)


class Answer(NamedTuple):
    status: int
    body: str


class CutShort(Exception):
    """The server closed the connection before the answer was complete."""


@dataclass
class Report:
    """What became of the requests of one load."""

    right: Counter[str] = field(default_factory=Counter)
    """Answers with the asker's number, by view."""
    wrong: list[str] = field(default_factory=list)
    """Answers with another number, and sessions with another request's state."""
    errors: Counter[str] = field(default_factory=Counter)
    """Requests without an answer, by what was said instead."""
    hung_up: int = 0
    seconds: list[float] = field(default_factory=list)
    """Of each right answer."""

    @property
    def requests(self) -> int:
        return self.right.total() + len(self.wrong) + self.errors.total() + self.hung_up

    def __str__(self) -> str:
        slowest = max(self.seconds, default=0.0)
        return (
            f"{self.requests} requests: {self.right.total()} right, {self.hung_up} hung up, "
            f"{len(self.wrong)} wrong, errors {dict(self.errors)}, slowest {slowest:.2f} s"
        )


class Client:
    """One client of one address. It keeps its connection from one request to the next."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def get(self, path: str) -> Answer:
        for attempt in (1, 2):
            kept = self._writer is not None
            try:
                await self.send(path)
                return await asyncio.wait_for(self._receive(), PATIENCE)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.hang_up()
                # A server closes connections that it has kept for long enough.
                nothing = isinstance(error, OSError) or not error.partial
                if not (kept and nothing and attempt == 1):
                    raise CutShort(type(error).__name__) from error
            except BaseException:
                self.hang_up()
                raise
        raise AssertionError

    async def send(self, path: str) -> None:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        await self._writer.drain()

    async def _receive(self) -> Answer:
        assert self._reader is not None
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status, headers = int(head[9:12]), _headers(head)
        if headers.get("transfer-encoding") == "chunked":
            body = await self._chunks(self._reader)
        elif "content-length" in headers:
            body = await self._reader.readexactly(int(headers["content-length"]))
        else:
            body = await self._reader.read()
            self.hang_up()
        if headers.get("connection") == "close":
            self.hang_up()
        return Answer(status, body.decode())

    async def _chunks(self, reader: asyncio.StreamReader) -> bytes:
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return body

    def hang_up(self, *, rudely: bool = False) -> None:
        """Close the connection. `rudely` forgets what is still to come or to go."""
        if self._writer is not None:
            self._writer.transport.abort() if rudely else self._writer.close()
        self._reader = self._writer = None


def _headers(head: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in head.split("\r\n")[1:])
    return {name: text.strip() for name, _, text in pairs}


class Load:
    """A number of requests from a number of clients at the same time, drawn by a seed."""

    def __init__(
        self,
        port: int,
        mix: Mapping[str, int],
        *,
        requests: int,
        clients: int,
        seed: int,
        hang_up: float = 0.0,
        pause: float = 0.01,
    ) -> None:
        """`hang_up` is the share of requests whose client goes away in the middle of the answer.

        `pause`: seconds that streams and views that rest or sleep take between two statements.
        """
        self.report = Report()
        self._port = port
        self._mix = mix
        self._left = requests
        self._clients = clients
        self._seed = seed
        self._hang_up = hang_up
        self._pause = pause

    def run(self) -> Report:
        """Send everything and wait for the answers."""
        asyncio.run(self._all())
        return self.report

    async def _all(self) -> None:
        await asyncio.gather(*[self._visit(number) for number in range(self._clients)])

    async def _visit(self, which: int) -> None:
        chance = random.Random(f"{self._seed} {which}")
        client = Client(self._port)
        views, weights = list(self._mix), list(self._mix.values())
        try:
            while self._left > 0:
                self._left -= 1
                (view,) = chance.choices(views, weights)
                await self._one(client, view, chance)
        finally:
            client.hang_up()

    async def _one(self, client: Client, view: str, chance: random.Random) -> None:
        number = next(_numbers)
        began = time.monotonic()
        if view == "websocket":
            await self._talk(number)
            return
        path = f"/{view}/{number}/?pause={self._pause}"
        if chance.random() < self._hang_up:
            await client.send(path)
            await asyncio.sleep(chance.random() * 0.02)
            client.hang_up(rudely=chance.random() < 0.5)
            self.report.hung_up += 1
            return
        try:
            given = await client.get(path)
        except (CutShort, OSError, asyncio.TimeoutError) as error:
            self.report.errors[f"{view}: {type(error).__name__} {error}"] += 1
            return
        self.judge(view, number, given, time.monotonic() - began)

    def judge(self, view: str, number: int, given: Answer, seconds: float) -> None:
        """Count an answer as right, wrong or none."""
        if view == "failing" and given == (500, f"ValueError meant to fail {number}"):
            self.report.right[view] += 1
        elif given.status != 200 and given.body.startswith("Crossed"):
            self.report.wrong.append(f"{view} {number}: {given.body}")
        elif given.status != 200:
            self.report.errors[f"{view}: {given.status} {given.body}"] += 1
        elif given.body and set(given.body.split()) == {str(number)}:
            self.report.right[view] += 1
            self.report.seconds.append(seconds)
        elif set(given.body.split()) <= {str(number)}:
            # A stream that failed ends early. Some servers end it as if it were complete.
            self.report.errors[f"{view}: incomplete"] += 1
        else:
            self.report.wrong.append(f"{view} {number}: {given.body!r}")

    async def _talk(self, number: int) -> None:
        """Ask by websocket, twice in one connection."""
        try:
            async with connect(f"ws://127.0.0.1:{self._port}/", open_timeout=PATIENCE) as socket:
                for _ in range(2):
                    await socket.send(json.dumps({"number": number}))
                    given = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE))
                    if given != [number] * 3:
                        self.report.wrong.append(f"websocket {number}: {given}")
                        return
        except Exception as error:
            self.report.errors[f"websocket: {type(error).__name__} {error}"] += 1
            return
        self.report.right["websocket"] += 1


def at_once(port: int, paths: list[str]) -> list[Answer]:
    """Ask for all paths at the same time, each from a client of its own."""

    async def one(path: str) -> Answer:
        client = Client(port)
        try:
            return await client.get(path)
        finally:
            client.hang_up()

    async def all_of_them() -> list[Answer]:
        return list(await asyncio.gather(*[one(path) for path in paths]))

    return asyncio.run(all_of_them())
