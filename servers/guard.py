"""Ends what this process has started, even if this process is killed.

A child process reads from a pipe whose other end only this process has open. When this process ends
in any way, the pipe closes. Then the child kills the servers that are still registered, runs their
clean-up commands and removes their folders. PR_SET_PDEATHSIG is not enough: the signal is sent when
the *thread* that started the server ends, and it removes no files.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

_lock = threading.Lock()
_process: subprocess.Popen[str] | None = None
_owner = 0


def register(
    key: str, *, pid: int = 0, directory: Path | None = None, command: Sequence[str] = ()
) -> None:
    """Kill `pid`, remove `directory` and run `command` if this process ends before `forget`."""
    entry = {
        "key": key,
        "pid": pid,
        "born": started_at(pid),
        "directory": str(directory or ""),
        "command": list(command),
    }
    _send(entry)


def forget(key: str) -> None:
    """Remove what was registered under `key`, because it has been cleaned up."""
    _send({"key": key, "gone": True})


def owned_by_this_process(pid: int) -> bool:
    """Whether objects made in process `pid` may be cleaned up here. A forked child may not."""
    return pid == os.getpid()


def started_at(pid: int) -> str:
    """The start time of a process, which differs from a later one's with the same id; '' if it has ended."""
    try:
        # The name in brackets may contain spaces. Field 22 counts from the start of the line.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _send(message: dict[str, object]) -> None:
    global _process, _owner
    with _lock:
        if _process is None or _owner != os.getpid():
            _process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
                # Ctrl-C goes to the whole foreground group, and must not end the guard.
                start_new_session=True,
                cwd="/",
            )
            _owner = os.getpid()
        pipe = _process.stdin
        assert pipe is not None
        pipe.write(json.dumps(message) + "\n")
        pipe.flush()


@atexit.register
def _close() -> None:
    # Wait, so that the servers have ended when this process has ended.
    if _process is not None and _owner == os.getpid():
        assert _process.stdin is not None
        _process.stdin.close()
        _process.wait()


def _watch(pipe: IO[str]) -> None:
    entries: dict[str, dict[str, object]] = {}
    for line in pipe:
        message = json.loads(line)
        if message.get("gone"):
            entries.pop(message["key"], None)
        else:
            entries[message["key"]] = message
    for entry in reversed(list(entries.values())):
        pid = int(str(entry["pid"]))
        if pid and entry["born"] and started_at(pid) == entry["born"]:
            os.kill(pid, signal.SIGKILL)
        command = entry["command"]
        if isinstance(command, list) and command:
            subprocess.run(command, check=False)
        if entry["directory"]:
            shutil.rmtree(str(entry["directory"]), ignore_errors=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _watch(sys.stdin)
