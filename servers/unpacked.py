"""Programs that were unpacked with every library that they need, and not installed."""

from __future__ import annotations

import shutil

from . import apt
from .machine import cache_directory


class UnpackedTree:
    """A folder in the cache with a package and everything it depends on."""

    def __init__(self, name: str) -> None:
        self.root = cache_directory() / name

    def fill(self, pattern: str, *, suite: str | None = None) -> None:
        """Unpack the newest package whose name matches `pattern`. The caller holds a lock."""
        partial = self.root.with_name(f"{self.root.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        apt.unpack(pattern, partial, suite=suite)
        shutil.rmtree(self.root, ignore_errors=True)
        partial.rename(self.root)

    def command(self, program: str) -> tuple[str, ...] | None:
        """Return the start of a command line for a program of the tree, or `None` if it is missing.

        The loader of the tree runs it, because its C library may be newer than the machine's.
        """
        path = self.root / program
        loaders = [
            *self.root.glob("usr/lib/*/ld-linux-*.so.*"),
            *self.root.glob("lib/*/ld-linux-*.so.*"),
        ]
        if not path.exists() or not loaders:
            return None
        folders = [*self.root.glob("usr/lib/*-linux-gnu*"), *self.root.glob("lib/*-linux-gnu*")]
        return (str(loaders[0]), "--library-path", ":".join(map(str, folders)), str(path))
