"""Finds or starts a server."""

from __future__ import annotations

from .docker import ComposeServer, compose_command
from .endpoint import Endpoint
from .environment import from_environment
from .errors import NotAvailable
from .installation import VENDORS, Vendor, find, obtain_installation
from .server import Server

_HELP = """\
No MySQL or MariaDB server could be had. One of these is enough:
  - name a server in the environment: MYSQL_HOST, MYSQL_PORT, MYSQL_USER, MYSQL_PASSWORD
  - install one so that mariadbd or mysqld is on the PATH, e.g. apt-get install mariadb-server
  - run a Docker engine
  - run as root or with sudo on Debian or Ubuntu, so that one can be installed by apt"""


def obtain(vendor: Vendor | None = None, *, wait_timeout: int = 28800) -> Endpoint:
    """Return a running server. Its `destroy()` ends it only if it was started here.

    The order is: a server that environment variables name, an installed program, Docker, apt.
    A named server may be of another vendor than `vendor`. `wait_timeout` (seconds) is used for a
    program that is started here; a container has its own. Raises `NotAvailable` with what to do.
    """
    named = from_environment()
    if named is not None:
        return named
    wanted: tuple[Vendor, ...] = (vendor,) if vendor else VENDORS
    for candidate in wanted:
        installation = find(candidate)
        if installation is not None:
            return _started(Server(candidate, installation=installation, wait_timeout=wait_timeout))
    if compose_command() is not None:
        return ComposeServer(wanted[0])
    try:
        installation = obtain_installation(wanted[0])
    except NotAvailable as error:
        raise NotAvailable(f"{_HELP}\n\n{error}") from error
    return _started(Server(wanted[0], installation=installation, wait_timeout=wait_timeout))


def _started(server: Server) -> Server:
    try:
        server.start()
    except BaseException:
        server.destroy()
        raise
    return server
