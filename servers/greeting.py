"""Reads the first packet of a MySQL or MariaDB server, which shows that it accepts connections."""

from __future__ import annotations

import socket


class NoGreeting(Exception):
    """No server of the MySQL protocol answered."""


def read_greeting(host: str, port: int, *, timeout: float = 1.0) -> str:
    """Connect, read the server's greeting, disconnect, and return the version in it.

    An error packet instead of it (for example too many connections) is an answer, too. Then the
    version is ''.
    Raises `NoGreeting` when nothing answers within `timeout` seconds.
    """
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            header = _read(connection, 4)
            payload = _read(connection, int.from_bytes(header[:3], "little"))
    except OSError as error:
        raise NoGreeting(str(error)) from error
    if payload[:1] == b"\xff":
        return ""
    if payload[:1] != b"\x0a":
        raise NoGreeting(f"{host}:{port} answers, but not with a MySQL greeting")
    version = payload[1 : payload.index(b"\0", 1)].decode("ascii", "replace")
    # MariaDB up to 10.x puts this in front for old replicas.
    return version.removeprefix("5.5.5-")


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise NoGreeting("hung up before its greeting was complete")
        data += chunk
    return data
