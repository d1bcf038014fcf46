"""A load generator: clients of an HTTP server that send one request at a time.

It has one thread and one epoll, so that it costs only some tens of microseconds for each request,
because it shares the machine with what it measures. It reports how much of a core it took
(`Load.busy`).
"""

from __future__ import annotations

import select
import socket
import time
from collections import Counter
from dataclasses import dataclass, field

_CLOSE = b"connection: close"
_LENGTH = b"content-length:"


@dataclass
class Load:
    """The results: the seconds of each answered request, and how the others failed."""

    seconds: float = 0.0
    busy: float = 0.0
    """The generator's own CPU time."""
    latencies: list[float] = field(default_factory=list)
    """Of the requests that succeeded."""
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        return len(self.latencies) + self.failures.total()

    def add(self, other: Load) -> None:
        self.seconds += other.seconds
        self.busy += other.busy
        self.latencies += other.latencies
        self.failures += other.failures


class Clients:
    """Clients of one address that keep their connections from one burst to the next."""

    def __init__(self, port: int, count: int, path: str = "/", *, patience: float = 10) -> None:
        self._address = ("127.0.0.1", port)
        self._request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        self._patience = patience
        self._clients = [_Client() for _ in range(count)]

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for client in self._clients:
            client.close()

    def burst(self, seconds: float) -> Load:
        """Send requests as fast as the server answers. Wait for those that are open at the end."""
        load = Load()
        start, cpu = time.monotonic(), time.process_time()
        with select.epoll() as poll:
            waiting: dict[int, _Client] = {}
            for client in self._clients:
                self._ask(client, poll, waiting, load)
            while waiting:
                ready = poll.poll(self._patience)
                if not ready:
                    # There was no answer for so long that the requests that wait count as failed.
                    for client in waiting.values():
                        load.failures["no answer"] += 1
                        client.close()
                    break
                for descriptor, _ in ready:
                    client = waiting[descriptor]
                    if not self._read_answer(client, load):
                        continue
                    del waiting[descriptor]
                    if client.socket is not None:  # otherwise epoll has already forgotten it
                        poll.unregister(descriptor)
                    if time.monotonic() - start < seconds:
                        self._ask(client, poll, waiting, load)
        load.seconds = time.monotonic() - start
        load.busy = time.process_time() - cpu
        return load

    def _ask(
        self, client: _Client, poll: select.epoll, waiting: dict[int, _Client], load: Load
    ) -> None:
        client.asked = time.perf_counter()
        client.answer = b""
        try:
            if client.socket is None or client.hung_up():
                client.close()
                client.socket = socket.create_connection(self._address, self._patience)
                client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.socket.sendall(self._request)
        except OSError as error:
            load.failures[type(error).__name__] += 1
            client.close()
            return
        poll.register(client.socket, select.EPOLLIN)
        waiting[client.socket.fileno()] = client

    def _read_answer(self, client: _Client, load: Load) -> bool:
        """Read what has arrived. Returns whether the request is complete."""
        assert client.socket is not None
        try:
            data = client.socket.recv(65536)
        except OSError as error:
            load.failures[type(error).__name__] += 1
            client.close()
            return True
        client.answer += data
        status, last = _parse(client.answer, ended=not data)
        if status is None:
            if data:
                return False
            load.failures["cut short"] += 1
            client.close()
            return True
        if status == 200:
            load.latencies.append(time.perf_counter() - client.asked)
        else:
            # A short text says what failed.
            body = client.answer.partition(b"\r\n\r\n")[2]
            text = body.decode("ascii", "replace") if len(body) <= 20 else ""
            load.failures[f"HTTP {status} {text}".strip()] += 1
        if last or not data:
            client.close()
        return True


class _Client:
    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.asked = 0.0
        self.answer = b""

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def hung_up(self) -> bool:
        """Whether the server has closed the connection since its last answer."""
        assert self.socket is not None
        return bool(select.select([self.socket], [], [], 0)[0])


def _parse(answer: bytes, *, ended: bool) -> tuple[int | None, bool]:
    """The status of a complete answer, and whether the connection ends with it."""
    head, mark, body = answer.partition(b"\r\n\r\n")
    if not mark:
        return None, False
    lowered = head.lower()
    last = _CLOSE in lowered
    _, named, rest = lowered.partition(_LENGTH)
    # An answer without a length ends with its connection.
    complete = len(body) >= int(rest.split(b"\r\n", 1)[0]) if named else ended
    return (int(head[9:12]) if complete else None), last
