"""A server that environment variables name."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .endpoint import Endpoint
from .errors import BadSetting


def from_environment(environ: Mapping[str, str] | None = None) -> Endpoint | None:
    """Return the server that MYSQL_HOST or MYSQL_SOCKET names, `None` if neither is set.

    MYSQL_PORT (3306), MYSQL_USER (root), MYSQL_PASSWORD (empty) and MYSQL_DATABASE (recycle)
    complete it. Raises `BadSetting` for a port that is no port number, and if one of these is set
    without a host or socket, because a misspelt name must not send a test to another server.
    """
    values = os.environ if environ is None else environ
    host = values.get("MYSQL_HOST", "")
    socket = values.get("MYSQL_SOCKET", "")
    if not host and not socket:
        alone = [
            name
            for name in ("MYSQL_PORT", "MYSQL_USER", "MYSQL_PASSWORD", "MYSQL_DATABASE")
            if values.get(name)
        ]
        if alone:
            raise BadSetting(
                f"{', '.join(alone)}: expected together with MYSQL_HOST or MYSQL_SOCKET, got neither"
            )
        return None
    return Endpoint(
        host=host,  # empty beside a socket, because a program that gets both uses the host
        port=_port(values.get("MYSQL_PORT") or "3306"),
        socket=socket,
        user=values.get("MYSQL_USER") or "root",
        password=values.get("MYSQL_PASSWORD", ""),
        database=values.get("MYSQL_DATABASE") or "recycle",
    )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise BadSetting(f"MYSQL_PORT: expected a number from 1 to 65535, got {text!r}")
    return int(text)
