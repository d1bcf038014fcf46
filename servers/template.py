"""An initialised data folder for each server program, made once and copied for every server.

Initialising takes some seconds, and copying less than one.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from .installation import Installation
from .machine import (
    cache_directory,
    give_to_server_user,
    locked,
    require_program,
    scratch_directory,
)
from .process import remove, run_once

# Small files, because they are copied for every server. Used for initialising and every start.
FILE_SIZES = {
    "mariadb": ("--innodb-log-file-size=8M", "--innodb-data-file-path=ibdata1:5M:autoextend"),
    "mysql": ("--innodb-redo-log-capacity=8M", "--innodb-data-file-path=ibdata1:5M:autoextend"),
}


def copy_template(installation: Installation, target: Path) -> None:
    """Make `target` a data folder in which this server can start."""
    template = _template(installation)
    # cp shares the blocks if the file system can, and keeps files sparse.
    subprocess.run(["cp", "-a", "--reflink=auto", str(template), str(target)], check=True)
    give_to_server_user(target)


def _template(installation: Installation) -> Path:
    recipe = repr((installation, FILE_SIZES)).encode()
    name = f"{installation.vendor}-{installation.version}-{hashlib.sha256(recipe).hexdigest()[:8]}"
    template = cache_directory("data") / name
    if not template.exists():
        with locked(f"data-{name}"):
            if not template.exists():
                _initialise(installation, template)
    return template


def _initialise(installation: Installation, template: Path) -> None:
    scratch = scratch_directory("recycle-init")
    try:
        data, temporary = scratch / "data", scratch / "tmp"
        data.mkdir()
        temporary.mkdir()
        data.chmod(0o750)
        give_to_server_user(data, temporary)
        if installation.vendor == "mariadb":
            command = [
                require_program("mariadb-install-db", "mariadb-server"),
                "--no-defaults",
                "--skip-test-db",
                "--auth-root-authentication-method=normal",
                "--cross-bootstrap",
            ]
        else:
            command = [
                *installation.command,
                "--no-defaults",
                *installation.options,
                "--initialize-insecure",
            ]
        command += [f"--datadir={data}", f"--tmpdir={temporary}", *FILE_SIZES[installation.vendor]]
        run_once(
            command,
            log=scratch / "log",
            what=f"initialising a data folder for {installation.vendor}",
        )
        # A rename within one file system is atomic: the template exists completely or not at all.
        partial = template.with_name(f"{template.name}.partial")
        remove(partial)
        shutil.move(data, partial)
        partial.rename(template)
    finally:
        remove(scratch)
