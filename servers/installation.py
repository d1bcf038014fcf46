"""Finds the server programs of this machine, and installs those that are missing."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from . import apt
from .errors import BadSetting, NotAvailable
from .machine import find_program, locked
from .unpacked import UnpackedTree

#: The -core packages have only the programs: no service, no account, no data folder.
MARIADB_PACKAGES = ("mariadb-server-core", "mariadb-client-core")

Vendor = Literal["mariadb", "mysql"]
VENDORS: tuple[Vendor, ...] = get_args(Vendor)


@dataclass(frozen=True)
class Installation:
    """A server program. `command` is the start of every command line."""

    vendor: Vendor
    version: str
    command: tuple[str, ...]
    options: tuple[str, ...] = ()


def check_vendor(vendor: str) -> Vendor:
    """Return `vendor` if it is one that this package knows; raise `BadSetting` otherwise."""
    for known in VENDORS:
        if vendor == known:
            return known
    raise BadSetting(f"vendor: expected one of {', '.join(VENDORS)}, got {vendor!r}")


def find(vendor: Vendor) -> Installation | None:
    """Return the server of this vendor if it is installed, or was unpacked earlier."""
    # The name proves nothing: if MariaDB is installed, 'mysqld' is often a link to it.
    for name in ("mariadbd", "mysqld"):
        program = find_program(name)
        if program is not None:
            installation = _inspect((program,))
            if installation is not None and installation.vendor == vendor:
                return installation
    return _unpacked_mysql() if vendor == "mysql" else None


def obtain_installation(vendor: Vendor) -> Installation:
    """Return a server of this vendor. Install (MariaDB) or unpack it (MySQL) if it is missing.

    Nothing is left running, and no data folder is made outside the folders of this package. Raises
    `NotAvailable` with what to install by hand.
    """
    found = find(vendor)
    if found is not None:
        return found
    with locked(vendor):
        # Another process may have had the lock because it was installing the same server.
        found = find(vendor)
        if found is not None:
            return found
        try:
            if vendor == "mariadb":
                apt.install(*MARIADB_PACKAGES)
            else:
                _unpack_mysql()
        except NotAvailable as error:
            raise NotAvailable(f"{_missing(vendor)}\n{error}") from error
        _inspect.cache_clear()
        found = find(vendor)
    if found is None:
        raise NotAvailable(f"{_missing(vendor)}\nIt was obtained but cannot be found or run.")
    return found


def _missing(vendor: Vendor) -> str:
    name, package = {
        "mariadb": ("MariaDB", "mariadb-server (10.11 or later)"),
        "mysql": ("MySQL", "mysql-server (8.4 or later)"),
    }[vendor]
    return f"No {name} server on this machine: install {package} so that its server program is on the PATH."


def _mysql_tree() -> UnpackedTree:
    return UnpackedTree("mysql")


def _unpack_mysql() -> None:
    """Unpack MySQL, because Debian's releases lack it, and Ubuntu's package conflicts with MariaDB.

    On Debian it comes from unstable, together with unstable's newer C library.
    """
    suite = "sid" if apt.distribution() == "debian" else None
    _mysql_tree().fill(r"mysql-server-core(-\d+\.\d+)?", suite=suite)


def _unpacked_mysql() -> Installation | None:
    tree = _mysql_tree()
    command = tree.command("usr/sbin/mysqld")
    if command is None:
        return None
    options = (
        f"--lc-messages-dir={tree.root}/usr/share/mysql",
        f"--character-sets-dir={tree.root}/usr/share/mysql/charsets",
        f"--plugin-dir={tree.root}/usr/lib/mysql/plugin",
    )
    return _inspect(command, options)


@lru_cache
def _inspect(command: tuple[str, ...], options: tuple[str, ...] = ()) -> Installation | None:
    result = subprocess.run(
        [*command, "--no-defaults", "--version"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    match = re.search(r"Ver (\d+\.\d+\.\d+)", result.stdout)
    if match is None:
        return None
    vendor: Vendor = "mariadb" if "mariadb" in result.stdout.lower() else "mysql"
    return Installation(vendor, match[1], command, options)
