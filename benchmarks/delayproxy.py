"""A TCP proxy that simulates distance: it adds half of the delay in each direction.

`python -m benchmarks.delayproxy HOST PORT SECONDS` prints its port and runs until its input ends.
It is a separate process, so that it does not compete with the client for the interpreter's lock.
It uses threads and time.sleep(), because an event loop rounds its timers up to whole milliseconds.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue

from .facts import ROOT


@contextmanager
def delayed(host: str, port: int, seconds: float) -> Iterator[tuple[str, int]]:
    """Host and port of a proxy that adds `seconds` to each round trip."""
    command = [sys.executable, "-m", "benchmarks.delayproxy", host, str(port), str(seconds)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield "127.0.0.1", int(process.stdout.readline())
        finally:
            process.stdin.close()


def serve(host: str, port: int, seconds: float) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=_accept, args=(listener, host, port, seconds), daemon=True).start()
    sys.stdin.read()


def _accept(listener: socket.socket, host: str, port: int, seconds: float) -> None:
    while True:
        client, _ = listener.accept()
        server = socket.create_connection((host, port))
        for source, sink in ((client, server), (server, client)):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pieces: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
            threading.Thread(target=_take, args=(source, pieces), daemon=True).start()
            threading.Thread(target=_give, args=(sink, pieces, seconds / 2), daemon=True).start()


def _take(source: socket.socket, pieces: SimpleQueue[tuple[float, bytes]]) -> None:
    data = b"."
    while data:
        try:
            data = source.recv(65536)
        except OSError:
            data = b""
        pieces.put((time.monotonic(), data))


def _give(sink: socket.socket, pieces: SimpleQueue[tuple[float, bytes]], seconds: float) -> None:
    # Each piece waits only for its own time, because a network has no queue.
    while True:
        came, data = pieces.get()
        time.sleep(max(0.0, came + seconds - time.monotonic()))
        with suppress(OSError):
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            sink.sendall(data)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
