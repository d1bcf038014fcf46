"""gunicorn --preload: the master has a connection when it forks its workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest

from servers import Server
from servers.machine import free_port

from .admin import Admin
from .connections import OURS
from .example import ROOT, variables

WORKERS = 3


def ask(url: str, process: subprocess.Popen[str]) -> tuple[int, int]:
    deadline = time.monotonic() + 15
    while True:
        try:
            with urlopen(url, timeout=5) as answer:
                pid, number = answer.read().split()
                return int(pid), int(number)
        except OSError:
            assert process.poll() is None, "gunicorn has ended"
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.timeout(90)
def test_preloaded_workers_leave_the_masters_connection_alone(
    server: Server, admin: Admin, driver: str
) -> None:
    port = free_port("127.0.0.1")
    env = variables(server, PRELOADED_ENGINE=OURS, DJANGO_MYSQL_RECYCLE_DRIVER=driver)
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", str(WORKERS)]
    process = subprocess.Popen(
        [*command, "--bind", f"127.0.0.1:{port}", "tests.preloaded:application"],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        master = int(process.stdout.readline().split()[1])
        answers = [ask(f"http://127.0.0.1:{port}/", process) for _ in range(60)]
        numbers = {pid: {n for p, n in answers if p == pid} for pid, _ in answers}
        assert all(len(own) == 1 for own in numbers.values())  # each its own, and keeps it
        assert master not in set().union(*numbers.values())
        assert master in admin.connection_ids()
        for pid in numbers:  # one ends in good order, the others crash
            os.kill(pid, signal.SIGTERM if pid == min(numbers) else signal.SIGKILL)
        for own in numbers.values():
            admin.wait_until_closed(own.pop())
        pid, number = ask(f"http://127.0.0.1:{port}/", process)
        assert pid not in numbers and number != master
        assert master in admin.connection_ids()
    finally:
        process.terminate()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()
