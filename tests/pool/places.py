"""The site under the servers that users run it with, and what can be seen of it from outside."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from servers import Server
from servers.machine import free_port
from tests.docs.recipes.projects import ROOT, Program
from tests.integration.admin import Admin
from tests.integration.connections import OURS, STOCK, log_in_once

from .load import Answer, CutShort, at_once

__all__ = [
    "OURS",
    "STOCK",
    "WEB_SERVERS",
    "Site",
    "environment",
    "killing",
    "run_program",
    "start_site",
]

#: Arguments after `python -m`; {port} is filled in.
WEB_SERVERS: Mapping[str, str] = {
    "uvicorn": "uvicorn --host 127.0.0.1 --port {port} --no-access-log --log-level warning"
    " tests.pool.asgi:application",
    "hypercorn": "hypercorn --bind 127.0.0.1:{port} --log-level warning tests.pool.asgi:application",
    "daphne": "daphne -b 127.0.0.1 -p {port} -v 0 tests.pool.asgi:application",
    "granian": "granian --interface asgi --host 127.0.0.1 --port {port} --workers 1"
    " --log-level warning tests.pool.asgi:application",
    "gevent": "gunicorn --bind 127.0.0.1:{port} --worker-class gevent --worker-connections 100"
    " --keep-alive 5 --log-level warning tests.pool.wsgi",
    "gthread": "gunicorn --bind 127.0.0.1:{port} --worker-class gthread --threads {threads}"
    " --keep-alive 5 --log-level warning tests.pool.wsgi",
}

#: The site's connections. The administrator's go over the Unix socket.
OVER_TCP = (
    "SELECT id FROM information_schema.processlist WHERE host LIKE '127.0.0.1:%%' ORDER BY id"
)


class Site:
    """A running site."""

    def __init__(self, port: int, program: Program) -> None:
        self.port = port
        self.program = program

    def state(self) -> dict[str, Any]:
        """What the site says of itself: pid, threads, background tasks and the pool's statistics."""
        (given,) = self.at_once("/stats/")
        assert given.status == 200, given
        state: dict[str, Any] = json.loads(given.body)
        return state

    def out(self) -> int:
        """How many connections are borrowed at this moment."""
        pool = self.state()["pool"]
        return int(pool["pool_size"] - pool["pool_available"])

    def at_once(self, *paths: str) -> list[Answer]:
        return at_once(self.port, list(paths))

    def sessions_of(self, number: int) -> set[str]:
        """Have `number` transactions at the same time. Returns their connections' numbers.

        Threads that live on may still hold connections. They give them away after a second of rest.
        """
        seconds = 0.5 if self.out() == 0 else 3
        answers = self.at_once(*[f"/session/{n}/?pause={seconds}" for n in range(number)])
        assert {given.status for given in answers} == {200}, answers
        return {given.body.strip() for given in answers}


def environment(
    server: Server,
    driver: str,
    *,
    engine: str = OURS,
    pool: Mapping[str, Any] | bool | None = None,
    more: Mapping[str, str] | None = None,
    **settings: Any,
) -> dict[str, str]:
    """Variables for a program of the site. `settings` go into its entry of DATABASES."""
    if driver == "mysqlclient":
        log_in_once(server)
    options = {"ssl_disabled": True} if driver == "pymysql" else {"ssl_mode": "DISABLED"}
    database = {
        "ENGINE": engine,
        "HOST": server.host,
        "PORT": server.port,
        "USER": server.user,
        "PASSWORD": server.password,
        "NAME": server.database,
        "OPTIONS": {**options, **({} if pool is None else {"pool": pool})},
        **settings,
    }
    return {
        **{name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")},
        "DJANGO_MYSQL_RECYCLE_DRIVER": driver,
        "DJANGO_SETTINGS_MODULE": "tests.pool.settings",
        "POOL_SITE_DATABASE": json.dumps(database),
        "PYTHONUNBUFFERED": "1",
        # Under ASGI Django says that it reads a synchronous stream as a whole.
        "PYTHONWARNINGS": "ignore:StreamingHttpResponse",
        **(more or {}),
    }


@contextmanager
def run_program(folder: Path, variables: Mapping[str, str], *words: str) -> Iterator[Program]:
    """Run a Python module with its arguments for the time of the block."""
    log = folder / f"{words[0]}-{time.monotonic_ns()}.txt"
    with open(log, "w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    program = Program(process, log)
    try:
        yield program
    except BaseException:
        print(program.output[-5000:])  # noqa: T201
        raise
    finally:
        program.end()


@contextmanager
def start_site(
    folder: Path,
    server: Server,
    driver: str,
    web_server: str,
    *,
    threads: int = 12,
    **settings: Any,
) -> Iterator[Site]:
    """Run the site for the time of the block. `settings` are those of `environment()`."""
    port = free_port()
    words = WEB_SERVERS[web_server].format(port=port, threads=threads).split()
    with run_program(folder, environment(server, driver, **settings), *words) as program:
        site = Site(port, program)
        _await(site)
        yield site


def _await(site: Site) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            site.state()
        except (CutShort, OSError):
            assert site.program.running, site.program.output
            assert time.monotonic() < deadline, site.program.output
            time.sleep(0.05)
        else:
            return


@contextmanager
def killing(server: Server, every: float, chance: random.Random) -> Iterator[Callable[[], int]]:
    """KILL a connection of the site about every so many seconds. Gives a function that counts."""
    over = threading.Event()
    failures: list[BaseException] = []
    kills = 0

    def work() -> None:
        nonlocal kills
        try:
            with Admin(server) as admin:
                while not over.wait(chance.uniform(0, 2 * every)):
                    victims = admin.rows(OVER_TCP)
                    if not victims:
                        continue
                    try:
                        admin.rows(f"KILL {chance.choice(victims)[0]}")
                        kills += 1
                    except Exception as error:
                        if error.args[0] != 1094:  # it has already ended
                            raise
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, name="administrator")
    thread.start()
    try:
        yield lambda: kills
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]
