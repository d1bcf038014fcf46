"""Blocks of stock and ours in turn, so that changes of the machine affect both."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Mapping
from itertools import repeat
from time import perf_counter

Block = Callable[[], float]


def alternate(
    blocks: Mapping[str, Block], rounds: int, *, warm_up: int = 3, seconds: float = 20.0
) -> dict[str, list[float]]:
    """Run one block of each in every round, in a random order.

    Returns the samples by name. Samples with the same index belong together. The first `warm_up`
    rounds are not counted. It ends after `seconds`, so on a slow machine there are fewer rounds, at
    least two.
    """
    deadline = perf_counter() + seconds
    names = list(blocks)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warm_up + rounds):
        if perf_counter() > deadline and turn >= warm_up + 2:
            break
        random.shuffle(names)
        for name in names:
            value = blocks[name]()
            if turn >= warm_up:
                samples[name].append(value)
    return samples


def timed(
    call: Callable[[], object],
    number: int,
    *,
    clock: Callable[[], float] = perf_counter,
    prepare: Callable[[], object] | None = None,
    scale: float = 1e6,
) -> Block:
    """A block of `number` calls. Returns the time of one, in microseconds unless `scale` is given.

    `prepare` runs before the block and is not timed. The garbage collector is off in the block.
    """

    def block() -> float:
        if prepare is not None:
            prepare()
        enabled = gc.isenabled()
        gc.disable()
        try:
            began = clock()
            for _ in repeat(None, number):
                call()
            return (clock() - began) / number * scale
        finally:
            if enabled:
                gc.enable()

    return block
