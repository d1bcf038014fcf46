"""One server process. It runs without the terminal, the guard watches it, and its id ends it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from . import guard
from .errors import ServersError, StartFailed
from .machine import require_program, server_user


class Process:
    """A program that runs until it is stopped. If root starts it, it runs as an unprivileged account."""

    def __init__(self, command: Sequence[str], *, log: Path, namespace: str = "") -> None:
        self.log = log
        self._key = f"process {log} {time.monotonic_ns()}"
        self._owner = os.getpid()
        user = server_user()
        prefix: list[str] = []
        if namespace:
            # Entering a network namespace needs root, so the account is changed after it. Both
            # programs exec the next one, so the process id stays that of the server.
            prefix = [require_program("ip", "iproute2"), "netns", "exec", namespace]
            if user is not None:
                setpriv = require_program("setpriv", "util-linux")
                prefix += [
                    setpriv,
                    f"--reuid={user.pw_uid}",
                    f"--regid={user.pw_gid}",
                    "--clear-groups",
                    "--",
                ]
        direct = user is not None and not namespace
        with open(log, "ab") as output:
            self._popen = subprocess.Popen(
                [*prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                # Ctrl-C is for this process, which then shuts the server down.
                start_new_session=True,
                user=user.pw_uid if user is not None and direct else None,
                group=user.pw_gid if user is not None and direct else None,
                extra_groups=[] if direct else None,
            )
        guard.register(self._key, pid=self._popen.pid)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return guard.owned_by_this_process(self._owner) and self._popen.poll() is None

    def wait_until(self, ready: Callable[[], bool], *, timeout: float, what: str) -> None:
        """Call `ready` until it is true. Raise `StartFailed` with the log if the process ends first."""
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.running:
                raise StartFailed(
                    f"{what} ended with status {self._popen.returncode}:\n{self.log_tail()}"
                )
            if time.monotonic() > deadline:
                self.end(signal.SIGKILL)
                raise StartFailed(f"{what} was not ready after {timeout:g} s:\n{self.log_tail()}")
            time.sleep(0.02)

    def send_signal(self, number: signal.Signals) -> None:
        if not self.running:
            raise ServersError(f"process {self.pid} is not running:\n{self.log_tail()}")
        self._popen.send_signal(number)

    def pause(self, *, timeout: float = 10) -> None:
        """Send SIGSTOP and return when every thread has stopped. Until then a thread may still answer."""
        self.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + timeout
        while set(_thread_states(self.pid)) - {"T"}:
            if time.monotonic() > deadline:
                raise ServersError(f"process {self.pid} did not stop running within {timeout:g} s")
            time.sleep(0.001)

    def end(self, number: signal.Signals = signal.SIGTERM, *, timeout: float = 60) -> None:
        """Send a signal and wait for the end. A zombie would keep MySQL's lock file."""
        if not guard.owned_by_this_process(self._owner):
            return
        if self.running:
            self._popen.send_signal(number)
            # A paused process gets SIGTERM only when it runs again.
            self._popen.send_signal(signal.SIGCONT)
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
            raise ServersError(
                f"process {self.pid} did not stop within {timeout:g} s and was killed:\n{self.log_tail()}"
            ) from None
        finally:
            guard.forget(self._key)

    def log_tail(self, lines: int = 25) -> str:
        """Return the last lines that the program wrote."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"


def _thread_states(pid: int) -> list[str]:
    """Return the state letters of the threads of a process, or nothing without /proc."""
    states = []
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            states.append(stat.read_text().rpartition(")")[2].split()[0])
        except OSError:
            # The thread ended between the listing and the reading.
            continue
    return states


def run_once(command: Sequence[str], *, log: Path, what: str, timeout: float = 120) -> None:
    """Run a program of a server to its end; raise `StartFailed` with its output if it fails."""
    process = Process(command, log=log)
    try:
        status = process._popen.wait(timeout)
    except subprocess.TimeoutExpired:
        raise StartFailed(f"{what} took longer than {timeout:g} s:\n{process.log_tail()}") from None
    finally:
        process.end(signal.SIGKILL)
    if status != 0:
        raise StartFailed(f"{what} failed with status {status}:\n{process.log_tail()}")


def remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
