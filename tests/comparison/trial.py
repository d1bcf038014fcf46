"""Tries one contender with every failure, in this process."""

from __future__ import annotations

import logging
from itertools import count
from typing import Any

import django
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler

from servers import FaultProxy, Server

from ..choice import VENDOR
from ..integration.admin import Admin
from .contenders import Contender, before_each_piece
from .failures import APPLICATION, FAILURES, WAIT_TIMEOUT, Ground, Outcome

_numbers = count(1)


def trial(contender: Contender) -> dict[str, Any]:
    """The outcome of each failure, and the version of the server."""
    settings.configure(
        DATABASES={"default": {"ENGINE": contender.engine}},
        INSTALLED_APPS=list(contender.apps),
        LOGGING_CONFIG=None,
    )
    django.setup()
    logging.disable()
    with Server(VENDOR, wait_timeout=WAIT_TIMEOUT) as server, Server(VENDOR) as other:
        with Admin(server) as admin, Admin(other) as second:
            for one in (admin, second):
                one.rows("CREATE TABLE compared (id INT AUTO_INCREMENT PRIMARY KEY, name TEXT)")
                make_application(one, server.password)
            admin.rows("SET SESSION wait_timeout = 28800")
            second.rows("SET SESSION wait_timeout = 28800")

            def connect(
                target: Server = server, proxy: FaultProxy | None = None, user: str = ""
            ) -> BaseDatabaseWrapper:
                return fresh(contender, target, proxy, user, server.password)

            ground = Ground(server, other, admin, connect, before_each_piece(contender))
            outcomes: dict[str, Outcome] = {}
            for name, failure in FAILURES.items():
                admin.rows("TRUNCATE TABLE compared")
                try:
                    outcomes[name] = failure(ground)
                finally:
                    forget()
            return {"server": server.version, "outcomes": outcomes}


def make_application(admin: Admin, password: str) -> None:
    """An account to which read_only applies. Administrators can still write."""
    for host in ("%", "localhost", "127.0.0.1"):
        admin.rows(f"CREATE USER '{APPLICATION}'@'{host}' IDENTIFIED BY '{password}'")
        admin.rows(f"GRANT SELECT, INSERT ON recycle.* TO '{APPLICATION}'@'{host}'")


def fresh(
    contender: Contender, target: Server, proxy: FaultProxy | None, user: str, password: str
) -> BaseDatabaseWrapper:
    """A connection wrapper with its own alias, not connected yet."""
    database = {
        "ENGINE": contender.engine,
        "HOST": (proxy or target).host,
        "PORT": (proxy or target).port,
        "USER": user or target.user,
        "PASSWORD": password if user else target.password,
        "NAME": target.database,
        # A proxy has to see the statements, and one of them is cut at an INSERT.
        "OPTIONS": {"ssl_mode": "DISABLED"},
        **contender.settings,
    }
    alias = f"trial_{next(_numbers)}"
    connections.settings[alias] = ConnectionHandler({"default": database}).settings["default"]
    connection: BaseDatabaseWrapper = connections[alias]
    return connection


def forget() -> None:
    for connection in connections.all(initialized_only=True):
        connection.close()
        del connections[connection.alias]
