"""A server from docker-compose.yml, for a machine with Docker and without a server program."""

from __future__ import annotations

import atexit
import os
import subprocess
import time
from pathlib import Path

from . import guard
from .endpoint import Endpoint
from .errors import NotAvailable, StartFailed
from .greeting import NoGreeting, read_greeting
from .installation import Vendor
from .machine import find_program, free_port

COMPOSE_FILE = Path(__file__).resolve().parent.parent / "docker-compose.yml"
# The service for each vendor, and the variable that chooses its port.
SERVICES: dict[Vendor, tuple[str, str]] = {
    "mariadb": ("mariadb-11.8", "MARIADB_11_8_PORT"),
    "mysql": ("mysql-9", "MYSQL_9_PORT"),
}
_USER = "recycle"


def compose_command() -> list[str] | None:
    """Return the command line of a Compose that reaches a Docker engine, or `None`."""
    docker = find_program("docker")
    if docker is None or _status([docker, "info"]) != 0:
        return None
    if _status([docker, "compose", "version"]) == 0:
        return [docker, "compose"]
    separate = find_program("docker-compose")
    return [separate] if separate is not None else None


class ComposeServer(Endpoint):
    """One service of docker-compose.yml, in a separate Compose project. `destroy()` removes it."""

    def __init__(self, vendor: Vendor, *, timeout: float = 300) -> None:
        compose = compose_command()
        if compose is None:
            raise NotAvailable(
                "no Docker engine answers: start Docker, or install MariaDB or MySQL"
            )
        self._owner = os.getpid()
        project = f"recycle-{self._owner}"
        self._compose = [*compose, "-f", str(COMPOSE_FILE), "-p", project]
        service, variable = SERVICES[vendor]
        # Not the default port, because the user's own `docker compose up` may use it.
        port = free_port()
        self._environment = {**os.environ, variable: str(port)}
        self._down = [*self._compose, "down", "--volumes", "--timeout", "5"]
        guard.register(project, command=self._down)
        atexit.register(self.destroy)
        self._run("up", "--detach", service)
        super().__init__(port=port, user=_USER, password=_USER, vendor=vendor)
        self._wait(service, timeout)

    def destroy(self) -> None:
        if not guard.owned_by_this_process(self._owner):
            return
        subprocess.run(self._down, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        guard.forget(f"recycle-{self._owner}")
        atexit.unregister(self.destroy)

    def _wait(self, service: str, timeout: float) -> None:
        # The image first runs a server without a network to set itself up, so that a greeting
        # on the published port comes from the real one.
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.version = read_greeting(self.host, self.port)
            except NoGreeting as error:
                if time.monotonic() > deadline:
                    self.destroy()
                    raise StartFailed(
                        f"service '{service}' was not ready after {timeout:g} s: {error}"
                    ) from error
                time.sleep(0.2)
            else:
                return

    def _run(self, *arguments: str) -> None:
        result = subprocess.run(
            [*self._compose, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=self._environment,
        )
        if result.returncode != 0:
            self.destroy()
            raise StartFailed(
                f"docker compose {' '.join(arguments)} failed:\n{result.stderr.strip()}"
            )


def _status(command: list[str]) -> int:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, check=False
    ).returncode
