"""Make the virtual environment that the Makefile uses: `bootstrap.py FOLDER use|test|bench|dev|retry`.

Standard library only: it runs before anything is installed. `use` has the package and its
drivers, `test` also what the tests need, `bench` also what the benchmarks need, `dev` also linter,
type checker and nox. `retry` only builds mysqlclient, if that failed before and its headers are
there now.
"""

import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - the Python that runs make may be older
    # Before the next import, which an older Python cannot parse. Python 3.6 can parse this file.
    raise SystemExit(
        f"Python 3.10 or later is needed, {sys.executable} is {sys.version.split()[0]}:"
        " name another with 'make PYTHON=python3.12 ...'"
    )

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from servers import NotAvailable  # noqa: E402
from servers.apt import install  # noqa: E402

GROUPS = {"use": [], "test": ["test"], "bench": ["test", "bench"], "dev": ["dev"], "retry": []}
#: What an environment for each purpose takes, measured with Python 3.13 on Linux.
SIZES = {"use": "90 MB", "test": "500 MB", "bench": "500 MB", "dev": "600 MB"}
#: In the environment, if mysqlclient could not be built.
MARK = "without-mysqlclient"
SECONDS_PER_LINE = 10


def main(folder: Path, purpose: str) -> int:
    python = folder / "bin" / "python"
    if purpose == "retry":
        if can_build_mysqlclient():
            obtain_mysqlclient(python)
        return 0
    say(f"Python packages go into {folder}: {SIZES[purpose]}. Nothing is installed elsewhere yet")
    if not has_pip(python) and not make_environment(folder):
        return 1
    say("installing the package, PyMySQL" + "".join(f", {name}" for name in GROUPS[purpose]))
    # Dependency groups came with pip 25.1; a new environment may have an older one.
    if not pip(python, "pip>=25.1"):
        return 1
    groups = [
        part for group in GROUPS[purpose] for part in ("--group", f"{ROOT}/pyproject.toml:{group}")
    ]
    if not pip(python, "--editable", f"{ROOT}[pymysql]", "cryptography", *groups):
        return 1
    obtain_mysqlclient(python)
    return 0


def has_pip(python: Path) -> bool:
    """Whether the environment exists and is complete. Creating it may have been interrupted."""
    probe = [str(python), "-m", "pip", "--version"]
    return (
        python.exists() and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    )


def make_environment(folder: Path) -> bool:
    say(f"making {folder} with Python {sys.version.split()[0]}")
    if find_spec("ensurepip") is None:
        # Debian and Ubuntu have the part of venv that installs pip in a separate package.
        try:
            install("python3-venv")
        except NotAvailable as error:
            print(f"Python's venv module is incomplete.\n{error}")
            return False
    command = [sys.executable, "-m", "venv", "--clear", str(folder)]
    return subprocess.run(command, check=False).returncode == 0


def obtain_mysqlclient(python: Path) -> None:
    """Install mysqlclient if it can be built. The project also works, and is also tested, without it."""
    mark = python.parent.parent / MARK
    mark.touch()  # until it is there
    if has_mysqlclient(python):
        mark.unlink()
        return
    say("building mysqlclient")
    if pip(python, "mysqlclient>=2.2.1", quiet=True):
        mark.unlink()
        return
    try:
        # python3-dev has the headers for the system's Python only. Other Pythons include theirs.
        install("default-libmysqlclient-dev", "pkg-config", "gcc", "python3-dev")
    except NotAvailable as error:
        print(f"mysqlclient cannot be built here; PyMySQL is used.\n{error}")
        return
    if pip(python, "mysqlclient>=2.2.1", quiet=True):
        mark.unlink()
    else:
        print(
            "mysqlclient cannot be built here although its headers are installed; PyMySQL is used."
        )


def has_mysqlclient(python: Path) -> bool:
    probe = [str(python), "-c", "import MySQLdb"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def can_build_mysqlclient() -> bool:
    """Whether a compiler and the headers of a client library are there now."""
    if shutil.which("pkg-config") is None or not (shutil.which("cc") or shutil.which("gcc")):
        return False
    return any(
        subprocess.run(["pkg-config", "--exists", name], check=False).returncode == 0
        for name in ("mysqlclient", "mariadb", "libmariadb", "perconaserverclient")
    )


def pip(python: Path, *arguments: str, quiet: bool = False) -> bool:
    """Install packages, and say how far that is. `quiet`: a failure is not shown."""
    command = [str(python), "-m", "pip", "install", "--upgrade", *arguments]
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    output, found, reported = [], 0, time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line)
            found += line.startswith("Collecting ")
            if line.startswith("Installing collected packages"):
                say(f"  installing {line.count(',') + 1} packages")
            elif time.monotonic() - reported > SECONDS_PER_LINE:
                reported = time.monotonic()
                say(f"  {found} packages so far")
    if process.returncode != 0 and not quiet:
        print("".join(output))
    return process.returncode == 0


def say(text: str) -> None:
    print(f"set-up: {text}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[2] not in GROUPS:
        raise SystemExit(__doc__)
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2]))
