"""What the backend's operations take beyond the stock backend's, counted and not timed.

`python -m tests.integration.costs` counts anew, with both drivers on both servers, and rewrites
recorded_costs.json: look at its diff before you commit it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.measure import DRIVERS, OURS, STOCK, environment_of
from servers import VENDORS, Server
from tests.cost_probe import MARK

ROOT = Path(__file__).resolve().parents[2]
RECORDED = Path(__file__).with_name("recorded_costs.json")

#: Operations in which nothing is waited for but a driver's stub: each system call is counted.
STUBBED = (
    "statement",
    "statement in a tight loop",
    "statement inside atomic",
    "cursor opened and closed",
)
#: Operations that open a connection: the standard library has another share in each Python.
CONNECTING = ("close, connect, select", "recycle, select")

# How often a driver waits and reads depends on how fast the server answers.
_WAITING = {"poll", "recvfrom", "recvmsg", "read", "select"}
_ALLOCATING = {"brk", "madvise", "mmap", "mprotect", "mremap", "munmap"}
_ALIKE = {"newfstatat": "fstat", "dup3": "dup2", "ppoll": "poll"}

Costs = dict[str, dict[str, int]]


def probe(
    server: Server,
    driver: str,
    what: str,
    engine: str,
    *,
    addition: str = "",
    prefix: tuple[str, ...] = (),
) -> str:
    """Run tests/cost_probe.py on a server and return what it prints."""
    command = [*prefix, sys.executable, "-m", "tests.cost_probe", what, driver, server.vendor]
    result = subprocess.run(
        [*command, engine, *([addition] if addition else [])],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment_of(server)},
        timeout=50,
        check=False,
    )
    assert result.returncode == 0, f"{' '.join(command)}:\n{result.stderr}"
    return result.stdout


# ##### Calls #####


def extra_calls(server: Server, driver: str, addition: str = "") -> dict[str, Counter[str]]:
    """Ours less stock, by operation and by function."""
    ours = json.loads(probe(server, driver, "calls", OURS, addition=addition))
    stock = json.loads(probe(server, driver, "calls", STOCK))
    extra = {}
    for name, counted in ours.items():
        extra[name] = Counter(counted)
        extra[name].subtract(stock[name])
    return extra


def summed(calls: dict[str, Counter[str]]) -> Costs:
    """The same in four numbers."""
    found = {}
    for name, counter in calls.items():
        found[name] = {
            "clock": counter["tests.cost_probe.read_clock"] + counter["__main__.read_clock"],
            "socket": counter["tests.cost_probe.look_at_socket"]
            + counter["__main__.look_at_socket"]
            + counter["django_mysql_recycle.liveness.wait_until_readable"],
            "functions of the package": sum(
                number
                for call, number in counter.items()
                if call.startswith("django_mysql_recycle.")
            ),
            "modules of the package": len(
                {
                    call.rpartition(".")[0]
                    for call, number in counter.items()
                    if number and call.startswith("django_mysql_recycle.")
                }
            ),
        }
        if name not in CONNECTING:
            found[name]["all calls"] = sum(counter.values())
    return found


# ##### System calls #####


def extra_system_calls(server: Server, driver: str, log: Path, addition: str = "") -> Costs:
    """Ours less stock, by operation. `log` is a file for strace to write."""
    counted = {}
    for engine in (OURS, STOCK):
        prefix = ("strace", "-o", str(log))
        added = addition if engine == OURS else ""
        probe(server, driver, "systemcalls", engine, addition=added, prefix=prefix)
        counted[engine] = _read_log(log)
    extra = {}
    for name, ours in counted[OURS].items():
        ignored = _ALLOCATING if name in STUBBED else _ALLOCATING | _WAITING
        ours.subtract(counted[STOCK][name])
        extra[name] = {
            call: number for call, number in sorted(ours.items()) if number and call not in ignored
        }
    return extra


def _read_log(log: Path) -> dict[str, Counter[str]]:
    """System calls by operation: of its runs the one with the fewest."""
    runs: dict[str, list[Counter[str]]] = {}
    current: Counter[str] | None = None
    for line in log.read_text(errors="replace").splitlines():
        call, _, rest = line.partition("(")
        if mark := re.search(rf'"{MARK}([^"]+)"', rest):
            current = None
            if mark[1] != "end":
                current = Counter()
                runs.setdefault(mark[1], []).append(current)
        elif current is not None and call.isidentifier():
            current[_ALIKE.get(call, call)] += 1
    return {name: min(found, key=lambda c: sum(c.values())) for name, found in runs.items()}


# ##### Statements #####


def extra_statements(server: Server, driver: str, addition: str = "") -> dict[str, list[str]]:
    """What ours sends and stock does not, by operation."""
    ours = json.loads(probe(server, driver, "statements", OURS, addition=addition))
    stock = json.loads(probe(server, driver, "statements", STOCK))
    extra = {}
    for name, sent in ours.items():
        rest = Counter(sent)
        rest.subtract(stock[name])
        extra[name] = sorted(rest.elements())
    return extra


# ##### The record #####


def recorded() -> dict[str, Any]:
    return dict(json.loads(RECORDED.read_text()))


def excess(measured: Costs, allowed: Costs) -> list[str]:
    """What costs more than is recorded, in words."""
    return [
        f"{name}: {number} x {what}, recorded {allowed.get(name, {}).get(what, 0)}"
        for name, costs in measured.items()
        for what, number in costs.items()
        if number > allowed.get(name, {}).get(what, 0)
    ]


def main() -> None:
    found: dict[str, Any] = {"calls": {}, "system calls": {}, "statements": {}}
    log = RECORDED.with_suffix(".strace")
    for vendor in VENDORS:
        with Server(vendor) as server:
            for driver in DRIVERS:
                calls = summed(extra_calls(server, driver))
                _keep_greatest(found["calls"].setdefault(driver, {}), calls)
                system_calls = extra_system_calls(server, driver, log)
                _keep_greatest(found["system calls"].setdefault(driver, {}), system_calls)
                found["statements"].update(extra_statements(server, driver))
    log.unlink()
    RECORDED.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def _keep_greatest(kept: Costs, costs: Costs) -> None:
    for name, numbers in costs.items():
        mine = kept.setdefault(name, {})
        for what, number in numbers.items():
            mine[what] = max(number, mine.get(what, number))


if __name__ == "__main__":
    main()
