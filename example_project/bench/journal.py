"""What has happened, for the page's timelines and its table."""

from __future__ import annotations

import threading
from collections import deque
from secrets import token_hex
from time import monotonic
from typing import Any

KEPT = 400


class Journal:
    """The latest events, numbered from 1. Any thread may write and read."""

    def __init__(self) -> None:
        #: The numbers begin again with each process. A page that is still open notices it by this name.
        self.name = token_hex(4)
        self._lock = threading.Lock()
        self._events: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._written = 0

    def write(self, lane: str, kind: str, text: str, **more: Any) -> None:
        """`lane` is a database alias or "both", `kind` what the page draws."""
        with self._lock:
            self._written += 1
            event = {"n": self._written, "t": monotonic(), "lane": lane, "kind": kind, "text": text}
            self._events.append({**event, **more})

    def since(self, number: int) -> list[dict[str, Any]]:
        """The events after that number, oldest first."""
        with self._lock:
            return [event for event in self._events if event["n"] > number]
