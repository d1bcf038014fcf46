"""Binds threads to CPUs, because a thread that moves between CPUs makes the measurements noisy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def pinned(server_pid: int | None) -> Iterator[str]:
    """Bind this process to one CPU and the server to the others, while the block runs.

    Gives a sentence that says what was done. On systems without affinity nothing is changed.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield "not pinned: this system has no sched_setaffinity"
        return
    everywhere = os.sched_getaffinity(0)
    mine, *others = sorted(everywhere)
    os.sched_setaffinity(0, {mine})
    moved = bool(others) and server_pid is not None and _pin_threads(server_pid, set(others))
    try:
        yield f"client on CPU {mine}, server " + ("on the others" if moved else "anywhere")
    finally:
        os.sched_setaffinity(0, everywhere)
        if moved and server_pid is not None:
            _pin_threads(server_pid, everywhere)


def unpin(pid: int) -> None:
    """Let a server run on all CPUs again, after a measure that was ended early."""
    if hasattr(os, "sched_getaffinity"):
        _pin_threads(pid, os.sched_getaffinity(0))


def _pin_threads(pid: int, cpus: set[int]) -> bool:
    # Affinity belongs to threads. Threads that the server starts later inherit it.
    tasks = Path(f"/proc/{pid}/task")
    if not tasks.exists():
        return False
    try:
        for task in tasks.iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), cpus)
    except PermissionError:
        return False
    return True
