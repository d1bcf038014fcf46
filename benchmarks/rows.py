"""What a measure produces: rows, each a JSON object, and the statistics in them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, quantiles
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from typing_extensions import NotRequired


class Spread(TypedDict):
    median: float
    low: float
    high: float


class Summary(Spread):
    samples: int


class Row(TypedDict):
    measure: str
    case: str
    driver: str
    server: str
    transport: str
    unit: str
    values: dict[str, Summary]
    ratio: Spread | None
    #: The highest value that the median of `budget_of` may have, or None.
    budget: float | None
    #: "ratio" or a key of `values`.
    budget_of: str
    note: str
    #: Curves for a plot, by name: [[x, y], ...].
    series: NotRequired[dict[str, list[list[float]]]]


def summary(samples: Sequence[float]) -> Summary:
    """Median and quartiles."""
    if len(samples) < 2:
        low = high = samples[0]
    else:
        low, _, high = quantiles(samples, n=4, method="inclusive")
    return {"median": median(samples), "low": low, "high": high, "samples": len(samples)}


def count(number: float) -> Summary:
    """A number that was counted and has no spread."""
    return {"median": number, "low": number, "high": number, "samples": 1}


def median_interval(samples: Sequence[float]) -> Spread:
    """The median and its 95 % interval, by order statistics, without an assumption about the shape."""
    ordered = sorted(samples)
    size = len(ordered)
    reach = 0.98 * size**0.5
    low = max(0, int(size / 2 - reach))
    high = min(size - 1, int(size / 2 + reach))
    return {"median": median(ordered), "low": ordered[low], "high": ordered[high]}


def ratio_of(ours: Sequence[float], stock: Sequence[float]) -> Spread:
    """Ours divided by stock, for each pair of samples with the same index, from the same round."""
    return median_interval([a / b for a, b in zip(ours, stock, strict=True)])


def difference_of(ours: Sequence[float], stock: Sequence[float]) -> Summary:
    """Ours minus stock, for each pair, with the 95 % interval of the median."""
    pairs = [a - b for a, b in zip(ours, stock, strict=True)]
    spread = median_interval(pairs)
    return {
        "median": spread["median"],
        "low": spread["low"],
        "high": spread["high"],
        "samples": len(pairs),
    }
