"""Run Django's own tests on the stock engine and on ours, and compare test by test.

The tests come from the source distribution of the Django that this interpreter has. The exit
status is 0 only if the same tests ran with the same outcome: exactly the tests that fail or are
skipped with the stock engine have to fail or be skipped with this one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from servers import VENDORS, NotAvailable, Server, ServersError  # noqa: E402
from servers.machine import cache_directory, locked  # noqa: E402

ENGINES = {"stock": "django.db.backends.mysql", "ours": "django_mysql_recycle"}
LABELS = (
    "backends",
    "transactions",
    "transaction_hooks",
    "test_utils",
    "servers",
    "async",
    "select_for_update",
)
#: Tests that rely on what a pool takes over from Django, with the reason.
DIFFERENT_WITH_POOL = {
    f"backends.base.test_base.ConnectionHealthChecksTests.{name}": (
        "the end of a request returns the connection, whatever CONN_MAX_AGE is"
    )
    for name in (
        "test_health_checks_disabled",
        "test_health_checks_enabled",
        "test_health_checks_enabled_errors_occurred",
        "test_set_autocommit_health_checks_enabled",
    )
}
Results = dict[str, list[str]]


def main() -> int:
    options = parse()
    import django

    version = django.get_version()
    title = f"Django {version}'s own tests, {options.driver} on {options.server}"
    title += ", with a pool" if options.pool else ""
    print(f"{title}: {' '.join(options.labels)}", flush=True)
    try:
        suite = source_of(version)
        # Each engine has its own server, so that its tests do not wait for locks of the other's.
        with ThreadPoolExecutor(max_workers=options.jobs) as pool:
            runs = {name: pool.submit(run, suite, name, options) for name in ENGINES}
            results = {name: run.result() for name, run in runs.items()}
    except ServersError as error:
        print(error)
        return 1
    return compare(
        results["stock"], results["ours"], title, DIFFERENT_WITH_POOL if options.pool else {}
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--driver", choices=("mysqlclient", "pymysql"), default="mysqlclient")
    parser.add_argument("--server", choices=VENDORS, default="mariadb")
    parser.add_argument("--pool", action="store_true", help="our engine with a connection pool")
    parser.add_argument("--jobs", type=int, default=2, help="engines at the same time (default: 2)")
    parser.add_argument(
        "labels", nargs="*", default=list(LABELS), help=f"default: {' '.join(LABELS)}"
    )
    return parser.parse_args()


def source_of(version: str) -> Path:
    """Return the folder of Django's source distribution, downloaded once."""
    folder = cache_directory("django") / version
    with locked(f"django-{version}"), tempfile.TemporaryDirectory() as scratch:
        if folder.exists():
            return folder
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", ":all:", "--dest", scratch, f"django=={version}"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        archives = sorted(Path(scratch).glob("*.tar.gz"))
        if result.returncode != 0 or not archives:
            raise NotAvailable(f"cannot download the source of Django {version}:\n{result.stderr}")
        with tarfile.open(archives[0]) as archive:
            archive.extractall(scratch, filter="data")
        (unpacked,) = (path for path in Path(scratch).iterdir() if path.is_dir())
        shutil.move(unpacked, folder)
    return folder


def run(suite: Path, name: str, options: argparse.Namespace) -> Results:
    """Run the labels on one engine; its log goes to the output when it has ended."""
    with tempfile.TemporaryDirectory() as scratch, Server(options.server) as server:
        outcomes = Path(scratch, "outcomes.json")
        environment = {
            **os.environ,
            **server.settings,
            "DJANGO_MYSQL_RECYCLE_DRIVER": options.driver,
            "SUITE_ENGINE": ENGINES[name],
            "SUITE_NAME": name,
            "SUITE_POOL": "1" if options.pool and name == "ours" else "",
            "SUITE_RESULTS": str(outcomes),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "scripts"), str(ROOT)]),
        }
        command = [sys.executable, "runtests.py", "--settings=django_suite_settings", "--noinput"]
        command += ["--parallel=1", "--verbosity=0", *options.labels]
        result = subprocess.run(
            command,
            cwd=suite / "tests",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        sys.stdout.write(f"\n===== {name} engine =====\n{result.stdout[-20000:]}\n")
        if not outcomes.exists():
            raise ServersError(f"Django's tests did not run to their end on the {name} engine")
        # Some names of sub-tests contain the address of an object, which is never the same.
        found: Results = json.loads(re.sub(r"0x[0-9a-f]{6,}", "0x...", outcomes.read_text()))
        return found


def compare(stock: Results, ours: Results, title: str, expected: dict[str, str]) -> int:
    found = {test for test in {*stock, *ours} if stock.get(test) != ours.get(test)}
    for test in sorted(found & expected.keys()):
        print(f"different by design: {test}: {expected[test]}")
    different = sorted(found - expected.keys())
    for test in different:
        print(
            f"DIFFERENT {test}\n  stock: {stock.get(test, 'not run')}\n  ours:  {ours.get(test, 'not run')}"
        )
    passed = sum(found == ["ok"] for found in ours.values())
    skipped = sum(found[0].startswith("skipped") for found in ours.values() if found)
    other = sorted(
        test
        for test, found in ours.items()
        if found != ["ok"] and not found[0].startswith("skipped")
    )
    for test in other:
        print(f"on our engine: {', '.join(ours[test])}: {test}")
    print(
        f"{title}: {len(ours)} tests, {passed} passed, {skipped} skipped, {len(other)} otherwise;"
        f" {len(different)} differ from the stock engine"
    )
    # If no test ran at all, there would be no difference either.
    return 1 if different or not passed else 0


if __name__ == "__main__":
    raise SystemExit(main())
