"""Borrowers in threads of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.db import connections


def in_thread(alias: str, call: Callable[[Any], Any], *, closes: bool = False) -> Any:
    """Run `call` with the connection of another thread, and return what it returns.

    `closes`: close the connection at the end. Without it the thread leaves it as it is.
    """
    results: list[Any] = []

    def run() -> None:
        connection = connections[alias]
        try:
            results.append(call(connection))
        except BaseException as error:
            results.append(error)
        finally:
            if closes:
                connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert results, "the thread hangs"
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]
