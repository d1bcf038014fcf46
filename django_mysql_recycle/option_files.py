"""MySQL option files (``read_default_file``), as far as the backend has to know them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

__all__ = ["sets_connect_timeout"]

_GROUP = re.compile(r"\s*\[([^\]]+)\]")
_CONNECT_TIMEOUT = re.compile(r"\s*(?:loose[-_])?connect[-_]timeout\s*=\s*\d+", re.IGNORECASE)


def sets_connect_timeout(params: dict[str, Any]) -> bool:
    """Whether the option file named in the driver's parameters sets ``connect_timeout``.

    False where the file cannot be read: connecting will say so.
    """
    path = params.get("read_default_file")
    if not path:
        return False
    groups = {"client", params.get("read_default_group") or "client"}
    group = ""
    try:
        with Path(path).expanduser().open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if found := _GROUP.match(line):
                    group = found[1].strip()
                elif group in groups and _CONNECT_TIMEOUT.match(line):
                    return True
    except OSError:
        pass
    return False
