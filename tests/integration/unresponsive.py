"""The cells of the fault matrix on a path that drops packets: side by side, in threads."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from django.db import connections

from servers import Namespace, Server

from .acts import descriptor, rest
from .admin import Admin
from .connections import OURS, ConnectionFactory
from .matrix import PATIENCE, SITUATIONS, Cell, Matrix

SHORT = {"network_timeout": 1, "keepalive": 60, "ping_timeout": 0.5}

TABLES = (
    "CREATE TABLE testapp_account (id BIGINT AUTO_INCREMENT PRIMARY KEY,"
    " owner VARCHAR(50) UNIQUE, balance INT)",
    "CREATE TABLE testapp_item (id BIGINT AUTO_INCREMENT PRIMARY KEY,"
    " name VARCHAR(50), account_id BIGINT, created DATETIME(6))",
)

FAULT = "unresponsive network"


def unresponsive_cells(
    engine: str,
    factory: ConnectionFactory,
    namespace: Namespace,
    own_server: Callable[..., Server],
    firsts: Sequence[str],
) -> dict[Cell, str]:
    """Drop the packets of every cell's connection, and return the verdicts."""
    server = own_server(
        host=namespace.address, namespace=namespace.name, max_connections=1000, back_log=900
    )
    with Admin(server) as admin:
        for sql in TABLES:
            admin.rows(sql)
        matrix = Matrix(factory, server, admin)
        options: dict[str, Any] = {"recycle": SHORT} if engine == OURS else {}
        alias = factory(engine, server=server, CONN_MAX_AGE=None, **options).alias
        cells = [
            Cell(engine, "tcp", FAULT, situation, first, "", lambda: connections[alias])
            for situation in SITUATIONS
            for first in firsts
        ]
        matrix.prepare(cells, connect=False)
        ready, dropping = threading.Barrier(len(cells) + 1), threading.Event()

        def play(cell: Cell) -> None:
            try:
                cell.prepare()
                ready.wait(30)
                dropping.wait(30)
                if engine == OURS:
                    rest(cell.connection, 20)
                cell.act()
            finally:
                cell.connection.close()

        threads = [threading.Thread(target=play, args=(cell,)) for cell in cells]
        for thread in threads:
            thread.start()
        ready.wait(30)
        for port in _ports(cells):
            namespace.drop_client(port)
        dropping.set()
        deadline = time.monotonic() + PATIENCE + 1
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        # Those that hang go on once their packets do.
        namespace.restore()
        for thread in threads:
            thread.join(30)
        return matrix.judge(cells)


def _ports(cells: Sequence[Cell]) -> list[int]:
    ports = []
    for cell in cells:
        with socket.socket(fileno=os.dup(descriptor(cell.connection))) as sock:
            ports.append(int(sock.getsockname()[1]))
    return ports
