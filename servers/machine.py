"""Facts about this machine: the account, the folders for files, and the programs."""

from __future__ import annotations

import fcntl
import os
import pwd
import random
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import NotAvailable, ServersError

# The PATH of a normal user often lacks these folders, and servers are installed there.
SYSTEM_DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")

# Below Linux's default range for outgoing connections (32768-60999). A client could take a port of
# that range while a server restarts.
_SERVER_PORTS = range(20000, 32000)


def is_root() -> bool:
    return os.geteuid() == 0


def find_program(name: str) -> str | None:
    """Return the path of a program on PATH or in the usual system directories."""
    path = os.environ.get("PATH", os.defpath)
    return shutil.which(name, path=os.pathsep.join([path, *SYSTEM_DIRECTORIES]))


def require_program(name: str, package: str) -> str:
    """Return the path of a program, or raise `NotAvailable` naming the package that has it."""
    found = find_program(name)
    if found is None:
        raise NotAvailable(f"'{name}' is not installed: install the package '{package}'")
    return found


def server_user() -> pwd.struct_passwd | None:
    """Return the account that servers run as, `None` for the account of this process.

    No server runs as root, so root runs its servers as 'mysql' or 'nobody'.
    """
    if not is_root():
        return None
    for name in ("mysql", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServersError(
        "running as root, and there is neither a user 'mysql' nor 'nobody' to run servers as"
    )


def give_to_server_user(*paths: Path) -> None:
    """Change the owner of paths, and of everything below them, to the account that servers run as."""
    user = server_user()
    if user is None:
        return
    for path in paths:
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
        for directory, names, files in os.walk(path):
            for name in (*names, *files):
                os.chown(Path(directory, name), user.pw_uid, user.pw_gid, follow_symlinks=False)


def cache_directory(*parts: str) -> Path:
    """Return a folder for files that take long to make. It is created if it is missing.

    The account that servers run as cannot read root's home, so root uses /var/cache.
    """
    if is_root():
        base = Path("/var/cache")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = base.joinpath("django_mysql_recycle", *parts)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # an account without a home, as in many containers
        raise NotAvailable(
            f"{directory} cannot be made ({error.strerror}): set XDG_CACHE_HOME to a folder that "
            "can be written to"
        ) from error
    if is_root():
        for path in (directory, *directory.parents)[: len(parts) + 1]:
            path.chmod(0o755)  # whatever root's umask is
    return directory


def scratch_directory(prefix: str) -> Path:
    """Return a new temporary folder with a short path that the server's account can read.

    The path of a unix socket may have 107 characters, and temporary folders of tests are long.
    """
    base = Path(tempfile.gettempdir())
    if len(str(base)) > 40 or (is_root() and not _open_to_everyone(base)):
        base = Path("/tmp")
    directory = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=base))
    directory.chmod(0o755)
    return directory


def _open_to_everyone(directory: Path) -> bool:
    return all(path.stat().st_mode & stat.S_IXOTH for path in (directory, *directory.parents))


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock that all processes of this machine share, so that only one of them installs."""
    with open(cache_directory() / f"{name}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port on which nothing listens."""
    for port in random.sample(_SERVER_PORTS, 200):
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise ServersError(f"no free TCP port found on {host} between 20000 and 32000")
