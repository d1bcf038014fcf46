"""Whether a budget was met, and how a number is written."""

from __future__ import annotations

from typing import Any

MET = "met"
MISSED = "not met"
#: The median is above the budget, and the interval reaches below it.
OPEN = "not decided"


def budgeted(row: Any) -> Any:
    """The spread to which the budget applies."""
    return row["ratio"] if row["budget_of"] == "ratio" else row["values"].get(row["budget_of"])


def verdict(row: Any) -> str:
    """Met, not met or not decided; empty without a budget."""
    spread = budgeted(row)
    if row["budget"] is None or spread is None:
        return ""
    if spread["median"] <= row["budget"]:
        return MET
    return OPEN if spread["low"] <= row["budget"] else MISSED


def number(value: float) -> str:
    """The number with three significant digits, without an exponent."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    text = f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3f}"
    text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def span(values: list[float], form: Any = number) -> str:
    """From the lowest to the highest value, or one number if both have the same text."""
    low, high = form(min(values)), form(max(values))
    return str(low) if low == high else f"{low} to {high}"


def ratio_text(value: float) -> str:
    return f"{value:.3f}"
