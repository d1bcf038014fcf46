"""`python -m servers run` and `python -m servers install`."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys

from .environment import from_environment
from .errors import ServersError
from .haproxy import obtain_haproxy
from .installation import VENDORS, check_vendor, find, obtain_installation
from .netns import obtain_programs
from .server import Server


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m servers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run", help="run a throwaway server until Ctrl-C or the end of standard input"
    )
    run.add_argument(
        "--vendor", choices=VENDORS, help="default: the one that is installed, else mariadb"
    )
    run.add_argument("--wait-timeout", type=int, default=28800, metavar="SECONDS")
    install = commands.add_parser("install", help="obtain servers and tools without running them")
    install.add_argument("what", nargs="+", choices=(*VENDORS, "haproxy", "netns"))
    options = parser.parse_args(arguments)
    try:
        if options.command == "run":
            _run(options.vendor, options.wait_timeout)
        else:
            for what in options.what:
                _install(what)
    except ServersError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _run(wish: str | None, wait_timeout: int) -> None:
    if from_environment() is not None:
        print(
            "MYSQL_HOST or MYSQL_SOCKET is set; a server of its own is run all the same",
            file=sys.stderr,
        )
    vendor = (
        check_vendor(wish) if wish else next((name for name in VENDORS if find(name)), "mariadb")
    )
    # Service managers and `kill` send SIGTERM. The server must end then, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Server(vendor, wait_timeout=wait_timeout) as server:
        for name, value in server.settings.items():
            print(f"{name}={shlex.quote(value)}")
        print(
            f"# {server.vendor} {server.version}, until Ctrl-C or the end of standard input",
            flush=True,
        )
        try:
            while sys.stdin.readline():
                pass
        except KeyboardInterrupt:
            print(file=sys.stderr)


def _install(what: str) -> None:
    if what == "haproxy":
        print(f"haproxy: {obtain_haproxy()[-1]}")
    elif what == "netns":
        obtain_programs()
        print("netns: ip and iptables are there")
    else:
        installation = obtain_installation(check_vendor(what))
        print(f"{what}: {installation.version}, {installation.command[-1]}")


if __name__ == "__main__":
    raise SystemExit(main())
