"""docs/performance.md, and a table of all rows, as text, from the results alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from .catalogue import NAMES
from .verdicts import MET, MISSED, OPEN, budgeted, number, ratio_text, span, verdict

PLOTS = {
    "added.svg": ("statement", "added CPU time per statement against its budget"),
    "ratios.svg": ("operations", "ratio to the stock backend, with its interval"),
    "opening.svg": ("opening", "time to open a connection, stock and ours"),
    "recovery.svg": ("recovery", "time from a dead connection to a row read"),
    "throughput.svg": ("throughput", "requests per second and requests failed"),
    "storm.svg": ("storm", "connections opened per second in a storm"),
    "memory.svg": ("memory", "memory of the process over statements and recycles"),
}

NOT_MEASURED = """\
- A real network. All programs share one machine, and a proxy that waits simulates distance.
- Other machines, systems other than Linux, Python versions other than the one above, PyPy.
- Servers with real data: the table has one row. With slower statements every share is smaller.
- Managed databases, and load balancers or proxies under load.
- GeoDjango's backend, which adds nothing to this one.
"""


def document(found: dict[str, Any], plots: Iterable[str], results: str) -> str:
    """The whole of docs/performance.md. `results`: the link to the folder of results."""
    parts = [
        "# Performance\n",
        "`python -m benchmarks.report` writes this page from the results of `make bench`."
        ' "stock" is Django\'s own backend, "ours" is this one. Do not edit the page by hand.\n',
    ]
    if any(result["quick"] for result in found.values()):
        parts.append("**This was a quick run: these numbers mean nothing.**\n")
    if not found:
        parts.append("Nothing has been measured yet: run `make bench`.\n")
        return "\n".join(parts)
    parts += [_verdicts(found), _machine(found)]
    for name, result in found.items():
        parts.append(_measure(name, result, plots, results))
    parts += ["## What was not measured\n", NOT_MEASURED]
    parts.append(
        "`python -m benchmarks.report --table` prints every row, by driver, server and transport."
        " [benchmarks/README.md](../benchmarks/README.md) says how it is measured.\n"
    )
    return "\n".join(parts)


def table(found: dict[str, Any]) -> str:
    """Every row of every measure."""
    parts = ["# All rows\n"]
    for result in found.values():
        parts.append(f"## {result['title']}\n")
        for columns, rows in _alike(result["rows"]):
            head = [
                "case",
                "driver",
                "server",
                "transport",
                *columns,
                "unit",
                "ratio",
                "budget",
                "note",
            ]
            body = [
                [
                    row["case"],
                    row["driver"],
                    row["server"],
                    row["transport"],
                    *(_spread(row["values"][column], number) for column in columns),
                    row["unit"],
                    _spread(row["ratio"], ratio_text) if row["ratio"] else "",
                    f"{number(row['budget'])}: {verdict(row)}" if verdict(row) else "",
                    row["note"].replace("|", "\\|"),
                ]
                for row in rows
            ]
            parts.append(_table(head, body))
    return "\n".join(parts)


# ##### The parts of the document #####


def _verdicts(found: dict[str, Any]) -> str:
    """The first part of the page: which budgets are met."""
    rows = [row for result in found.values() for row in result["rows"] if verdict(row)]
    counts = {kind: sum(verdict(row) == kind for row in rows) for kind in (MET, OPEN, MISSED)}
    lines = [
        f"**Of {len(rows)} budgets, one for each case, driver, server and transport,"
        f" {counts[MET]} are met, {counts[MISSED]} are not, and {counts[OPEN]} are not decided:"
        " their median is above the budget, but their 95 % interval reaches below it.**\n"
    ]
    body = []
    for result in found.values():
        for case, same in _by_case(row for row in result["rows"] if verdict(row)):
            spreads = [budgeted(row)["median"] for row in same]
            form = ratio_text if same[0]["budget_of"] == "ratio" else number
            unit = "" if same[0]["budget_of"] == "ratio" else _unit(same[0])
            budgets = span([row["budget"] for row in same])
            kinds = [verdict(row) for row in same]
            outcome = ", ".join(
                f"{kinds.count(kind)} {kind}" for kind in (MET, OPEN, MISSED) if kind in kinds
            )
            if len(set(kinds)) == 1:
                outcome = kinds[0]
            body.append(
                [
                    f"{case}: {same[0]['budget_of']}",
                    f"{budgets} {unit}".strip(),
                    f"{span(spreads, form)} {unit}".strip(),
                    outcome,
                ]
            )
    failures = [
        f"- {result['title']}: {failure}"
        for result in found.values()
        for failure in result["failures"]
    ]
    missing = [name for name in NAMES if name not in found]
    if missing:
        failures.append(f"- Not measured: {', '.join(missing)}.")
    lines.append(_table(["what", "at most", "measured", "budget"], body))
    lines.append(
        "A range goes from the best to the worst combination of driver, server and transport.\n"
    )
    if failures:
        lines += ["What failed, or was not run:\n", "\n".join(failures) + "\n"]
    return "\n".join(lines)


def _machine(found: dict[str, Any]) -> str:
    """The machine and the versions. Each measure can have been run at another time."""
    newest = max((result["machine"] for result in found.values()), key=lambda facts: facts["date"])
    packages = ", ".join(f"{name} {version}" for name, version in newest["packages"].items())
    servers = ", ".join(f"{vendor} {version}" for vendor, version in newest["servers"].items())
    lines = [
        "## The machine\n",
        f"- {newest['cpu']}, {newest['cores']} cores, {newest['kernel']}.",
        f"- {newest['python']}; {packages}.",
        f"- Servers: {servers}.\n",
    ]
    body = [
        [
            result["title"],
            result["machine"]["date"],
            f"`{result['machine']['commit']}`",
            " / ".join(
                str(result["machine"][key][0]) if result["machine"][key] else "unknown"
                for key in ("load", "load_after")
            ),
        ]
        for result in found.values()
    ]
    lines.append(_table(["measure", "date", "commit", "load before / after"], body))
    return "\n".join(lines)


def _measure(name: str, result: dict[str, Any], plots: Iterable[str], results: str) -> str:
    lines = [f"## {result['title']}\n", _method(name)]
    for file in plots:
        measure, alternative = PLOTS.get(file, ("", ""))
        if measure == name:
            lines.append(f"![{alternative}]({results}/{file})\n")
    for columns, rows in _alike(result["rows"]):
        rated = any(row["ratio"] for row in rows)
        head = ["case", "measured on", *columns, "unit", *(["ratio"] if rated else [])]
        body = []
        for case, same in _by_case(rows):
            line = [case, _where(same)]
            line += [span([row["values"][column]["median"] for row in same]) for column in columns]
            line.append(same[0]["unit"])
            if rated:
                ratios = [row["ratio"]["median"] for row in same if row["ratio"]]
                line.append(span(ratios, ratio_text) if ratios else "")
            body.append(line)
        lines.append(_table(head, body))
    return "\n".join(lines)


def _method(name: str) -> str:
    """How it is measured: the docstring of the module."""
    text = import_module(f"{__package__}.{name}").__doc__ or ""
    paragraphs = [" ".join(part.split()) for part in text.strip().split("\n\n")]
    first = paragraphs[0].partition(": ")[2] or paragraphs[0]
    paragraphs[0] = first[:1].upper() + first[1:]
    return "\n\n".join(paragraphs) + "\n"


# ##### Rows #####


def _by_case(rows: Iterable[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Rows of the same case, in the order in which the cases were first measured."""
    cases: dict[str, list[Any]] = {}
    for row in rows:
        cases.setdefault(row["case"], []).append(row)
    yield from cases.items()


def _alike(rows: Iterable[Any]) -> Iterator[tuple[list[str], list[Any]]]:
    """Rows that have the same values, which can share a table."""
    groups: dict[tuple[str, ...], list[Any]] = {}
    for row in rows:
        groups.setdefault(tuple(row["values"]), []).append(row)
    for columns, alike in groups.items():
        yield list(columns), alike


def _where(rows: list[Any]) -> str:
    parts = []
    for key in ("driver", "server", "transport"):
        names = list(dict.fromkeys(row[key] for row in rows if row[key]))
        if names:
            parts.append(" and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names))
    return "; ".join(parts)


def _unit(row: Any) -> str:
    named = ("round trips", "us", "ms")
    return "" if row["budget_of"] in named else str(row["unit"])


def _spread(spread: Any, form: Any) -> str:
    if spread.get("samples") == 1:
        return str(form(spread["median"]))
    return f"{form(spread['median'])} ({form(spread['low'])} to {form(spread['high'])})"


def _table(head: list[str], body: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)
