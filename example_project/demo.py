"""The original problem with Django's backend and with this one, on a real server.

`make demo` runs it. The exit status is 0 only if Django's backend lost its connection and kept
failing, and this backend went on with a new connection.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parent
sys.path.insert(0, str(PROJECT.parent))

from servers import (  # noqa: E402
    VENDORS,
    BadSetting,
    Endpoint,
    ServersError,
    from_environment,
    guard,
    obtain,
)
from servers.greeting import NoGreeting, read_greeting  # noqa: E402

STOCK = "django.db.backends.mysql"
OURS = "django_mysql_recycle"
ROUNDS = 2
#: The errors of a connection that the server has closed. docs/troubleshooting.md explains them.
LOST = {"2006", "2013", "2026", "4031"}

_ANSWER = re.compile(r"SELECT now\(\) .* connection (?P<id>\d+) +(?P<ms>[0-9.]+) ms")
_ERROR = re.compile(r"SELECT now\(\) +(?P<name>\w+Error) \((?P<code>\d+), ")


@dataclass
class Session:
    """What a run of the loop printed."""

    status: int
    connections: list[str] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def lost_for_good(self) -> bool:
        """A statement succeeded, the next one failed with a lost connection, and so did another."""
        return (
            self.status == 1
            and len(self.connections) == 1
            and len(self.errors) == 2
            and self.errors[0] in LOST
        )

    @property
    def went_on(self) -> bool:
        """Every statement succeeded, after each pause on a new connection."""
        return (
            self.status == 0
            and not self.errors
            and len(self.connections) == ROUNDS + 1 == len(set(self.connections))
        )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vendor", choices=VENDORS, help="which server to start")
    wish = parser.parse_args(arguments).vendor
    # SIGTERM does the same as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        print("Looking for a server ...", flush=True)
        with obtain(wish) as server:
            return _compare(server)
    except ServersError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted. No process is left running.", file=sys.stderr)
        return 130


def _compare(server: Endpoint) -> int:
    named = from_environment() is not None
    variables = dict(server.settings)
    if named:
        _look_at(server)
        print("Server: the one that the environment variables name.")
        # The loop needs no database, and a server of the user may not have the one of the example.
        variables["MYSQL_DATABASE"] = os.environ.get("MYSQL_DATABASE", "")
    else:
        print(f"Server: {_described(server)}, started for this demo and removed after it.")
    before = _run_loop(STOCK, variables)
    if not before.connections:
        print("\nNo statement could be run, so there is nothing to compare.")
        if named:
            print("Correct the environment variables for the server: MYSQL_HOST and the others.")
        return 1
    after = _run_loop(OURS, variables)
    print()
    if not before.lost_for_good:
        print(f"Unexpected: {STOCK} did not lose its connection, or did not keep failing.")
    if not after.went_on:
        print(f"Unexpected: {OURS} did not continue with a new connection after each pause.")
    if not (before.lost_for_good and after.went_on):
        return 1
    print(f"before: {STOCK} fails after the pause ({before.errors[0]}) and stays broken.")
    print(f"after:  {OURS} continues, on connections {', '.join(after.connections)}.")
    costs = ", ".join(f"{spent:.1f}" for spent in after.milliseconds[1:])
    print(f"cost:   {costs} ms for each first statement after a pause, with its new connection.")
    return 0


def _look_at(server: Endpoint) -> None:
    """Raise BadSetting if no server answers; Django's own backend would wait for minutes."""
    if server.host:
        try:
            read_greeting(server.host, server.port, timeout=10)
        except NoGreeting as error:
            raise BadSetting(
                "MYSQL_HOST, MYSQL_PORT: expected a MySQL or MariaDB server at "
                f"{server.host}:{server.port}, got {error}"
            ) from error


def _described(server: Endpoint) -> str:
    product = {"mariadb": "MariaDB", "mysql": "MySQL"}[server.vendor]
    return f"{product} at {server.host}:{server.port}"


def _run_loop(engine: str, variables: dict[str, str]) -> Session:
    """Run the management command in a separate process and show what it prints."""
    arguments = ["loop", "--engine", engine, "--rounds", str(ROUNDS)]
    print(f"\n$ python manage.py {' '.join(arguments)}", flush=True)
    session = Session(status=-1)
    path = os.pathsep.join(filter(None, (str(PROJECT.parent), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, **variables, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    # The settings must not load one backend before the command loads the other.
    environment["EXAMPLE_ENGINE"] = engine
    process = subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=PROJECT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    key = f"loop {process.pid}"
    guard.register(key, pid=process.pid)  # so that it ends if this process is killed
    try:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if answer := _ANSWER.search(line):
                session.connections.append(answer["id"])
                session.milliseconds.append(float(answer["ms"]))
            elif error := _ERROR.search(line):
                session.errors.append(error["code"])
        session.status = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        guard.forget(key)
    return session


if __name__ == "__main__":
    raise SystemExit(main())
