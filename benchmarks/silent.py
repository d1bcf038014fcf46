"""A network that drops packets: how long each backend waits for an answer that never comes."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

from servers import Namespace, Server

from .measure import OURS, STOCK, Run, make_table
from .rows import Row, summary

#: The default settings, and how long they are observed. A quick run has shorter ones.
REST = 10.6
OBSERVED = 34.0
QUICK_REST = 0.8
QUICK_OBSERVED = 3.0
QUICK_SETTINGS = {"ping_after": 0.5, "ping_timeout": 0.5, "network_timeout": 1}

RESTED = "unresponsive network, idle for longer than ping_after"
BUSY = "unresponsive network, in the middle of work"
NUMBER = 3


class Blocked:
    """A connection whose packets will be dropped, in its own thread."""

    def __init__(self, case: str, name: str, engine: str, settings: dict[str, Any]) -> None:
        self.case = case
        self.name = name
        self.engine = engine
        self.settings = settings
        self.path: socket.socket | None = None
        """The connection's socket, for its port and its end."""
        self.still = False
        self.first: float | None = None
        """Seconds until the first statement ended, whatever its end was."""
        self.error = ""
        self.row: float | None = None
        """Seconds until a row was read, errors and a second statement included."""


class Unresponsive:
    """All of them at the same time, in the background, because they wait for nearly all the time."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._rest = QUICK_REST if run.quick else REST
        self._observed = QUICK_OBSERVED if run.quick else OBSERVED
        recycle = {"recycle": QUICK_SETTINGS} if run.quick else {}
        ours = {"options": {**run.options("tcp"), **recycle}}
        self._blocked = [
            Blocked(case, name, engine, settings)
            for case in (RESTED, BUSY)
            for name, engine, settings in (
                ("stock", STOCK, {}),
                ("stock, health check first", STOCK, {"CONN_HEALTH_CHECKS": True}),
                ("ours", OURS, ours),
            )
            for _ in range(NUMBER if engine == OURS else 1)
        ]
        self._halt = threading.Event()
        self._cut = threading.Event()
        self._over = threading.Event()
        self._failed: list[BaseException] = []
        self._stack = ExitStack()
        try:
            self._namespace = self._stack.enter_context(Namespace())
            server = self._stack.enter_context(
                Server(run.vendor, host=self._namespace.address, namespace=self._namespace.name)
            )
            self._there = Run(run.measure, run.driver, server, quick=run.quick)
            self._stack.callback(self._there.close)
            make_table(self._there)
            self._thread = threading.Thread(target=self._play, name="unresponsive network")
            self._thread.start()
        except BaseException:
            self._stack.close()
            raise

    def rows(self) -> Iterator[Row]:
        self._thread.join()
        if self._failed:
            raise self._failed[0]
        for case in (RESTED, BUSY):
            affected = [one for one in self._blocked if one.case == case]
            values = {}
            notes = []
            for name in dict.fromkeys(one.name for one in affected):
                mine = [one for one in affected if one.name == name]
                hung = [one for one in mine if one.row is None]
                times = [self._observed if one.row is None else one.row for one in mine]
                values[f"{name}, still waiting after" if hung else name] = summary(times)
                if hung:
                    notes.append(f"{name}: > {self._observed:g} s, {self._stuck(hung)}")
                elif any(one.error for one in mine):
                    firsts = summary([one.first or 0 for one in mine])["median"]
                    notes.append(f"{name}: {mine[0].error} after {firsts:.1f} s, then a row")
                else:
                    notes.append(f"{name}: a row, no error")
            note = "; ".join(notes)
            if self._run.quick:
                note += f"; with {QUICK_SETTINGS}"
            yield self._run.row(case, "s", values, transport="tcp", note=note)

    def _stuck(self, hung: list[Blocked]) -> str:
        ended = [one for one in hung if one.first is not None]
        return ended[0].error if ended else "still waiting when the watch ended"

    def end(self) -> None:
        self._over.set()
        self._halt.set()
        self._cut.set()
        self._thread.join()
        self._stack.close()

    def _play(self) -> None:
        threads = [
            threading.Thread(target=self._wait_blocked, args=(one,)) for one in self._blocked
        ]
        try:
            for thread in threads:
                thread.start()
            self._over.wait(self._rest)
            self._halt.set()
            while not all(one.still for one in self._blocked) and not self._over.is_set():
                if self._failed:
                    return
                time.sleep(0.002)
            if not self._over.is_set():
                for one in self._blocked:
                    assert one.path is not None
                    self._namespace.drop_client(one.path.getsockname()[1])
            self._cut.set()
            deadline = time.monotonic() + self._observed
            for thread in threads:
                while thread.is_alive() and time.monotonic() < deadline:
                    thread.join(0.1)
                    if self._over.is_set():
                        break
        except BaseException as error:
            self._failed.append(error)
        finally:
            self._over.set()
            self._halt.set()
            self._cut.set()
            for one in self._blocked:
                if one.path is not None:
                    # Without this they would continue only at the kernel's next attempt, in half a minute.
                    with suppress(OSError):
                        one.path.shutdown(socket.SHUT_RDWR)
                    one.path.close()
            for thread in threads:
                thread.join()

    def _wait_blocked(self, one: Blocked) -> None:
        wrapper = self._there.wrapper(one.engine, "tcp", **one.settings)
        try:
            self._ask(wrapper)
            one.path = _socket_of(wrapper)
            if one.case == BUSY:
                while not self._halt.wait(0.1):
                    self._ask(wrapper)
            one.still = True
            self._cut.wait()
            if not self._over.is_set():
                self._measure(one, wrapper)
        except BaseException as error:
            self._failed.append(error)
            self._cut.set()
        finally:
            wrapper.close()
            # The run closes it again, from its own thread.
            wrapper.inc_thread_sharing()

    def _measure(self, one: Blocked, wrapper: Any) -> None:
        from django.db.utils import Error

        began = time.monotonic()
        while not self._over.is_set():
            try:
                if "health" in one.name:
                    wrapper.close_if_unusable_or_obsolete()
                self._ask(wrapper)
            except Error as error:
                answer = f"error {error.args[0]}"
            else:
                answer = ""
            if self._over.is_set():
                return  # what came when packets passed again
            if one.first is None:
                one.first, one.error = time.monotonic() - began, answer
            if not answer:
                one.row = time.monotonic() - began
                return
            self._over.wait(0.05)

    def _ask(self, wrapper: Any) -> None:
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT name FROM benchmarks_item WHERE id = 1")
            cursor.fetchone()


def _socket_of(wrapper: Any) -> socket.socket:
    driver = wrapper.connection
    number = driver._sock.fileno() if hasattr(driver, "_sock") else driver.fileno()
    return socket.socket(fileno=os.dup(number))
