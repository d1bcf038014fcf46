"""A program that runs in its own folder. It ends with this process, and its folder is removed."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from . import guard
from .machine import scratch_directory
from .process import Process

if TYPE_CHECKING:
    from typing_extensions import Self


class Owned:
    """A program and its temporary folder. The guard removes both if this process is killed."""

    directory: Path
    _process: Process | None

    def _take_folder(self, prefix: str) -> None:
        self._process = None
        self._owner = os.getpid()
        self.directory = scratch_directory(prefix)
        guard.register(f"directory {self.directory}", directory=self.directory)
        atexit.register(self.destroy)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def start(self) -> None:
        raise NotImplementedError

    def destroy(self) -> None:
        """Kill the program and remove its folder. A second call, or one in a child, does nothing."""
        if not guard.owned_by_this_process(self._owner):
            return
        if self._process is not None:
            self._process.end(signal.SIGKILL)
            self._process = None
        shutil.rmtree(self.directory, ignore_errors=True)
        guard.forget(f"directory {self.directory}")
        atexit.unregister(self.destroy)

    def __enter__(self) -> Self:
        if not self.running:
            self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.destroy()
