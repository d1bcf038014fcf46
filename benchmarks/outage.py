"""A server that stops and starts again while a client keeps sending statements."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from servers import Server
from servers.greeting import NoGreeting, read_greeting

PAUSE = 0.005


class Asking:
    """A thread that runs a statement again and again, as a worker does that has something to write."""

    def __init__(self, name: str, make: Callable[[], Any], *, close: bool) -> None:
        self.name = name
        self.errors: Counter[str] = Counter()
        self._make = make
        self._close = close
        self._began = threading.Event()
        self._down = threading.Event()
        self._over = threading.Event()
        self._answered = threading.Event()
        self._when = 0.0
        self._thread = threading.Thread(target=self._work, name=name)

    def start(self) -> None:
        self._thread.start()
        if not self._began.wait(10):
            raise TimeoutError(f"{self.name} had no first answer")

    def outage(self) -> None:
        """The server has ended. The next answer is measured."""
        self._down.set()

    def answered(self) -> float:
        """The time of that answer, by the monotonic clock."""
        if not self._answered.wait(30):
            raise TimeoutError(f"{self.name} had no answer for 30 s")
        return self._when

    def end(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        from django.db.utils import Error

        wrapper = self._make()
        try:
            while not self._over.is_set():
                down = self._down.is_set()
                try:
                    with wrapper.cursor() as cursor:
                        cursor.execute("SELECT name FROM benchmarks_item WHERE id = 1")
                        cursor.fetchone()
                except Error as error:
                    self.errors[f"error {error.args[0]}"] += 1
                    if self._close:
                        wrapper.close()
                else:
                    self._began.set()
                    if down:
                        self._when = time.monotonic()
                        self._answered.set()
                        return
                self._over.wait(PAUSE)
        finally:
            wrapper.close()
            # The run closes it again, from its own thread.
            wrapper.inc_thread_sharing()


def ready_again(server: Server) -> float:
    """Start a server. Returns the time at which it greeted the first client, by the monotonic clock."""
    when: list[float] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.002):
            try:
                read_greeting(server.host, server.port)
            except NoGreeting:
                continue
            when.append(time.monotonic())
            return

    thread = threading.Thread(target=look, name="first greeting")
    thread.start()
    try:
        server.start()
        thread.join(5)
    finally:
        over.set()
        thread.join()
    return when[0]
