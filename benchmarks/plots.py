"""The plots, as SVG. Grey text and no background: readable on light and dark pages."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from .verdicts import number

GREY = "#808080"
OURS = "#1a85ff"
STOCK = "#e66100"
LIMIT = "#d41159"
#: One for each pair of driver and server, or each configuration.
COLOURS = ["#1a85ff", "#e66100", "#2a9d5c", "#9b6dd6", "#c99700", "#d45087", "#808080", "#00a0a0"]

_STYLE: Any = {
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "font.size": 9,
    "legend.frameon": False,
    "legend.labelcolor": GREY,
    "savefig.transparent": True,
    # Keep text as text, which needs a quarter of the bytes of its outlines.
    "svg.fonttype": "none",
    # The same results give the same file.
    "svg.hashsalt": "benchmarks",
    "text.color": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
}


def draw(found: dict[str, Any], folder: Path) -> None:
    """Draw a plot for each result, and remove the plots of results that do not exist any more."""
    for old in folder.glob("*.svg"):
        old.unlink()
    plots: dict[str, Callable[[list[Any], Path], None]] = {
        "statement": _added,
        "operations": _ratios,
        "opening": _opening,
        "recovery": _recovery,
        "throughput": _throughput,
        "storm": _storm,
        "memory": _memory,
    }
    for name, plot in plots.items():
        if name not in found:
            continue
        try:
            plot(found[name]["rows"], folder)
        except Exception:
            # If a plot fails, the tables and the other plots are still written.
            traceback.print_exc()


@contextmanager
def _figure(folder: Path, name: str, width: float, height: float) -> Iterator[Figure]:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def _pairs(rows: list[Any]) -> dict[tuple[str, str], str]:
    pairs = dict.fromkeys((row["driver"], row["server"]) for row in rows)
    return dict(zip(pairs, COLOURS, strict=False))


def _points(axes: Any, rows: list[Any], labels: list[str], label_of: Any, spread_of: Any) -> None:
    """Draw a point with its spread for each row, on the line of its label, with a colour for each pair."""
    pairs = _pairs(rows)
    for index, (pair, colour) in enumerate(pairs.items()):
        shift = (index - (len(pairs) - 1) / 2) * 0.17
        mine = [row for row in rows if (row["driver"], row["server"]) == pair]
        spreads = [spread_of(row) for row in mine]
        middles = [spread["median"] for spread in spreads]
        axes.errorbar(
            middles,
            [labels.index(label_of(row)) + shift for row in mine],
            xerr=[
                [max(0, m - s["low"]) for m, s in zip(middles, spreads, strict=True)],
                [max(0, s["high"] - m) for m, s in zip(middles, spreads, strict=True)],
            ],
            fmt="o",
            markersize=4,
            color=colour,
            label=" on ".join(pair),
        )
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)


def _added(rows: list[Any], folder: Path) -> None:
    if not rows:
        return
    labels = list(dict.fromkeys(row["case"] for row in rows))
    with _figure(folder, "added", 7.5, 0.5 * len(labels) + 1.4) as figure:
        axes = figure.subplots()
        _points(axes, rows, labels, lambda row: row["case"], lambda row: row["values"]["added"])
        budgets = {row["case"]: row["budget"] for row in rows if row["budget"] is not None}
        for index, (case, budget) in enumerate(budgets.items()):
            place = labels.index(case)
            label = "budget" if index == 0 else None
            axes.plot([budget] * 2, [place - 0.42, place + 0.42], color=LIMIT, lw=2, label=label)
        axes.set_xlim(left=0)
        axes.set_xlabel("added CPU time, microseconds (95 % interval of the median)")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _ratios(rows: list[Any], folder: Path) -> None:
    rows = [row for row in rows if row["ratio"]]
    if not rows:
        return

    def label_of(row: Any) -> str:
        return f"{row['case']}, {row['transport']}"

    labels = list(dict.fromkeys(sorted(label_of(row) for row in rows)))
    with _figure(folder, "ratios", 7.5, 0.45 * len(labels) + 1.2) as figure:
        axes = figure.subplots()
        axes.axvline(1, color=GREY, lw=1)
        _points(axes, rows, labels, label_of, lambda row: row["ratio"])
        axes.axvline(rows[0]["budget"], color=LIMIT, lw=1.5, ls="--", label="target")
        axes.set_xlabel("time, ours by stock (95 % interval of the median)")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _opening(rows: list[Any], folder: Path) -> None:
    rows = [row for row in rows if row["unit"] == "ms"]
    if not rows:
        return
    rows.sort(key=lambda row: (row["transport"], row["case"], row["driver"], row["server"]))
    labels = [
        f"{row['transport']}, {row['case'].removeprefix('time to connect, ')}: "
        f"{row['driver']} on {row['server']}".replace(", time to connect", "")
        for row in rows
    ]
    with _figure(folder, "opening", 7.5, 0.24 * len(rows) + 1.2) as figure:
        axes = figure.subplots()
        for name, colour, marker in (("stock", STOCK, "o"), ("ours", OURS, "D")):
            spreads = [row["values"][name] for row in rows]
            axes.errorbar(
                [spread["median"] for spread in spreads],
                range(len(rows)),
                xerr=[
                    [spread["median"] - spread["low"] for spread in spreads],
                    [spread["high"] - spread["median"] for spread in spreads],
                ],
                fmt=marker,
                markersize=4,
                color=colour,
                label=name,
            )
        axes.set_yticks(range(len(rows)), labels)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(_plain))
        axes.set_xlabel("milliseconds, logarithmic (quartiles)")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _recovery(rows: list[Any], folder: Path) -> None:
    """Each case once: the median over drivers and servers, with the range of the medians."""
    units = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
    rows = [row for row in rows if row["unit"] in units]
    if not rows:
        return
    cases = list(dict.fromkeys(row["case"] for row in rows))
    names = list(dict.fromkeys(name for row in rows for name in row["values"]))
    with _figure(folder, "recovery", 8, 0.42 * len(cases) + 2.0) as figure:
        axes = figure.subplots()
        for index, name in enumerate(names):
            shift = (index - (len(names) - 1) / 2) * 0.5 / len(names)
            colour = {"stock": STOCK, "ours": OURS}.get(name, COLOURS[(index + 2) % len(COLOURS)])
            first = True
            for place, case in enumerate(cases):
                seconds = [
                    row["values"][name]["median"] * units[row["unit"]]
                    for row in rows
                    if row["case"] == case and row["values"].get(name, {}).get("median", 0) > 0
                ]
                if not seconds:
                    continue
                axes.plot(
                    seconds,
                    [place + shift] * len(seconds),
                    "o-",
                    ms=4,
                    color=colour,
                    label=name if first else None,
                )
                first = False
        axes.set_yticks(range(len(cases)), cases)
        axes.set_ylim(len(cases) - 0.5, -0.5)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(_plain))
        axes.set_xlabel("seconds, logarithmic (one point per driver, server and transport)")
        figure.legend(loc="outside lower center", ncols=2)


def _throughput(rows: list[Any], folder: Path) -> None:
    """One driver on one server: the one with the most rows. The table has the others."""
    if not rows:
        return
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        pair = (row["driver"], row["server"])
        counts[pair] = counts.get(pair, 0) + 1
    chosen = max(counts, key=lambda pair: counts[pair])
    mine = [row for row in rows if (row["driver"], row["server"]) == chosen]
    speeds = [row for row in mine if "per second" in row["unit"]]
    if not speeds:
        return
    failed = {
        row["case"].rpartition(":")[0]: row["values"]
        for row in mine
        if "per million" in row["unit"]
    }
    heights = [len(row["values"]) for row in speeds]
    with _figure(folder, "throughput", 8, 0.24 * sum(heights) + 0.6 * len(heights) + 0.6) as figure:
        panels = figure.subplots(len(speeds), 1, sharex=True, squeeze=False, height_ratios=heights)[
            :, 0
        ]
        for axes, row in zip(panels, speeds, strict=True):
            case = row["case"].rpartition(":")[0] or row["case"]
            names = list(row["values"])
            spreads = [row["values"][name] for name in names]
            axes.barh(
                names,
                [spread["median"] for spread in spreads],
                xerr=[
                    [spread["median"] - spread["low"] for spread in spreads],
                    [spread["high"] - spread["median"] for spread in spreads],
                ],
                color=[OURS if name.startswith("ours") else GREY for name in names],
                ecolor=STOCK,
                height=0.7,
            )
            for place, name in enumerate(names):
                errors = failed.get(case, {}).get(name, {}).get("median", 0)
                if errors:
                    text = f" {errors:,.0f} failed per million"
                    axes.text(spreads[place]["high"], place, text, va="center", color=LIMIT)
            axes.invert_yaxis()
            axes.set_title(case, loc="left")
        panels[-1].set_xlabel(f"requests per second, {' on '.join(chosen)} (quartiles)")


def _storm(rows: list[Any], folder: Path) -> None:
    """The curves of the first row that has some."""
    curves = [row for row in rows if row.get("series")]
    if not curves:
        return
    row = curves[0]
    with _figure(folder, "storm", 7.5, 3.4) as figure:
        axes = figure.subplots()
        others = iter(COLOURS[2:])
        for name, points in row["series"].items():
            known = STOCK if name.startswith("stock") else OURS if "default" in name else None
            colour = known or next(others)
            axes.plot([x for x, _ in points], [y for _, y in points], color=colour, label=name)
        axes.set_xlabel("seconds")
        axes.set_ylabel("connections opened per second")
        axes.set_ylim(bottom=0)
        axes.set_title(f"{row['driver']} on {row['server']}", loc="left")
        axes.legend(loc="upper right")


def _memory(rows: list[Any], folder: Path) -> None:
    """One panel for each kind of work, one curve for each driver, server and transport."""
    curves = [row for row in rows if row.get("series")]
    names = list(dict.fromkeys(name for row in curves for name in row["series"]))
    if not names:
        return
    with _figure(folder, "memory", 7.5, 2.3 * len(names)) as figure:
        panels = figure.subplots(len(names), 1, squeeze=False)[:, 0]
        for axes, name in zip(panels, names, strict=True):
            mine = [row for row in curves if name in row["series"]]
            for row, colour in zip(mine, COLOURS, strict=False):
                points = row["series"][name]
                label = f"{row['driver']} on {row['server']}, {row['transport']}"
                axes.plot([x for x, _ in points], [y for _, y in points], color=colour, label=label)
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_formatter(FuncFormatter(_plain))
            axes.set_xlabel(name.removeprefix("MiB after "))
            axes.set_ylabel("MiB")
            axes.legend(loc="lower right")


def _plain(value: float, _position: int) -> str:
    return number(value)
