"""A TCP proxy in front of a server that ends or blocks connections at chosen moments."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Literal, TypeVar

from .errors import ServersError
from .proxied import Connection, How

When = Literal["before", "after", "answered"]
_T = TypeVar("_T")


class Fault:
    """Something that the proxy does once, at a chosen moment."""

    def __init__(self, needle: bytes, when: When, how: How) -> None:
        self.needle = needle
        self.when = when
        self.how = how
        self.fired = False
        """True from just before the client can notice."""
        self._done = threading.Event()

    def wait(self, timeout: float = 10) -> None:
        """Return once the fault has happened; raises `ServersError` after `timeout` seconds."""
        if not self._done.wait(timeout):
            raise ServersError(f"nothing set the fault at {self.needle!r} off within {timeout:g} s")

    async def strike(self, connection: Connection) -> None:
        self.fired = True
        await connection.cut(self.how)
        self._done.set()


class FaultProxy:
    """A proxy on 127.0.0.1 to which a client connects in place of the server.

    It forwards everything unless a fault is set. `how` says what a client sees when its connection
    is cut: "fin" is an orderly end of the stream, "rst" a reset. Faults that wait for a request
    apply to the first connection that sends it, and happen once. They are returned, so that a test
    can `wait()` for them.
    """

    def __init__(self, host: str, port: int, *, sockets: tuple[str, str] | None = None) -> None:
        """`sockets`: listen on the first unix socket and forward to the second, in place of TCP."""
        self.target = (host, port)
        self.sockets = sockets
        self.host = "127.0.0.1" if sockets is None else sockets[0]
        self.port = 0
        self.latency = 0.0
        """Seconds added to each chunk in each direction."""
        self.pace = 0.0
        """Seconds before each single byte of a reply: a server that drips."""
        self.reply_limit: int | None = None
        """How many bytes of replies a connection gets; after them its server says nothing more."""
        self.request_limit: int | None = None
        """How many requests of a connection are answered; to the next one its server says nothing."""
        self.connections: list[Connection] = []
        """Every connection since the start, the oldest first, closed ones included."""
        self._faults: list[Fault] = []
        self._answers: list[tuple[bytes, bytes]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="fault proxy", daemon=True
        )
        self._thread.start()
        self._call(self._start())

    async def _start(self) -> None:
        self._flowing = asyncio.Event()
        self._flowing.set()
        if self.sockets is None:
            self._server = await asyncio.start_server(self._serve, self.host, 0)
            self.port = self._server.sockets[0].getsockname()[1]
        else:
            self._server = await asyncio.start_unix_server(self._serve, self.sockets[0])

    def open_connections(self) -> list[Connection]:
        return [connection for connection in self.connections if connection.open]

    def cut(self, how: How = "fin") -> None:
        """Cut every open connection now, and return when that is done."""

        async def cut_all() -> None:
            for connection in self.open_connections():
                await connection.cut(how)

        self._call(cut_all())

    def cut_next_request(self, how: How = "fin") -> Fault:
        """Cut the connection at the next bytes from a client, which never reach the server."""
        return self.cut_at(b"", when="before", how=how)

    def swallow_next_reply(self, how: How = "fin") -> Fault:
        """Forward the next bytes from a client, wait for the answer, and cut instead of forwarding it."""
        return self.cut_at(b"", when="after", how=how)

    def cut_at(self, needle: bytes, *, when: When = "before", how: How = "fin") -> Fault:
        """Cut when a client sends `needle` without encryption.

        `when="before"`: the server never gets all of it. `when="after"`: the server has answered,
        and the client does not get the answer. `when="answered"`: the client gets the answer, and
        nothing after it.
        """
        fault = Fault(needle, when, how)

        async def add() -> None:
            self._faults.append(fault)

        self._call(add())
        return fault

    def answer(self, needle: bytes, reply: bytes, *, times: int = 1) -> None:
        """Answer the next requests that contain `needle` with these bytes, in the server's place."""

        async def add() -> None:
            self._answers += [(needle, reply)] * times

        self._call(add())

    def stall(self) -> None:
        """Accept connections and bytes, and forward nothing until `resume()`: an unresponsive network.

        It does not forward either that one side closes. `cut()` and `close()` still cut.
        """
        self._loop.call_soon_threadsafe(lambda: self._flowing.clear())
        self._call(asyncio.sleep(0))

    def resume(self) -> None:
        """Forward again, first what came in during the stall."""
        self._loop.call_soon_threadsafe(lambda: self._flowing.set())
        self._call(asyncio.sleep(0))

    def retarget(self, host: str, port: int) -> None:
        """Send new connections to another server. Open connections stay as they are."""
        self.target = (host, port)

    def close(self) -> None:
        """Cut every connection and end the proxy. A second call does nothing."""
        if self._loop.is_closed():
            return
        self.cut()
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def _stop(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._carry(reader, writer)
        except asyncio.CancelledError:
            # By close(). Some versions of asyncio print a traceback of a handler that was cancelled.
            return

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(writer)
        self.connections.append(connection)
        try:
            await self._flowing.wait()
            server_reader, server_writer = await self._reach_target()
            connection.server = server_writer
            await asyncio.gather(
                self._forward_requests(connection, reader, server_writer),
                self._forward_replies(connection, server_reader, writer),
            )
        except OSError:
            # Broken connections are the purpose of this class: the other end is closed below, unless the
            # proxy is stalled.
            await self._flowing.wait()
        finally:
            await connection.cut("fin")

    async def _reach_target(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.sockets is None:
            return await asyncio.open_connection(*self.target)
        return await asyncio.open_unix_connection(self.sockets[1])

    async def _forward_requests(
        self, connection: Connection, reader: asyncio.StreamReader, server: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):
            await self._pass()
            answer = next((each for each in self._answers if each[0] in data), None)
            if answer is not None:
                self._answers.remove(answer)
                connection.client.write(answer[1])
                await connection.client.drain()
                continue
            fault = self._take_fault(connection, data)
            if fault is not None and fault.when == "before":
                await fault.strike(connection)
                return
            connection.request(data)
            connection.awaiting = fault
            server.write(data)
            await server.drain()
        await self._flowing.wait()
        if server.can_write_eof() and connection.open:
            server.write_eof()

    async def _forward_replies(
        self, connection: Connection, reader: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):
            await self._pass()
            fault = connection.awaiting
            if fault is not None and fault.when == "after":
                await fault.strike(connection)
                return
            await self._reply(connection, data, client)
            if fault is not None:
                await fault.strike(connection)
                return
        await self._flowing.wait()
        # A server closes both directions, and its last bytes have been forwarded.
        await connection.cut("fin", gently=True)

    async def _reply(
        self, connection: Connection, data: bytes, client: asyncio.StreamWriter
    ) -> None:
        if self.request_limit is not None and connection.requests > self.request_limit:
            return
        if self.reply_limit is not None:
            data = data[: max(0, self.reply_limit - connection.bytes_received)]
        step = 1 if self.pace else max(1, len(data))
        for start in range(0, len(data), step):
            await asyncio.sleep(self.pace)
            part = data[start : start + step]
            connection.bytes_received += len(part)
            client.write(part)
            await client.drain()

    async def _pass(self) -> None:
        if self.latency:
            await asyncio.sleep(self.latency)
        await self._flowing.wait()

    def _take_fault(self, connection: Connection, data: bytes) -> Fault | None:
        seen = connection.tail + data
        for fault in self._faults:
            if fault.needle in seen:
                self._faults.remove(fault)
                return fault
        longest = max((len(fault.needle) for fault in self._faults), default=1)
        connection.tail = seen[-longest:]
        return None
