"""Uses apt to install a package, or to unpack one without installing anything."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from . import consent
from .errors import NotAvailable
from .machine import cache_directory, find_program, is_root, locked, scratch_directory

_QUIET = {
    "DEBIAN_FRONTEND": "noninteractive",
    "LC_ALL": "C.UTF-8",
    "APT_LISTCHANGES_FRONTEND": "none",
}


#: In the cache: the packages that were installed here, one a line, for `python -m servers clean`.
INSTALLED = "apt-packages.txt"


class Release(NamedTuple):
    """A release of the distribution, as a package source has it."""

    codename: str
    suite: str
    mirror: str


def available() -> bool:
    return find_program("apt-get") is not None


def distribution() -> str:
    """Return 'debian', 'ubuntu', or the other id in /etc/os-release."""
    return _os_release().get("ID", "")


def install(*packages: str) -> None:
    """Install packages as root or through `sudo -n`; raise `NotAvailable` with the command to run."""
    by_hand = f"install it by hand: apt-get install --no-install-recommends {' '.join(packages)}."
    prefix = _as_root()
    if not available() or prefix is None:
        raise NotAvailable(
            f"cannot install {', '.join(packages)}: needs apt-get and root or sudo; {by_hand}"
        )
    wait = ["-o", "DPkg::Lock::Timeout=300"]
    arguments = [*wait, "-y", "--no-install-recommends", "install", *packages]
    with locked("apt"):
        consent.require(f"apt-get install {' '.join(packages)}", size_to_install(packages), by_hand)
        before = _present()
        # Get new lists only if those of the machine are older than the mirror's files.
        result = _run([*prefix, "apt-get", *arguments])
        if result.returncode != 0:
            _run([*prefix, "apt-get", *wait, "update"])
            result = _run([*prefix, "apt-get", *arguments])
        _record(_present() - before)
        if result.returncode != 0:
            raise NotAvailable(
                f"apt-get could not install {', '.join(packages)}:\n{_tail(result)}\n{by_hand}"
            )


def installed_here() -> list[str]:
    """The packages that this package has installed, and that are still there."""
    record = cache_directory() / INSTALLED
    noted = set(record.read_text().split()) if record.exists() else set()
    return sorted(noted & _present()) if noted else []


def remove(packages: Sequence[str]) -> None:
    """Remove packages and their configuration; raise `NotAvailable` with the command to run."""
    command = ["apt-get", "-y", "purge", *packages]
    prefix = _as_root()
    result = _run([*prefix, *command]) if prefix is not None else None
    if result is None or result.returncode != 0:
        said = f"{_tail(result)}\n" if result else ""
        raise NotAvailable(f"{said}remove them by hand: {' '.join(command)}")


def size_to_install(packages: Sequence[str]) -> str:
    """How many packages apt would install and what space they take, as a phrase.

    Empty if apt has no lists of packages yet, as on a new machine.
    """
    command = ["apt-get", "--assume-no", "--no-install-recommends", "install", *packages]
    return size_of(_run(command).stdout)


def size_of(said: str) -> str:
    """What apt-get has said of the size of an installation, as a phrase; empty if it has not."""
    number = re.search(r"(\d+) newly installed", said)
    # 'After this operation, 198 MB of additional disk space will be used', or of apt 3 'Space needed: 198 MB'
    space = re.search(r"(?:After this operation, |Space needed: )([\d.,]+ ?[kMG]?B)", said)
    if number is None:
        return ""
    return f"{number[1]} packages" + (f", {space[1]}" if space else "")


def _present() -> set[str]:
    listing = _run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Package}\n"]).stdout
    return {line[3:].strip() for line in listing.splitlines() if line.startswith("ii")}


def _record(packages: Iterable[str]) -> None:
    with (cache_directory() / INSTALLED).open("a") as record:
        record.writelines(f"{package}\n" for package in sorted(packages))


def unpack(pattern: str, target: Path, *, suite: str | None = None) -> None:
    """Unpack a package and everything it depends on, with the C library, into the folder `target`.

    Nothing is installed and no root is needed: apt works on lists of its own and on an empty record
    of installed packages, so that it names all dependencies. `suite` takes the package from another
    suite than the machine's, on the same mirror; `pattern` is a regular expression for the package's name.
    """
    if not available() or find_program("dpkg-deb") is None:
        raise NotAvailable("cannot unpack packages: needs apt-get and dpkg-deb (Debian or Ubuntu)")
    scratch = scratch_directory("recycle-apt")
    try:
        options = _private_options(scratch, suite)
        _checked(["apt-get", *options, "update"])
        name = _newest_name(pattern, options)
        size = size_of(_run(["apt-get", *options, "--assume-no", "install", name]).stdout)
        consent.require(f"unpack {name} into {target.parent}", size, f"install {name}.")
        _checked(["apt-get", *options, "-y", "--download-only", "install", name])
        for archive in sorted((scratch / "cache" / "archives").glob("*.deb")):
            _checked(["dpkg-deb", "-x", str(archive), str(target)])
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _private_options(scratch: Path, suite: str | None) -> list[str]:
    for directory in ("lists/partial", "cache/archives/partial"):
        (scratch / directory).mkdir(parents=True)
    (scratch / "status").touch()
    settings = {
        "Dir::State": str(scratch),
        "Dir::State::lists": str(scratch / "lists"),
        "Dir::State::status": str(scratch / "status"),
        "Dir::Cache": str(scratch / "cache"),
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "",
        "APT::Install-Recommends": "false",
        "APT::Update::Post-Invoke": "",
        "APT::Update::Post-Invoke-Success": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    sources = scratch / "sources.list"
    components = "main universe" if distribution() == "ubuntu" else "main"
    release = _release()
    wanted = suite or release.codename
    sources.write_text(f"deb {_signed_by()}{release.mirror} {wanted} {components}\n")
    settings["Dir::Etc::sourcelist"] = str(sources)
    settings["Dir::Etc::sourceparts"] = "-"
    return [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]


def _newest_name(pattern: str, options: Sequence[str]) -> str:
    names = _checked(["apt-cache", *options, "pkgnames"]).stdout.split()
    matching = [name for name in names if re.fullmatch(pattern, name)]
    if not matching:
        raise NotAvailable(f"no package matches '{pattern}' in the package sources of this machine")
    return max(matching, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def own_release(codename: str, sources: Iterable[Release]) -> Release | None:
    """The release that this machine has, among its package sources.

    `codename`: what /etc/os-release says. On Debian's testing and unstable that is the name of the
    release to come, and the sources of unstable are called 'sid'.
    """
    # Updates, security and backports have a mirror of their own, or only some packages.
    whole = [source for source in sources if "-" not in source.codename]
    exact = [source for source in whole if source.codename == codename]
    rolling = [source for source in whole if source.suite in ("unstable", "testing")]
    return next(iter([*exact, *rolling]), None)


def _release() -> Release:
    """The release of this machine, and the mirror from which it gets it."""
    codename = _os_release().get("VERSION_CODENAME", "")
    target_format = "$(CODENAME)\t$(SUITE)\t$(REPO_URI)"
    for attempt in range(2):
        listing = _run(
            ["apt-get", "indextargets", "--format", target_format, "Created-By: Packages"]
        )
        sources = [Release(*line.split("\t")) for line in listing.stdout.splitlines()]
        release = own_release(codename, sources)
        if release is not None:
            return release
        prefix = _as_root()
        if attempt == 0 and prefix is not None:
            # Release files name the suites, and a new machine does not have them yet.
            _run([*prefix, "apt-get", "update"])
    raise NotAvailable(
        "no package source of this machine's own release was found: run 'apt-get update' as root"
    )


def _signed_by() -> str:
    keyring = Path(f"/usr/share/keyrings/{distribution()}-archive-keyring.gpg")
    return f"[signed-by={keyring}] " if keyring.exists() else ""


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _as_root() -> list[str] | None:
    if is_root():
        return []
    sudo = find_program("sudo")
    if sudo is not None and _run([sudo, "-n", "true"]).returncode == 0:
        return [sudo, "-n", "env", *(f"{key}={value}" for key, value in _QUIET.items())]
    return None


def _checked(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    result = _run(command)
    if result.returncode != 0:
        raise NotAvailable(f"{command[0]} failed:\n{_tail(result)}")
    return result


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **_QUIET},
        check=False,
    )


def _tail(result: subprocess.CompletedProcess[str]) -> str:
    return "\n".join((result.stdout + result.stderr).strip().splitlines()[-8:])
