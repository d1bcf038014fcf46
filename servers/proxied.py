"""One connection through a fault proxy: what it transported, and how it is cut."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Literal

from .commands import Command, CommandReader

if TYPE_CHECKING:
    from .faultproxy import Fault

How = Literal["fin", "rst"]


class Connection:
    """A client's connection and the one to the server that serves it."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        address = client.get_extra_info("peername")
        self.client_port: int = address[1] if isinstance(address, tuple) else 0
        self.open = True
        self.requests = 0
        """How often the client has sent something, by the chunks that arrived."""
        self.bytes_sent = 0
        """Bytes forwarded from the client to the server."""
        self.bytes_received = 0
        """Bytes forwarded from the server to the client."""
        self.awaiting: Fault | None = None
        self.tail = b""
        self._reader = CommandReader()

    @property
    def commands(self) -> list[Command]:
        """The commands forwarded so far, as far as they went in the clear."""
        return self._reader.commands

    @property
    def encrypted(self) -> bool:
        return self._reader.encrypted

    def queries(self) -> list[str]:
        """The SQL forwarded so far, in the clear."""
        return [
            command.text.decode("utf-8", "replace")
            for command in self.commands
            if command.name == "QUERY"
        ]

    def request(self, data: bytes) -> None:
        self.requests += 1
        self.bytes_sent += len(data)
        self._reader.feed(data)

    async def cut(self, how: How, *, gently: bool = False) -> None:
        """Close both ends; `gently` lets bytes go out first that are still to be sent to the client."""
        if not self.open:
            return
        self.open = False
        if gently:
            self.client.close()
        else:
            _break(self.client, how)
        if self.server is not None:
            _break(self.server, "fin")
        for end in (self.client, self.server):
            if end is not None:
                try:
                    await end.wait_closed()
                except OSError:
                    # It does not matter which side has closed.
                    continue


def _break(end: asyncio.StreamWriter, how: How) -> None:
    connection: socket.socket = end.get_extra_info("socket")
    try:
        if how == "rst":
            # With a linger time of 0, close() sends a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            # Explicitly, because close() alone sends nothing while a forked child has a copy of it.
            connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    end.transport.abort()
