"""What conftest.py gives to tests, for programs that run without pytest."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import django
from django.db import connections

from servers import Server

from .choice import DRIVER, VENDOR

if TYPE_CHECKING:
    from .integration.admin import Admin
    from .integration.connections import ConnectionFactory


class Ground(NamedTuple):
    """A server of this run's own with the test models' tables, and ways to it."""

    server: Server
    admin: Admin
    factory: ConnectionFactory


@contextmanager
def ground(**options: Any) -> Iterator[Ground]:
    """Set Django up, and start a server with these options."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    logging.disable()
    # Only now: the models need Django, and Django's MySQL backend needs the driver.
    from django.apps import apps
    from django.conf import settings

    from .integration.admin import Admin
    from .integration.connections import ConnectionFactory, point

    with Server(VENDOR, **options) as server:
        for alias in settings.DATABASES:
            point(settings.DATABASES[alias], server)
        connections["default"]  # the first use chooses the driver for both engines
        with connections["stock"].schema_editor() as editor:
            for model in apps.get_app_config("testapp").get_models():
                editor.create_model(model)
        connections.close_all()
        with Admin(server) as admin:
            yield Ground(server, admin, ConnectionFactory(server, DRIVER))
