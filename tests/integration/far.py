"""A server on the other side of a path that can be broken."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from servers import Namespace, Server

from .acts import descriptor
from .admin import Admin
from .connections import Connection

TABLE = (
    "CREATE TABLE testapp_account (id INT AUTO_INCREMENT PRIMARY KEY,"
    " owner VARCHAR(50), balance INT)"
)


class Far(NamedTuple):
    """The server, and the namespace that it is in."""

    server: Server
    namespace: Namespace

    def forget(self, connection: Connection) -> None:
        """Drop the packets of this connection from now on, as a NAT entry that has expired."""
        self.namespace.drop_client(port_of(connection))


@contextmanager
def far_away(vendor: str) -> Iterator[Far]:
    with Namespace() as namespace:
        with Server(vendor, host=namespace.address, namespace=namespace.name) as server:
            with Admin(server) as admin:
                admin.rows(TABLE)
            yield Far(server, namespace)


def port_of(connection: Connection) -> int:
    """The port of the client's end."""
    with socket.socket(fileno=os.dup(descriptor(connection))) as sock:
        return int(sock.getsockname()[1])
