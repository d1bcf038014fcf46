"""From the results to a table, plots and docs/performance.md. Nothing is measured here."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from .catalogue import NAMES
from .facts import ROOT
from .rows import Row

DOCUMENT = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "benchmarks" / "results"


def read(results: Path) -> dict[str, Any]:
    """The results by measure, in the order of the catalogue."""
    found = {}
    for name in NAMES:
        path = results / f"{name}.json"
        if path.exists():
            found[name] = json.loads(path.read_text())
    return found


def number(value: float) -> str:
    """Three digits that mean something, without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    digits = 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def line(row: Row) -> str:
    """A row for the terminal."""
    values = ", ".join(f"{name} {number(value['median'])}" for name, value in row["values"].items())
    where = " ".join(part for part in (row["driver"], row["server"], row["transport"]) if part)
    ratio = f", ratio {row['ratio']['median']:.3f}" if row["ratio"] else ""
    return f"{where}: {row['case']}: {values} {row['unit']}{ratio}"


def write(results: Path, document: Path) -> None:
    pass


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.parse_args()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
