"""`python -m servers run`, `python -m servers install` and `python -m servers clean`."""

from __future__ import annotations

import argparse
import shlex
import shutil
import signal
import sys

from . import apt, consent
from .environment import from_environment
from .errors import ServersError
from .haproxy import obtain_haproxy
from .installation import VENDORS, check_vendor, find, obtain_installation
from .machine import cache_directory
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
    commands.add_parser("clean", help="remove what was unpacked and installed for this project")
    options = parser.parse_args(arguments)
    try:
        if options.command == "run":
            _run(options.vendor, options.wait_timeout)
        elif options.command == "clean":
            _clean()
        else:
            consent.agree()  # the command says what is to be installed
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


def _clean() -> None:
    cache = cache_directory()
    kept = set()
    packages = apt.installed_here()
    if packages:
        print("These packages were installed for this project:")
        print(f"  {' '.join(packages)}")
        agreed = consent.given() or (
            sys.stdin.isatty() and input("Remove them, too? [y/N] ").lower() in ("y", "yes")
        )
        if agreed:
            apt.remove(packages)
        else:
            print("They stay. YES=1 removes them, and so does")
            print(f"  apt-get purge {' '.join(packages)}")
            kept.add(apt.INSTALLED)  # the next call names them again
    for path in cache.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in kept:
            path.unlink()
    print(f"emptied {cache}")


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
