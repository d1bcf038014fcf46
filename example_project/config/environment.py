"""Reads environment variables for the settings, with an error for each value that cannot be used."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

_NAMES = (
    "MYSQL_HOST",
    "MYSQL_PORT",
    "MYSQL_USER",
    "MYSQL_PASSWORD",
    "MYSQL_DATABASE",
    "MYSQL_SOCKET",
)


def choice(name: str, allowed: tuple[str, ...], default: str) -> str:
    """The value of environment variable `name`, one of `allowed`."""
    value = os.environ.get(name) or default
    if value not in allowed:
        raise ImproperlyConfigured(
            f"environment variable {name}: expected {' or '.join(allowed)}, got {value!r}"
        )
    return value


def port(text: str) -> int:
    """MYSQL_PORT as a number."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ImproperlyConfigured(
            f"environment variable MYSQL_PORT: expected a number from 1 to 65535, got {text!r}"
        )
    return int(text)


def database_variables(served: Path) -> Mapping[str, str]:
    """The MYSQL_* variables of the environment, or those of the server of `make run`.

    `served` is the file in which serve.py names its server, as long as it runs.
    """
    given = {name: os.environ[name] for name in _NAMES if name in os.environ}
    if given.get("MYSQL_HOST") or given.get("MYSQL_SOCKET"):
        return given
    if any(given.values()):
        raise ImproperlyConfigured(
            f"environment variables {', '.join(given)}: expected together with MYSQL_HOST or "
            "MYSQL_SOCKET, got neither"
        )
    try:
        variables: dict[str, str] = json.loads(served.read_text())
    except FileNotFoundError:
        raise ImproperlyConfigured(
            "no database server: keep `make run` running in another terminal, or name a server by "
            "the environment variables MYSQL_HOST (or MYSQL_SOCKET), MYSQL_PORT, MYSQL_USER, "
            "MYSQL_PASSWORD and MYSQL_DATABASE"
        ) from None
    except ValueError as error:
        raise ImproperlyConfigured(f"{served}: expected JSON, got {error}; remove it") from None
    return variables
