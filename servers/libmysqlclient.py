"""Builds mysqlclient with Oracle's libmysqlclient, beside the installed one with Connector/C.

Debian has this library only in its unstable suite, for a newer C library than the machine's. So it
is unpacked, mysqlclient is built with it in a separate folder, and the unpacked loader runs Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from .errors import NotAvailable
from .machine import cache_directory, locked
from .unpacked import UnpackedTree

__all__ = ["obtain_python"]


def obtain_python() -> tuple[tuple[str, ...], dict[str, str]]:
    """The command of this Python with libmysqlclient, and the environment that it needs.

    Programs that it starts with `sys.executable` have the installed mysqlclient again, unless they
    are started with the same command. Raises `NotAvailable`.
    """
    tree = UnpackedTree("libmysqlclient-dev")
    with locked("libmysqlclient"):
        if not tree.root.exists():
            tree.fill("libmysqlclient-dev", suite="sid")
        loader = tree.command("usr/include/mysql/mysql.h")
        if loader is None:
            raise NotAvailable(f"{tree.root} is incomplete: remove it")
        site = _built(tree.root)
    # The last part is the program to run, here the interpreter of this environment.
    return (*loader[:-1], sys.executable), {"PYTHONPATH": str(site)}


def _built(root: Path) -> Path:
    wanted = version("mysqlclient")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    site = cache_directory() / f"libmysqlclient-mysqlclient-{wanted}-{python}"
    if site.exists():
        return site
    [library] = root.glob("usr/lib/*/libmysqlclient.so")
    partial = site.with_name(f"{site.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    # The folder of the library also has a C library, which must not be linked.
    link = partial / "link"
    link.mkdir(parents=True)
    (link / library.name).symlink_to(library)
    options = f"--quiet --no-deps --no-cache-dir --no-binary :all: --target {partial}".split()
    result = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, f"mysqlclient=={wanted}"],
        env={
            **os.environ,
            "MYSQLCLIENT_CFLAGS": f"-I{root}/usr/include/mysql -idirafter {root}/usr/include",
            "MYSQLCLIENT_LDFLAGS": f"-L{link} -lmysqlclient",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise NotAvailable(f"mysqlclient cannot be built on libmysqlclient:\n{result.stderr}")
    partial.rename(site)
    return site
