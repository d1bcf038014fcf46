"""Asks the process that runs the temporary server; see trouble.py beside manage.py."""

from __future__ import annotations

import json
import os
import socket
import threading
from typing import Any


class Refused(Exception):
    """The request was refused; the text says why."""


class Control:
    """Asks `make run` to cause a failure. With a server of the user there is nothing to ask."""

    def __init__(self) -> None:
        self.acts: frozenset[str] = frozenset()
        self.running = True
        self.blocked = False
        self._lock = threading.Lock()
        number = os.environ.get("EXAMPLE_TROUBLE")
        if number:
            self._end = socket.socket(fileno=int(number))
            self._answers = self._end.makefile("r")
            self.ask("look")

    @property
    def throwaway(self) -> bool:
        """Whether the server is one that `make run` has started."""
        return bool(self.acts)

    def ask(self, act: str) -> None:
        """Return when it is done. Starting a server takes some seconds."""
        with self._lock:
            try:
                self._end.sendall(act.encode() + b"\n")
                line = self._answers.readline()
            except OSError:
                line = ""
            if not line:
                raise Refused("`make run` has ended")
            answer: dict[str, Any] = json.loads(line)
            self.acts = frozenset(answer["acts"])
            self.running, self.blocked = answer["running"], answer["blocked"]
        if answer["error"]:
            raise Refused(answer["error"])
