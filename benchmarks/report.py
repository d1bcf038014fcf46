"""From the results to plots and docs/performance.md. Nothing is measured here."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from . import document
from .catalogue import NAMES
from .facts import ROOT
from .verdicts import number

DOCUMENT = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "docs" / "generated" / "benchmarks"


def read(results: Path) -> dict[str, Any]:
    """The results by measure, in the order of the catalogue."""
    found = {}
    for name in NAMES:
        path = results / f"{name}.json"
        if path.exists():
            found[name] = json.loads(path.read_text())
    return found


def line(row: Any) -> str:
    """A row for the terminal."""
    values = ", ".join(f"{name} {number(value['median'])}" for name, value in row["values"].items())
    where = " ".join(part for part in (row["driver"], row["server"], row["transport"]) if part)
    ratio = f", ratio {row['ratio']['median']:.3f}" if row["ratio"] else ""
    return f"{where}: {row['case']}: {values} {row['unit']}{ratio}"


def write(results: Path, target: Path) -> None:
    """Write the plots into `results`, and the document that shows them to `target`."""
    # Only drawing needs matplotlib. --check also runs without it.
    from . import plots

    found = read(results)
    plots.draw(found, results)
    target.write_text(_document(found, results, target))


def check(results: Path, target: Path) -> str:
    """What is wrong with the written document; empty if it is what the results give."""
    if target.exists() and target.read_text() == _document(read(results), results, target):
        return ""
    return f"{target}: not what {results} gives: run python -m benchmarks.report"


def _document(found: dict[str, Any], results: Path, target: Path) -> str:
    plots = sorted(path.name for path in results.glob("*.svg"))
    link = str(results.relative_to(DOCUMENT.parent)) if target == DOCUMENT else "."
    return document.document(found, plots, link)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if they differ")
    parser.add_argument("--table", action="store_true", help="print every row as a table")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    options = parser.parse_args()
    if options.table:
        print(document.table(read(options.results)))
        return 0
    if not options.check:
        write(options.results, options.document)
        return 0
    problem = check(options.results, options.document)
    print(problem or f"{options.document.name} is what the results give")
    return 1 if problem else 0


if __name__ == "__main__":
    raise SystemExit(main())
