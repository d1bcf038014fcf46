"""`python -m tests.fault_matrix` writes docs/fault-matrix.md, with both drivers on both servers.

The cells are those of tests/integration/matrix.py; the stock backend goes through the same faults.
What was found is recorded in docs/generated/fault-matrix.json; `--check` only compares the page with
it, for which the standard library is enough.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.facts import as_json
from servers import FaultProxy, Namespace, Server

from .choice import VENDOR

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "fault-matrix.md"
RECORDED = ROOT / "docs" / "generated" / "fault-matrix.json"
DRIVERS = {"mysqlclient": "mysqlclient", "pymysql": "PyMySQL"}
SERVERS = {"mariadb": "MariaDB", "mysql": "MySQL"}

HEAD = """\
# The fault matrix

This page says what happens to the first statement after a fault, in every situation that a \
connection can be in. `python -m tests.fault_matrix` writes it from real servers and real faults. \
The tests in `tests/integration/test_fault_matrix.py` check that this backend does what the page \
says.

Each cell says what this backend does, and after the bar what Django's own backend does:

- **succeeds**: the statement ran, once, and so did everything before it in the same transaction.
- **raises**: there is an error, and nothing is half done. Outside a transaction the statement ran \
once or not at all; nothing of a transaction is committed. If session state was lost, the error is \
a `SessionStateLost` that names it. The next statement works; after a transaction by SQL the next \
query does, and every statement after `ROLLBACK`.
- **broken**: there is the same error, and the next statements fail, too, until something closes \
the connection.
- **hangs**: there is no answer within 4 seconds. With Linux's default settings (tcp_retries2) the \
kernel gives up after about 15 minutes.

Every fault is tried with several kinds of first statement. They are: {firsts}. If their results \
differ, the cell names those that differ from the others. The faults are:

- *idle*: the server's `wait_timeout` passed. *KILL*: an administrator ended the connection. \
*restart*: the server was shut down and started again. *crash*: the server was ended with SIGKILL.
- *unresponsive network*: the packets of the connection are dropped, without a sign to either end, \
and then the connection is idle for a while.
- *cut before arrival*: a proxy closes the connection when the statement arrives, and the server \
never sees the statement. *answer cut off*: the server runs the statement, and the proxy closes \
the connection instead of passing the answer on. No client can distinguish these two, so neither \
is repeated.

Each fault is tested over plain TCP, TLS and unix sockets, as far as it exists there. All of them \
agree, unless a cell names one.

{ground}
"""

Cells = list[list[str]]
#: By situation and fault: what happens with this backend, and with the stock backend.
Table = dict[str, dict[str, list[str]]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fault_matrix", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare the page with the results")
    parser.add_argument("--cells", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cells:
        options.cells.write_text(json.dumps(collect()))
        return 0
    if options.check:
        if TARGET.read_text(encoding="utf-8") == page(json.loads(RECORDED.read_text())):
            return 0
        print(f"{TARGET.relative_to(ROOT)}: does not match {RECORDED.relative_to(ROOT)}")  # noqa: T201
        return 1
    recorded = record()
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text(as_json(recorded), encoding="utf-8")
    TARGET.write_text(page(recorded), encoding="utf-8")
    return 0


def record() -> dict[str, Any]:
    """Try all cells, and return what the page says about them."""
    tables: dict[str, Table] = {}
    servers: dict[str, str] = {}
    firsts: list[str] = []
    for driver, vendor in product(DRIVERS, SERVERS):
        name = f"{DRIVERS[driver]} on {SERVERS[vendor]}"
        print(name, flush=True)  # noqa: T201
        found = run(driver, vendor)
        servers[vendor] = f"{SERVERS[vendor]} {found['server']}"
        firsts = list(dict.fromkeys(cell[4] for cell in found["cells"]))
        tables[name] = table(found["cells"])
    drivers = [f"{DRIVERS[driver]} {version(driver)}" for driver in DRIVERS]
    ground = [f"Django {version('django')}", *drivers, *servers.values()]
    return {"ground": f"Seen with {', '.join(ground)}.", "firsts": firsts, "tables": tables}


def page(recorded: dict[str, Any]) -> str:
    """The page from the recorded results. Drivers and servers that agree share a table."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, found in recorded["tables"].items():
        names[text_of(found)].append(name)
    parts = [HEAD.format(firsts=", ".join(recorded["firsts"]), ground=recorded["ground"])]
    parts += [f"## {', '.join(who)}\n\n{text}" for text, who in names.items()]
    return "\n".join(parts)


def run(driver: str, vendor: str) -> dict[str, Any]:
    """All cells of one driver on one server, in a separate process, because a driver is chosen once."""
    with tempfile.TemporaryDirectory() as folder:
        cells = Path(folder) / "cells.json"
        subprocess.run(
            [sys.executable, "-m", "tests.fault_matrix", "--cells", str(cells)],
            cwd=ROOT,
            env={**os.environ, "RECYCLE_TEST_DRIVER": driver, "RECYCLE_TEST_SERVER": vendor},
            check=True,
        )
        found: dict[str, Any] = json.loads(cells.read_text())
    return found


def collect() -> dict[str, Any]:
    from .standalone import ground

    with ground() as (server, admin, factory):
        from .integration.connections import OURS, STOCK
        from .integration.matrix import TRANSPORTS, Matrix
        from .integration.unresponsive import unresponsive_cells

        found: Cells = []
        matrix = Matrix(factory, server, admin)
        for engine, fault in product((OURS, STOCK), TRANSPORTS):
            with ExitStack() as faults:
                if fault == "unresponsive network":
                    namespace = faults.enter_context(Namespace())

                    def own_server(faults: ExitStack = faults, **options: Any) -> Server:
                        return faults.enter_context(Server(VENDOR, **options))

                    firsts = ["select", "insert", "atomic"]
                    verdicts = unresponsive_cells(engine, factory, namespace, own_server, firsts)
                else:
                    via = None
                    if "cut" in fault:
                        via = faults.enter_context(FaultProxy(server.host, server.port))
                    verdicts = matrix.run(engine, fault, TRANSPORTS[fault], via=via)
            kind = "ours" if engine == OURS else "stock"
            found += [
                [kind, fault, cell.transport, cell.situation, cell.first, verdict]
                for cell, verdict in verdicts.items()
            ]
        matrix.close()
        number = re.match(r"[\d.]+", server.version)
        return {"server": number[0] if number else "", "cells": found}


def table(cells: Cells) -> Table:
    faults = list(dict.fromkeys(cell[1] for cell in cells))
    situations = list(dict.fromkeys(cell[3] for cell in cells))
    return {
        situation: {
            fault: [
                summary(
                    {
                        (transport, first): verdict
                        for engine, where, transport, what, first, verdict in cells
                        if (engine, where, what) == (kind, fault, situation)
                    }
                )
                for kind in ("ours", "stock")
            ]
            for fault in faults
        }
        for situation in situations
    }


def text_of(found: Table) -> str:
    """The table, with a row for each situation and a column for each fault."""
    faults = list(next(iter(found.values())))
    lines = [f"| | {' | '.join(faults)} |", "| --- |" + " --- |" * len(faults)]
    for situation, cells in found.items():
        fields = [f"**{ours}** \\| {stock}" for ours, stock in cells.values()]
        lines.append(f"| {situation} | {' | '.join(fields)} |")
    return "\n".join(lines) + "\n"


def summary(verdicts: dict[tuple[str, str], str]) -> str:
    """One word if all agree, otherwise the most frequent one and the others with what differs."""
    words = {
        key: verdict.replace("raises, stays broken", "broken") for key, verdict in verdicts.items()
    }
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for key, word in words.items():
        groups[word].append(key)
    ranked = sorted(groups, key=lambda word: -len(groups[word]))
    transports = list(dict.fromkeys(transport for transport, _ in verdicts))
    parts = [ranked[0]]
    for word in ranked[1:]:
        where = groups[word]
        firsts = list(dict.fromkeys(first for _, first in where))
        named = list(dict.fromkeys(transport for transport, _ in where))
        text = f"{', '.join(firsts)} {word}"
        if len(named) < len(transports):
            text += f" over {' and '.join(named)}"
        parts.append(text)
    return "; ".join(parts)


if __name__ == "__main__":
    raise SystemExit(main())
