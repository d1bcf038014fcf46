"""The same site several times, each with its own backend and database, under a real web server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from servers import guard
from servers.machine import free_port

from .admin import Admin
from .facts import ROOT
from .load import Clients
from .measure import OURS, STOCK, Run

POOL = "dj_db_conn_pool.backends.mysql"

#: What users can use: its name in the results, and its entry in DATABASES.
CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    "stock, CONN_MAX_AGE 0": {"ENGINE": STOCK, "CONN_MAX_AGE": 0},
    "stock, persistent": {"ENGINE": STOCK, "CONN_MAX_AGE": None},
    "stock, health checks": {"ENGINE": STOCK, "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True},
    # Its defaults: a ping when it is taken, and back into the pool after each request.
    "dj_db_conn_pool": {"ENGINE": POOL, "CONN_MAX_AGE": 0},
    "ours, persistent": {"ENGINE": OURS, "CONN_MAX_AGE": None},
    "ours, CONN_MAX_AGE 0": {"ENGINE": OURS, "CONN_MAX_AGE": 0},
}

#: Web servers by name: module, arguments, the application's name.
WEB_SERVERS: Mapping[str, tuple[str, tuple[str, ...], str]] = {
    "gunicorn sync": (
        "gunicorn",
        ("--workers=2", "--worker-class=sync"),
        "benchmarks.application:wsgi",
    ),
    "gunicorn gthread": (
        "gunicorn",
        ("--workers=2", "--worker-class=gthread", "--threads=4"),
        "benchmarks.application:wsgi",
    ),
    "uvicorn": ("uvicorn", ("--workers=1", "--no-access-log"), "benchmarks.application:asgi"),
}


class Site:
    """One configuration under one web server. `end` ends its processes."""

    def __init__(self, name: str, port: int, database: str, process: subprocess.Popen[bytes]):
        self.name = name
        self.database = database
        self.port = port
        self.process = process
        # It is killed if this process is killed. gunicorn's workers end with their master.
        guard.register(f"site {process.pid}", pid=process.pid)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        guard.forget(f"site {self.process.pid}")


@contextmanager
def sites(
    run: Run,
    web_server: str,
    names: Collection[str],
    configurations: Mapping[str, Mapping[str, Any]] = CONFIGURATIONS,
    *,
    transport: str = "tcp",
    via: tuple[str, int] | None = None,
) -> Iterator[list[Site]]:
    """Start one site for each name in `configurations`, each with its own database.

    `via`: host and port of a proxy. OPTIONS of a configuration are added to those of the transport.
    """
    started: list[Site] = []
    with TemporaryDirectory() as folder, Admin(run.target) as admin:
        try:
            for number, name in enumerate(names):
                database = f"bench_{number}"
                _copy_table(run, admin, database)
                settings = _settings(run, configurations[name], transport, via)
                settings["NAME"] = database
                log = Path(folder) / f"{number}.log"
                started.append(_start(run, name, web_server, settings, log))
            for site in started:
                _await(site, Path(folder))
            yield started
        finally:
            for site in started:
                site.process.terminate()
            for site in started:
                site.end()
            for number in range(len(names)):
                admin.rows(f"DROP DATABASE IF EXISTS bench_{number}")


def _settings(
    run: Run, configuration: Mapping[str, Any], transport: str, via: tuple[str, int] | None
) -> dict[str, Any]:
    more = dict(configuration)
    engine = more.pop("ENGINE")
    options = {**run.options(transport), **more.pop("OPTIONS", {})}
    return run.database(engine, transport, via=via, options=options, **more)


def _copy_table(run: Run, admin: Admin, database: str) -> None:
    admin.rows(f"CREATE DATABASE IF NOT EXISTS {database}")
    source = f"{run.target.database}.benchmarks_item"
    admin.rows(f"CREATE TABLE IF NOT EXISTS {database}.benchmarks_item LIKE {source}")
    admin.rows(f"REPLACE INTO {database}.benchmarks_item SELECT * FROM {source}")


def _start(run: Run, name: str, web_server: str, settings: dict[str, Any], log: Path) -> Site:
    module, arguments, application = WEB_SERVERS[web_server]
    port = free_port()
    where = (
        [f"--bind=127.0.0.1:{port}", "--log-level=warning"]
        if module == "gunicorn"
        else ["--host=127.0.0.1", f"--port={port}", "--log-level=warning"]
    )
    environment = {
        **os.environ,
        "BENCHMARK_DATABASE": json.dumps(settings),
        "BENCHMARK_DRIVER": run.driver,
    }
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments, *where, application],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            # The output of this process is rows.
            stdout=output,
            stderr=output,
        )
    return Site(name, port, settings["NAME"], process)


def _await(site: Site, folder: Path) -> None:
    """Return when the site answers. Raises RuntimeError with its log if it does not."""
    deadline = time.monotonic() + 30
    with Clients(site.port, 1) as clients:
        while not clients.burst(0).latencies:
            if site.process.poll() is not None or time.monotonic() > deadline:
                log = folder / f"{site.database.removeprefix('bench_')}.log"
                raise RuntimeError(f"{site.name} does not answer:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
