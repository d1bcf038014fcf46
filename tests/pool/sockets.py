"""Counts the connections to a server that this machine has open, seen from a process of its own.

A connection counts until the client closes it. The server's process list is behind that: there a
connection is still listed for a moment after the client has closed it and has opened another.

`python -m tests.pool.sockets PORT` prints the most that were open at a time, when its input ends.
Connections that were open before are not counted.
"""

from __future__ import annotations

import select
import subprocess
import sys
from pathlib import Path

from servers import Server

ROOT = Path(__file__).resolve().parents[2]
#: States in /proc/net/tcp: established, and closed by the other end only.
_OPEN = ("01", "08")


def open_now(port: int) -> set[str]:
    """Return the sockets that are connected to a port on 127.0.0.1, by their own port and inode."""
    end = f"0100007F:{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {f"{row[1]} {row[9]}" for row in rows if row[2] == end and row[3] in _OPEN}


class Sockets:
    """Watches for the time of a `with` block."""

    def __init__(self, server: Server) -> None:
        self._port = server.port
        #: The most that were open at a time. It is known after the block.
        self.most = 0

    def __enter__(self) -> Sockets:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.pool.sockets", str(self._port)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it watches now
        return self

    def __exit__(self, *exc_info: object) -> None:
        output, _ = self._process.communicate("", timeout=20)
        self.most = int(output)


def main(port: int) -> None:
    others = open_now(port)
    print(flush=True)  # noqa: T201
    most, before = 0, set[str]()
    while not select.select([sys.stdin], [], [], 0.004)[0]:
        # The kernel's list is no snapshot: it can have a socket that was closed while it was read,
        # and the next one. What is in two lists was open between them.
        now = open_now(port) - others
        most, before = max(most, len(before & now)), now
    print(most)  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]))
