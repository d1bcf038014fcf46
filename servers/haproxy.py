"""HAProxy in front of servers, to test the idle time-outs and failovers of a load balancer."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from .errors import NotAvailable, ServersError
from .machine import find_program, free_port, give_to_server_user, locked
from .owned import Owned
from .process import Process
from .unpacked import UnpackedTree

_CONFIGURATION = """\
global
    stats socket {socket} mode 600 level admin
defaults
    mode tcp
    timeout connect {connect}ms
    timeout client {client}ms
    timeout server {server}ms
frontend front
    bind 127.0.0.1:{port}
    default_backend db
backend db
{servers}
"""


def find_haproxy() -> tuple[str, ...] | None:
    """Return HAProxy's command if it is installed, or was unpacked earlier."""
    installed = find_program("haproxy")
    return (installed,) if installed else UnpackedTree("haproxy").command("usr/sbin/haproxy")


def obtain_haproxy() -> tuple[str, ...]:
    """Return HAProxy's command, and unpack it if it is not installed. Raises `NotAvailable`.

    It is unpacked and not installed, because its package starts a service.
    """
    found = find_haproxy()
    if found is not None:
        return found
    tree = UnpackedTree("haproxy")
    with locked("haproxy"):
        if tree.command("usr/sbin/haproxy") is None:
            try:
                tree.fill("haproxy")
            except NotAvailable as error:
                raise NotAvailable(
                    f"No HAProxy on this machine: install the package 'haproxy'.\n{error}"
                ) from error
    command = tree.command("usr/sbin/haproxy")
    if command is None:
        raise NotAvailable(
            "No HAProxy on this machine, and unpacking it failed: install the package 'haproxy'."
        )
    return command


class HAProxy(Owned):
    """A TCP load balancer on 127.0.0.1. Connections go to the first target; the others are spare.

    Targets are (host, port), called db1, db2, ... The time-outs are in seconds: for an idle client, for
    an idle server, and for connecting to the server.
    """

    def __init__(
        self,
        *targets: tuple[str, int],
        client_timeout: float = 3600,
        server_timeout: float = 3600,
        connect_timeout: float = 3,
    ) -> None:
        self.host = "127.0.0.1"
        self.port = free_port()
        self._command = obtain_haproxy()
        self._take_folder("recycle-haproxy")
        self.socket = str(self.directory / "run" / "admin.sock")
        self._configuration = self.directory / "haproxy.cfg"
        (self.directory / "run").mkdir()
        servers = [
            f"    server db{number} {host}:{port}{' backup' if number > 1 else ''}"
            for number, (host, port) in enumerate(targets, 1)
        ]
        self._configuration.write_text(
            _CONFIGURATION.format(
                socket=self.socket,
                connect=round(connect_timeout * 1000),
                client=round(client_timeout * 1000),
                server=round(server_timeout * 1000),
                port=self.port,
                servers="\n".join(servers),
            )
        )
        give_to_server_user(self.directory / "run")

    def start(self) -> None:
        """Start, and return when the admin socket answers."""
        Path(self.socket).unlink(missing_ok=True)
        command = [*self._command, "-db", "-f", str(self._configuration)]
        self._process = Process(command, log=self.directory / "run" / "haproxy.log")
        self._process.wait_until(self._answers, timeout=20, what="haproxy")

    def stop(self) -> None:
        """End at once: SIGTERM makes HAProxy close every connection."""
        if self._process is None:
            raise ServersError("haproxy was never started")
        self._process.end(signal.SIGTERM)

    def restart(self) -> None:
        if self.running:
            self.stop()
        self.start()

    def command(self, text: str) -> str:
        """Send a line to the admin socket and return the answer, e.g. `disable server db/db1`."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as admin:
            admin.settimeout(10)
            admin.connect(self.socket)
            admin.sendall(text.encode() + b"\n")
            return b"".join(iter(lambda: admin.recv(65536), b"")).decode().strip()

    def disable(self, name: str = "db1") -> None:
        """Send no new connection to a target. Open connections stay."""
        self._do(f"disable server db/{name}")

    def enable(self, name: str = "db1") -> None:
        self._do(f"enable server db/{name}")

    def shutdown_sessions(self, name: str = "db1") -> None:
        """Close every connection to a target."""
        self._do(f"shutdown sessions server db/{name}")

    def _answers(self) -> bool:
        try:
            return "Version" in self.command("show info")
        except OSError:
            return False

    def _do(self, text: str) -> None:
        answer = self.command(text)
        if answer:
            raise ServersError(f"haproxy refused '{text}': {answer}")
