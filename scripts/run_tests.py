"""Run the tests with this interpreter: per driver and server what depends on them, the rest once.

A driver is chosen once per process, so each combination is a run of its own, or several with a part
of the files each. Runs take place at the same time: tests mostly wait for servers and kernels.
Everything runs even if something fails; the exit status is 1 if anything did. What follows `--` goes
to every pytest.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from ctypes.util import find_library
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from servers import VENDORS, NotAvailable, check_vendor, obtain_installation  # noqa: E402
from servers.apt import install  # noqa: E402
from servers.chromium import obtain_browser  # noqa: E402
from servers.haproxy import obtain_haproxy  # noqa: E402
from servers.libmysqlclient import obtain_python  # noqa: E402
from servers.machine import find_program, is_root  # noqa: E402
from servers.netns import obtain_programs  # noqa: E402

#: What does not rest on the 2006 of Connector/C, and starts no program that needs the library.
ON_LIBMYSQLCLIENT = [
    "tests/libmysqlclient",
    "tests/docs/test_error_table.py",
    "tests/integration/test_error_numbers.py",
    "tests/integration/test_fault_matrix.py",
    "tests/integration/test_server_rollback.py",
]

MODULES = {"mysqlclient": "MySQLdb", "pymysql": "pymysql"}


class Run(NamedTuple):
    name: str
    arguments: Sequence[str]
    environment: dict[str, str]
    python: Sequence[str] = (sys.executable,)


class Outcome(NamedTuple):
    run: Run
    status: int
    last_line: str
    seconds: float


def main() -> int:
    options = parse()
    drivers = options.drivers or installed_drivers()
    try:
        for vendor in options.servers:
            installation = obtain_installation(check_vendor(vendor))
            print(f"{vendor} {installation.version}: {installation.command[-1]}", flush=True)
        obtain_haproxy()
        if is_root():
            obtain_programs()
    except NotAvailable as error:
        print(error)
        return 1
    obtain_libraries()
    if not options.marks:
        try:
            # Here and not in the tests, which run at the same time as others that need apt.
            obtain_browser()
        except NotAvailable as error:
            print(f"The tests of the page will fail: {error}")
    marks = options.marks
    if not is_root():
        print("Not root: tests marked 'netns' are deselected, a network namespace cannot be made.")
        marks = f"({marks}) and not netns" if marks else "not netns"
    arguments = [*(["-m", marks] if marks else []), *options.pytest]
    parts = in_parts("tests/integration", options.parts)
    runs = [Run("without a server", ["tests/unit", "tests/thorough", *options.pytest], {})]
    runs += [
        Run(
            f"{driver} on {vendor}, {number} of {len(parts)}",
            [*files, *arguments],
            {"RECYCLE_TEST_DRIVER": driver, "RECYCLE_TEST_SERVER": vendor},
        )
        for number, files in enumerate(parts, start=1)
        for driver, vendor in product(drivers, options.servers)
    ]
    if not options.marks:
        runs.append(Run("documentation", ["tests/docs", *arguments], {}))
        runs.append(Run("page in the browser", ["tests/browser", *arguments], {}))
    if options.libmysqlclient:
        try:
            python, environment = obtain_python()
        except NotAvailable as error:
            print(error)
            return 1
        environment |= {"RECYCLE_TEST_DRIVER": "mysqlclient", "RECYCLE_TEST_SERVER": "mysql"}
        runs = [Run("libmysqlclient", [*ON_LIBMYSQLCLIENT, *options.pytest], environment, python)]
    outcomes = list(in_parallel(runs, options.jobs, options.coverage))
    print("\n" + "=" * 30 + " all runs " + "=" * 30)
    for outcome in outcomes:
        print(f"{outcome.run.name:30} {outcome.seconds:5.0f} s   {outcome.last_line}")
    sys.stdout.flush()
    if options.coverage:
        subprocess.run(
            [sys.executable, "-m", "coverage", "combine", "--quiet"], cwd=ROOT, check=True
        )
        subprocess.run([sys.executable, "-m", "coverage", "report"], cwd=ROOT, check=True)
    return 1 if any(outcome.status != 0 for outcome in outcomes) else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drivers", nargs="+", choices=MODULES, help="default: those installed")
    parser.add_argument("--servers", nargs="+", choices=VENDORS, default=list(VENDORS))
    parser.add_argument(
        "-m", dest="marks", default="", help="only integration tests with these pytest marks"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=3 * (os.cpu_count() or 1),
        help="runs at the same time (default: three for each core)",
    )
    parser.add_argument(
        "--parts", type=int, default=2, help="runs for each driver and server (default: 2)"
    )
    parser.add_argument(
        "--libmysqlclient",
        action="store_true",
        help="only mysqlclient on Oracle's libmysqlclient, on MySQL",
    )
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    return parser.parse_args()


def in_parts(folder: str, parts: int) -> list[list[str]]:
    """Deal the test files out, the largest first, so that each part takes about as long."""
    files = sorted((ROOT / folder).rglob("test_*.py"), key=lambda file: -file.stat().st_size)
    names = [str(file.relative_to(ROOT)) for file in files]
    return [names[number::parts] for number in range(parts)]


def obtain_libraries() -> None:
    """Install what GeoDjango loads, MariaDB's Galera, and strace, which counts system calls.

    Without them their tests fail, and the others can still run.
    """
    missing = []
    if find_library("gdal") is None or find_library("geos_c") is None:
        missing.append("gdal-bin")
    if not Path("/usr/lib/galera/libgalera_smm.so").exists():
        missing.append("galera-4")
    if find_program("strace") is None:
        missing.append("strace")
    for package in missing:
        try:
            install(package)
        except NotAvailable as error:
            print(f"{package} is missing, its tests will fail.\n{error}")


def installed_drivers() -> list[str]:
    found = [driver for driver, module in MODULES.items() if find_spec(module) is not None]
    for driver in set(MODULES) - set(found):
        print(f"NOTE: {driver} is not installed: its half of the tests is not run.")
    return found


def in_parallel(runs: Sequence[Run], jobs: int, coverage: bool) -> Iterator[Outcome]:
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        yield from pool.map(lambda run: execute(run, coverage), runs)


def execute(run: Run, coverage: bool) -> Outcome:
    """Run pytest and print its whole output when it has ended, so that runs do not mix."""
    began = time.monotonic()
    launcher = ["-m", "coverage", "run", "-m", "pytest"] if coverage else ["-m", "pytest"]
    result = subprocess.run(
        [*run.python, *launcher, *run.arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=ROOT,
        env={**os.environ, **run.environment},
        check=False,
    )
    sys.stdout.write(f"\n{'=' * 10} {run.name} {'=' * 10}\n{result.stdout}")
    sys.stdout.flush()
    lines = result.stdout.strip().splitlines()
    return Outcome(run, result.returncode, lines[-1] if lines else "", time.monotonic() - began)


if __name__ == "__main__":
    raise SystemExit(main())
