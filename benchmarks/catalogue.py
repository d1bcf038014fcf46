"""The measures, in the order in which they run and are reported."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

#: Names of modules in this package.
NAMES: Sequence[str] = (
    "statement",
    "operations",
    "liveness",
    "opening",
    "recovery",
    "throughput",
    "pool",
    "storm",
    "memory",
)


class Measure(NamedTuple):
    name: str
    title: str
    #: Seconds that one process (one driver, one server) may take.
    limit: float
    quick_limit: float
    #: The drivers and servers that it is measured on, if the others would show nothing new.
    pairs: Sequence[tuple[str, str]] | None = None


def measure(name: str) -> Measure:
    module = import_module(f"{__package__}.{name}")
    return Measure(
        name,
        module.TITLE,
        getattr(module, "TIME_LIMIT", 90.0),
        getattr(module, "QUICK_TIME_LIMIT", 30.0),
        getattr(module, "PAIRS", None),
    )


def available() -> list[str]:
    return [name for name in NAMES if find_spec(f"{__package__}.{name}") is not None]
