"""`python -m tests.comparison` tries every failure with everything that a user could use.

It writes docs/generated/comparison.json, and the table of docs/comparison.md from it. The other
packages are not among this project's dependencies: `nox -s comparison` installs them, in a
separate environment. `--check` only compares the page with the recorded results.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.facts import as_json

from .contenders import CONTENDERS
from .table import PAGE, RECORDED, ROOT, SERVERS, into, load


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.comparison", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare the page with the results")
    parser.add_argument("--table", action="store_true", help="write the table from the results")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, help="try only these")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        from .trial import trial

        options.output.write_text(json.dumps(trial(CONTENDERS[options.contender])))
        return 0
    if options.check:
        if PAGE.read_text(encoding="utf-8") == into(PAGE.read_text(encoding="utf-8"), load()):
            return 0
        print(f"{PAGE.relative_to(ROOT)}: does not match {RECORDED.relative_to(ROOT)}")
        return 1
    if not options.table:
        record(options.only or list(CONTENDERS))
    PAGE.write_text(into(PAGE.read_text(encoding="utf-8"), load()), encoding="utf-8")
    return 0


def record(names: Sequence[str]) -> None:
    """Try these contenders. The recorded results of the others stay."""
    versions = {name: versions_of(name) for name in CONTENDERS}
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda one: run(*one), product(SERVERS, names)))
    found: dict[str, dict[str, Any]] = load()["found"] if RECORDED.exists() else {}
    servers: dict[str, str] = {}
    for (server, name), outcome in zip(product(SERVERS, names), outcomes, strict=True):
        found.setdefault(server, {})[name] = outcome["outcomes"]
        servers[server] = re.match(r"[\d.]+", outcome["server"])[0]  # type: ignore[index]
    recorded = {
        "ground": "Measured with "
        f"Django {version('django')}, mysqlclient {version('mysqlclient')}, "
        f"{' and '.join(f'{SERVERS[s]} {servers[s]}' for s in SERVERS)}, "
        f"{', '.join(text for text in versions.values() if text)}.",
        "contenders": {name: contender.title for name, contender in CONTENDERS.items()},
        "found": found,
    }
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text(as_json(recorded), encoding="utf-8")


def versions_of(name: str) -> str:
    distribution = CONTENDERS[name].distribution
    if not distribution:
        return ""
    try:
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError:
        raise SystemExit(f"{distribution} is not installed: run nox -s comparison") from None


def run(server: str, contender: str) -> dict[str, Any]:
    """One contender on one server, in a process of its own: one of them patches Django."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "outcomes.json"
        subprocess.run(
            [
                *(sys.executable, "-m", "tests.comparison"),
                *("--contender", contender, "--output", str(output)),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "RECYCLE_TEST_DRIVER": "mysqlclient",
                "RECYCLE_TEST_SERVER": server,
            },
            check=True,
        )
        print(f"{contender} on {server}", flush=True)
        outcome: dict[str, Any] = json.loads(output.read_text())
    return outcome


if __name__ == "__main__":
    raise SystemExit(main())
