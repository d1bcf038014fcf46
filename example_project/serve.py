"""The example project on a temporary server: `make run`.

While it runs, `python manage.py ...` in another terminal uses the server that was started here.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parent
sys.path.insert(0, str(PROJECT.parent))

from trouble import Trouble  # noqa: E402

from servers import (  # noqa: E402
    VENDORS,
    Endpoint,
    ServersError,
    from_environment,
    guard,
    obtain,
)

#: Read by config/settings.py.
WHERE = PROJECT / ".server.json"

#: Short, so that every pause of a visitor is longer.
WAIT_TIMEOUT = 3


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vendor", choices=VENDORS, help="which server to start")
    parser.add_argument("--port", type=_port, default=8000, help="of the web server (8000)")
    options = parser.parse_args(arguments)
    # SIGTERM does the same as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if _is_taken(options.port):
        # Django would say so, too, but only after .server.json had been overwritten.
        print(
            f"Port {options.port} is in use, perhaps by another `make run`. Choose another one:\n"
            f"{sys.executable} {Path(__file__)} --port PORT",
            file=sys.stderr,
        )
        return 1
    try:
        print("Looking for a database server ...", flush=True)
        with obtain(options.vendor, wait_timeout=WAIT_TIMEOUT) as server:
            if from_environment() is not None:
                print("Database: the server that the environment variables name.", flush=True)
                return _serve(server, options.port, None)
            where = f"{server.vendor} at {server.host}:{server.port}"
            print(f"Database: {where}, started for this run and removed after it.", flush=True)
            with _published(server), Trouble(server) as trouble:
                return _serve(server, options.port, trouble)
    except ServersError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise ValueError
    return port


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as runserver does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
        return False


def _serve(server: Endpoint, port: int, trouble: Trouble | None) -> int:
    path = os.pathsep.join(filter(None, (str(PROJECT.parent), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, **server.settings, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    for name in ("EXAMPLE_PATH", "EXAMPLE_TROUBLE"):
        environment.pop(name, None)
    status = _run(["migrate", "--verbosity", "0"], environment)
    inherited: tuple[int, ...] = ()
    if trouble is not None:
        inherited = (trouble.theirs.fileno(),)
        environment |= {
            "EXAMPLE_PATH": trouble.path.address,
            "EXAMPLE_TROUBLE": str(trouble.theirs.fileno()),
        }
    # The reloader would be a second process, which would stay if this one is ended.
    command = ["runserver", "--noreload", f"127.0.0.1:{port}"]
    return status or _run(command, environment, inherited)


@contextmanager
def _published(server: Endpoint) -> Iterator[None]:
    """Let manage.py in other terminals find the server, as long as it runs."""
    guard.register(str(WHERE), command=["rm", "-f", str(WHERE)])
    descriptor = os.open(WHERE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        json.dump(server.settings, file)
    try:
        yield
    finally:
        WHERE.unlink(missing_ok=True)
        guard.forget(str(WHERE))


def _run(arguments: list[str], environment: dict[str, str], inherited: tuple[int, ...] = ()) -> int:
    command = [sys.executable, "manage.py", *arguments]
    process = subprocess.Popen(command, cwd=PROJECT, env=environment, pass_fds=inherited)
    key = f"manage.py {process.pid}"
    guard.register(key, pid=process.pid)  # so that it ends if this process is killed
    try:
        return process.wait()
    finally:
        # After Ctrl-C it has already got a signal from the terminal. A second one does no harm.
        process.terminate()
        process.wait()
        guard.forget(key)


if __name__ == "__main__":
    raise SystemExit(main())
