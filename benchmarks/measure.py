"""One measure in one process: with one driver, on one server.

A driver is chosen once per process. `main` is what `python -m benchmarks.<measure>` runs: it
configures Django, calls the measure's `rows` and prints each row as a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from servers import VENDORS, Endpoint, Server, from_environment

from .pinning import pinned
from .rows import Row, Spread, Summary

OURS = "django_mysql_recycle"
STOCK = "django.db.backends.mysql"
TRANSPORTS = ("tcp", "tls", "socket")
DRIVERS = ("mysqlclient", "pymysql")


class Run:
    """The parameters of a measure, and the way to get connections."""

    def __init__(
        self,
        measure: str,
        driver: str,
        target: Endpoint,
        *,
        server_pid: int | None = None,
        transports: Iterable[str] = TRANSPORTS,
        quick: bool = False,
    ) -> None:
        self.measure = measure
        self.driver = driver
        self.target = target
        """Where the server is: host, port, socket, user, password, database, ca, vendor, version."""
        self.server_pid = server_pid
        self.transports = tuple(transports)
        self.quick = quick
        self._made: list[Any] = []

    @property
    def vendor(self) -> str:
        return self.target.vendor

    def rounds(self, full: int, quick: int = 3) -> int:
        """How many rounds to measure: a quick run only shows that the measure works."""
        return quick if self.quick else full

    def options(self, transport: str) -> dict[str, Any]:
        """The driver's options for a transport. TCP and sockets are without TLS."""
        if transport == "tls":
            tls: dict[str, Any] = {"ssl": {"ca": str(self.target.ca)}}
            return tls if self.driver == "pymysql" else {**tls, "ssl_mode": "REQUIRED"}
        # PyMySQL turns TLS on by itself if the server offers it, also over sockets.
        return {"ssl_disabled": True} if self.driver == "pymysql" else {"ssl_mode": "DISABLED"}

    def database(
        self,
        engine: str,
        transport: str = "tcp",
        *,
        via: tuple[str, int] | None = None,
        options: dict[str, Any] | None = None,
        **settings: Any,
    ) -> dict[str, Any]:
        """An entry of DATABASES. `via`: host and port of a proxy. `options` replace the transport's."""
        host, port = via or (self.target.host, self.target.port)
        if transport == "socket":
            host = self.target.socket
        return {
            "ENGINE": engine,
            "HOST": host,
            "PORT": port,
            "USER": self.target.user,
            "PASSWORD": self.target.password,
            "NAME": self.target.database,
            "CONN_MAX_AGE": None,
            "OPTIONS": self.options(transport) if options is None else options,
            **settings,
        }

    def wrapper(self, engine: str, transport: str = "tcp", **settings: Any) -> Any:
        """A new `DatabaseWrapper`, not connected. `use` makes it the default connection.

        Every wrapper has the alias "default", so that stock and ours get their cursor in the same way.
        """
        from django.db.utils import ConnectionHandler, load_backend

        database = self.database(engine, transport, **settings)
        complete = ConnectionHandler({"default": database}).settings["default"]
        wrapper = load_backend(engine).DatabaseWrapper(complete, alias="default")
        self._made.append(wrapper)
        return wrapper

    def use(self, wrapper: Any) -> None:
        """Make this the only connection that the ORM and Django's signals know."""
        from django.db import connections

        connections["default"] = wrapper

    @contextmanager
    def pinned(self) -> Iterator[str]:
        """See `pinning.pinned`."""
        with pinned(self.server_pid) as placement:
            yield placement

    def row(
        self,
        case: str,
        unit: str,
        values: dict[str, Summary],
        *,
        transport: str = "",
        ratio: Spread | None = None,
        budget: float | None = None,
        budget_of: str = "ratio",
        note: str = "",
    ) -> Row:
        """A row with the names of this run filled in."""
        return {
            "measure": self.measure,
            "case": case,
            "driver": self.driver,
            "server": self.vendor,
            "transport": transport,
            "unit": unit,
            "values": values,
            "ratio": ratio,
            "budget": budget,
            "budget_of": budget_of,
            "note": note,
        }

    def close(self) -> None:
        for wrapper in self._made:
            wrapper.close()


def main(name: str, rows: Callable[[Run], Iterable[Row]]) -> None:
    """Run one measure in this process, and print each row at once as a line of JSON."""
    options = _parse(name)
    configure(options.driver)
    with target_of(options.server) as (target, pid):
        run = Run(
            name,
            options.driver,
            target,
            server_pid=pid,
            transports=options.transports,
            quick=options.quick,
        )
        make_table(run)
        try:
            for row in rows(run):
                print(json.dumps(row), flush=True)
        finally:
            run.close()


def _parse(name: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--driver", choices=DRIVERS, required=True)
    parser.add_argument("--server", choices=VENDORS, default="mariadb")
    parser.add_argument("--transports", nargs="+", choices=TRANSPORTS, default=list(TRANSPORTS))
    parser.add_argument("--quick", action="store_true")
    return parser.parse_args()


@contextmanager
def target_of(vendor: str) -> Iterator[tuple[Endpoint, int | None]]:
    """The server that `python -m benchmarks` has started, or one for this run only."""
    named = from_environment()
    if named is None:
        with Server(vendor, max_connections=1000) as server:
            yield server, server.pid
        return
    named.vendor = vendor
    named.version = os.environ.get("BENCHMARK_SERVER_VERSION", "")
    ca = os.environ.get("BENCHMARK_SERVER_CA")
    named.ca = Path(ca) if ca else None
    pid = os.environ.get("BENCHMARK_SERVER_PID")
    yield named, int(pid) if pid else None


def environment_of(server: Server) -> dict[str, str]:
    """What `target_of` reads. A password on the command line would be visible to all users."""
    return {
        **server.settings,
        "BENCHMARK_SERVER_VERSION": server.version,
        "BENCHMARK_SERVER_CA": str(server.ca),
        "BENCHMARK_SERVER_PID": str(server.pid),
    }


def configure(driver: str) -> None:
    """Set Django up with the driver. `Run.use` sets the real connections."""
    os.environ["DJANGO_MYSQL_RECYCLE_DRIVER"] = driver
    import django
    from django.conf import settings

    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": OURS, "NAME": "recycle"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=["benchmarks"],
        LOGGING_CONFIG=None,
        ROOT_URLCONF="benchmarks.urls",
        SECRET_KEY="for measuring only",
        USE_TZ=True,
    )
    # Before any model, because with PyMySQL this import sets the driver.
    import_module(f"{OURS}.base")
    django.setup()


def make_table(run: Run) -> None:
    """An `Item` with primary key 1."""
    from django.apps import apps

    wrapper = run.wrapper(STOCK, "socket")
    run.use(wrapper)
    model = apps.get_model("benchmarks", "Item")
    with wrapper.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {model._meta.db_table}")
    with wrapper.schema_editor() as editor:
        editor.create_model(model)
    model._default_manager.create(pk=1, name="one", value=1)
    wrapper.close()
