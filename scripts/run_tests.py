"""Run the tests with this interpreter: per driver and server what depends on them, the rest once.

A driver is chosen once per process, so each combination is a run of its own, or several with a part
of the files each. Runs take place at the same time: tests mostly wait for servers and kernels.
Everything runs even if something fails; the exit status is 1 if anything did. What follows `--` goes
to every pytest.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import threading
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

from servers import VENDORS, NotAvailable, check_vendor, consent, netns, obtain_installation  # noqa: E402
from servers.apt import install, size_to_install  # noqa: E402
from servers.chromium import PACKAGES as CHROMIUM  # noqa: E402
from servers.chromium import find_browser, obtain_browser  # noqa: E402
from servers.haproxy import find_haproxy, obtain_haproxy  # noqa: E402
from servers.installation import MARIADB_PACKAGES, find  # noqa: E402
from servers.libmysqlclient import obtain_python  # noqa: E402
from servers.machine import cache_directory, find_program  # noqa: E402

#: What does not rest on the 2006 of Connector/C, and starts no program that needs the library.
ON_LIBMYSQLCLIENT = [
    "tests/libmysqlclient",
    "tests/docs/test_error_table.py",
    "tests/integration/test_error_numbers.py",
    "tests/integration/test_fault_matrix.py",
    "tests/integration/server_rollback",
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
    namespaces = netns.is_allowed()
    try:
        plan = missing(options.servers, namespaces=namespaces, browser=not options.marks)
        if plan:
            consent.ask(plan)
        for vendor in options.servers:
            installation = obtain_installation(check_vendor(vendor))
            print(f"{vendor} {installation.version}: {installation.command[-1]}", flush=True)
        obtain_haproxy()
        if namespaces:
            netns.obtain_programs()
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
    if not namespaces:
        print(
            "No network namespace can be made (that needs root, and CAP_SYS_ADMIN in a container): "
            "tests marked 'netns' are deselected."
        )
        marks = f"({marks}) and not netns" if marks else "not netns"
    arguments = [*(["-m", marks] if marks else []), *options.pytest]
    parts = in_parts("tests/integration", options.parts)
    runs = [Run("without a server", ["tests/thorough", *options.pytest], {})]
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
        short = ["tests/pool", "-m", "not load", *options.pytest]
        runs += [
            Run(
                f"pool, {driver} on {vendor}",
                short,
                {"RECYCLE_TEST_DRIVER": driver, "RECYCLE_TEST_SERVER": vendor},
            )
            for driver, vendor in product(drivers, options.servers)
        ]
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
    outcomes = []
    if not options.libmysqlclient:
        outcomes.append(
            execute_openly(Run("unit tests", ["tests/unit", *options.pytest], {}), options)
        )
    outcomes += in_parallel(runs, options.jobs, options.coverage)
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


def missing(vendors: Sequence[str], *, namespaces: bool, browser: bool) -> list[str]:
    """What has to be installed before the tests can run, each a line with its size."""
    packages = [*missing_libraries(), *(netns.missing_programs() if namespaces else [])]
    if "mariadb" in vendors and find("mariadb") is None:
        packages += MARIADB_PACKAGES
    if browser:
        try:
            find_browser()
        except NotAvailable:
            packages += CHROMIUM
    plan = []
    if packages:
        size = size_to_install(packages) or "the size is not known before 'apt-get update'"
        plan.append(f"by apt: {' '.join(packages)} ({size})")
    if "mysql" in vendors and find("mysql") is None:
        plan.append(f"unpacked into {cache_directory()}: MySQL (330 MB)")
    if find_haproxy() is None:
        plan.append(f"unpacked into {cache_directory()}: HAProxy (110 MB)")
    return plan


def missing_libraries() -> list[str]:
    """The packages of what GeoDjango loads, of MariaDB's Galera, and of strace, if they are missing.

    Without them their tests fail, and the others can still run.
    """
    packages = []
    if find_library("gdal") is None or find_library("geos_c") is None:
        packages.append("gdal-bin")
    if not Path("/usr/lib/galera/libgalera_smm.so").exists():
        packages.append("galera-4")
    if find_program("strace") is None:
        packages.append("strace")
    return packages


def obtain_libraries() -> None:
    """Install them."""
    for package in missing_libraries():
        try:
            install(package)
        except NotAvailable as error:
            print(f"{package} is missing, its tests will fail.\n{error}")


def installed_drivers() -> list[str]:
    found = [driver for driver, module in MODULES.items() if find_spec(module) is not None]
    for driver in set(MODULES) - set(found):
        print(f"NOTE: {driver} is not installed: its half of the tests is not run.")
    return found


class Progress:
    """Says every half minute how far the runs are, because each prints its output at its end."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._ended = 0
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._percent: dict[str, str] = {}
        self._began = time.monotonic()

    def __enter__(self) -> Progress:
        threading.Thread(target=self._report, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._done.set()

    def read(self, run: Run, line: str) -> None:
        """Take note of a line of pytest, which ends with '[ 42%]'."""
        found = re.search(r"\[ *(\d+)%\]$", line)
        with self._lock:
            self._percent[run.name] = found[1] if found else self._percent.get(run.name, "0")

    def ended(self, run: Run) -> None:
        with self._lock:
            self._ended += 1
            self._percent.pop(run.name, None)

    def line(self) -> str:
        with self._lock:
            running = ", ".join(f"{name} {percent} %" for name, percent in self._percent.items())
            seconds = time.monotonic() - self._began
            return f"--- {seconds:4.0f} s, {self._ended} of {self._total} runs ended; {running}"

    def _report(self) -> None:
        while not self._done.wait(30):
            print(self.line(), flush=True)


def in_parallel(runs: Sequence[Run], jobs: int, coverage: bool) -> Iterator[Outcome]:
    with Progress(len(runs)) as progress, ThreadPoolExecutor(max_workers=jobs) as pool:
        yield from pool.map(lambda run: execute(run, coverage, progress), runs)


def command_of(run: Run, coverage: bool) -> list[str]:
    launcher = ["-m", "coverage", "run", "-m", "pytest"] if coverage else ["-m", "pytest"]
    return [*run.python, *launcher, *run.arguments]


def execute_openly(run: Run, options: argparse.Namespace) -> Outcome:
    """Run pytest and let it print as it goes."""
    began = time.monotonic()
    print(f"\n{'=' * 10} {run.name} {'=' * 10}", flush=True)
    result = subprocess.run(
        command_of(run, options.coverage), stdin=subprocess.DEVNULL, cwd=ROOT, check=False
    )
    outcome = "passed" if result.returncode == 0 else "FAILED, see above"
    return Outcome(run, result.returncode, outcome, time.monotonic() - began)


def execute(run: Run, coverage: bool, progress: Progress) -> Outcome:
    """Run pytest and print its whole output when it has ended, so that runs do not mix."""
    began = time.monotonic()
    lines = []
    with subprocess.Popen(
        command_of(run, coverage),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=ROOT,
        env={**os.environ, **run.environment},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            progress.read(run, line.rstrip())
    progress.ended(run)
    output = "".join(lines)
    sys.stdout.write(f"\n{'=' * 10} {run.name} {'=' * 10}\n{output}")
    sys.stdout.flush()
    last = output.strip().splitlines()
    return Outcome(run, process.returncode, last[-1] if last else "", time.monotonic() - began)


if __name__ == "__main__":
    raise SystemExit(main())
