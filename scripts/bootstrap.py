"""Make the virtual environment that the Makefile uses: `bootstrap.py FOLDER use|test|bench|dev`.

Standard library only: it runs before anything is installed. `use` has the package and its
drivers, `test` also what the tests need, `bench` also what the benchmarks need, `dev` also linter,
type checker and nox.
"""

import subprocess
import sys
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

GROUPS = {"use": [], "test": ["test"], "bench": ["test", "bench"], "dev": ["dev"]}


def main(folder: Path, purpose: str) -> int:
    python = folder / "bin" / "python"
    if not has_pip(python) and not make_environment(folder):
        return 1
    say("installing the package and PyMySQL")
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
    probe = [str(python), "-c", "import MySQLdb"]
    if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
        return
    say("building mysqlclient")
    if pip(python, "mysqlclient>=2.2.1", quiet=True):
        return
    try:
        # python3-dev has the headers for the system's Python only. Other Pythons include theirs.
        install("default-libmysqlclient-dev", "pkg-config", "gcc", "python3-dev")
    except NotAvailable as error:
        print(f"mysqlclient cannot be built here; PyMySQL is used.\n{error}")
        return
    if not pip(python, "mysqlclient>=2.2.1", quiet=True):
        print(
            "mysqlclient cannot be built here although its headers are installed; PyMySQL is used."
        )


def pip(python: Path, *arguments: str, quiet: bool = False) -> bool:
    command = [str(python), "-m", "pip", "install", "--quiet", "--upgrade", *arguments]
    command += ["--disable-pip-version-check", "--no-input"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0 and not quiet:
        print(result.stdout + result.stderr)
    return result.returncode == 0


def say(text: str) -> None:
    print(f"set-up: {text}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[2] not in GROUPS:
        raise SystemExit(__doc__)
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2]))
