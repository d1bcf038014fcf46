"""Run the measures, each in a separate process for each driver and server, and write the report.

If a measure fails or takes too long, only its own remaining rows are lost. The exit status is 1
then.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from contextlib import ExitStack, suppress
from itertools import product
from pathlib import Path
from typing import Any

from servers import VENDORS, NotAvailable, Server, guard

from . import report
from .admin import Admin
from .catalogue import NAMES, Measure, available, measure
from .facts import ROOT, as_json, load, machine
from .measure import DRIVERS, TRANSPORTS, environment_of
from .pinning import unpin

#: A quick run shows that the measures work. Its numbers mean nothing, so they have their own folder.
QUICK_RESULTS = ROOT / "build" / "benchmarks"

#: Seconds for all measures. A measure that has not begun by then is reported as not run.
LIMIT = 30 * 60
QUICK_LIMIT = 2 * 60


def main() -> int:
    options = _parse()
    output: Path = options.output or (QUICK_RESULTS if options.quick else report.RESULTS)
    output.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    deadline = began + (QUICK_LIMIT if options.quick else LIMIT)
    failed = False
    with ExitStack() as stack:
        try:
            servers = [
                stack.enter_context(Server(vendor, max_connections=1000))
                for vendor in options.servers
            ]
        except NotAvailable as error:
            print(error)
            return 1
        facts = machine({server.vendor: server.version for server in servers})
        for name in options.only or available():
            result = _measure(name, servers, deadline, options)
            result["machine"] = {**facts, **result["machine"]}
            (output / f"{name}.json").write_text(as_json(result))
            failed = failed or bool(result["failures"])
    document = report.DOCUMENT if output == report.RESULTS else output / "performance.md"
    report.write(output, document)
    print(f"\n{time.monotonic() - began:.0f} s. Results: {output}; report: {document}")
    return 1 if failed else 0


def _measure(
    name: str, servers: list[Server], deadline: float, options: argparse.Namespace
) -> dict[str, Any]:
    """Run one measure with every driver on every server, and return its results."""
    rows: list[Any] = []
    failures: list[str] = []
    load_before = load()
    title = name
    try:
        chosen = measure(name)
        title = chosen.title
        print(f"\n{title}", flush=True)
        for server, driver in product(servers, options.drivers):
            if chosen.pairs and (driver, server.vendor) not in chosen.pairs:
                continue
            found, failure = _run(chosen, driver, server, deadline, options)
            rows += found
            if failure:
                failures.append(f"{driver} on {server.vendor}: {failure}")
                print(f"  FAILED {failures[-1]}", flush=True)
                _restore(server)
    except Exception as error:
        # Whatever the error is, the other measures still have to run.
        traceback.print_exc()
        failures.append(f"{type(error).__name__}: {error}")
    return {
        "measure": name,
        "title": title,
        "quick": options.quick,
        "machine": {"load": load_before, "load_after": load()},
        "failures": failures,
        "rows": rows,
    }


def _restore(server: Server) -> None:
    """Undo what a measure has changed on the shared server, if the measure was ended early."""
    unpin(server.pid)
    with Admin(server) as admin:
        admin.rows("SET GLOBAL general_log = OFF")
        admin.rows("SET GLOBAL log_output = 'FILE'")
        admin.rows("SET GLOBAL wait_timeout = DEFAULT")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, results kept apart")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="MEASURE")
    parser.add_argument("--drivers", nargs="+", choices=DRIVERS, default=list(DRIVERS))
    parser.add_argument("--servers", nargs="+", choices=VENDORS, default=list(VENDORS))
    parser.add_argument("--transports", nargs="+", choices=TRANSPORTS, default=list(TRANSPORTS))
    parser.add_argument("--output", type=Path, help="folder of the results")
    return parser.parse_args()


def _run(
    chosen: Measure, driver: str, server: Server, deadline: float, options: argparse.Namespace
) -> tuple[list[Any], str]:
    """Run one measure in a separate process. Returns its rows and what went wrong."""
    limit = min(chosen.quick_limit if options.quick else chosen.limit, deadline - time.monotonic())
    if limit <= 0:
        return [], "not run: the time for all measures was over"
    command = [sys.executable, "-m", f"benchmarks.{chosen.name}"]
    command += ["--driver", driver, "--server", server.vendor]
    command += ["--transports", *options.transports, *(["--quick"] if options.quick else [])]
    rows = []
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env={**os.environ, **environment_of(server)},
            # With everything that it starts: a gunicorn that keeps running would disturb the next measure.
            start_new_session=True,
        )
        # If this process is killed, the measure is killed, too, and its guard ends what it has started.
        guard.register(f"measure {process.pid}", pid=process.pid)
        timer = threading.Timer(limit, _end, [process])
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                try:
                    row = json.loads(line)
                except ValueError:
                    print(f"  {line.rstrip()}", flush=True)
                    continue
                rows.append(row)
                print(f"  {report.line(row)}", flush=True)
            status = process.wait()
        finally:
            timer.cancel()
            _end(process)
            assert process.stdout is not None
            process.stdout.close()
            process.wait()
            guard.forget(f"measure {process.pid}")
        errors.seek(0)
        tail = errors.read().strip().splitlines()[-15:]
    seconds = time.monotonic() - began
    print(f"  {driver} on {server.vendor}: {seconds:.0f} s", flush=True)
    if status == 0:
        return rows, "" if rows else "it gave no rows"
    if seconds >= limit:
        return rows, f"ended after {limit:.0f} s"
    print("\n".join(tail))
    # This goes into the results, which must not contain the path of the tree on this machine.
    last = tail[-1].replace(f"{ROOT}/", "") if tail else "no message"
    return rows, f"exit status {status}: {last}"


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    raise SystemExit(main())
