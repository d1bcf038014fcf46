"""What tests with and without a server share: tests/choice.py says which driver and server."""

from __future__ import annotations

import signal
from importlib.metadata import version

import django
import pytest

from servers.installation import find

from .choice import DRIVER, VENDOR


def pytest_configure() -> None:
    # A shell's background jobs ignore Ctrl-C, and so would the programs that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> list[str]:
    installation = find(VENDOR)
    return [
        f"django: {django.get_version()}",
        f"driver: {DRIVER} {version(DRIVER)}",
        f"server: {VENDOR} {installation.version if installation else '(not obtained yet)'}",
    ]


@pytest.fixture(scope="session")
def driver() -> str:
    """The driver of this run: 'mysqlclient' or 'pymysql'."""
    return DRIVER


@pytest.fixture(scope="session")
def vendor() -> str:
    """The server of this run: 'mariadb' or 'mysql'."""
    return VENDOR
