"""MySQL option files (``read_default_file``), as far as the backend has to know them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["mentions_tls", "sets_connect_timeout"]

_GROUP = re.compile(r"\s*\[([^\]]+)\]")
_CONNECT_TIMEOUT = re.compile(r"\s*(?:loose[-_])?connect[-_]timeout\s*=\s*\d+", re.IGNORECASE)


def sets_connect_timeout(params: Mapping[str, Any]) -> bool:
    """Whether the option file named in the driver's parameters sets ``connect_timeout``.

    False where the file cannot be read: connecting will say so.
    """
    path = params.get("read_default_file")
    if not path:
        return False
    groups = {"client", params.get("read_default_group") or "client"}
    group = ""
    for line in _lines(path):
        if found := _GROUP.match(line):
            group = found[1].strip()
        elif group in groups and _CONNECT_TIMEOUT.match(line):
            return True
    return False


def mentions_tls(params: Mapping[str, Any]) -> bool:
    """Whether the option file that PyMySQL reads with these parameters may speak of TLS."""
    path = params.get("read_default_file")
    if not path and params.get("read_default_group"):
        path = "c:\\my.ini" if sys.platform.startswith("win") else "/etc/my.cnf"
    return bool(path) and any("ssl" in line.lower() for line in _lines(path))


def _lines(path: Any) -> Iterator[str]:
    try:
        with Path(os.fsdecode(path)).expanduser().open(encoding="utf-8", errors="replace") as lines:
            yield from lines
    except OSError:
        return
