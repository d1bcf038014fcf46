"""A network namespace in which packets can be dropped without a sign to either end."""

from __future__ import annotations

import atexit
import os
import subprocess

from . import apt, guard
from .errors import NotAvailable, ServersError
from .machine import find_program, is_root, locked

_PROGRAMS = {"ip": "iproute2", "iptables": "iptables"}


class Namespace:
    """A namespace that a veth pair connects with this machine. It needs root.

    A server started with `Server(..., host=namespace.address, namespace=namespace.name)` listens in
    it. Its addresses are private ones (10.213.x.y/30), on a link that belongs to this object.
    """

    def __init__(self) -> None:
        if not is_allowed():
            raise NotAvailable(
                "no network namespace can be made: this needs root, and in a container the "
                "capability CAP_SYS_ADMIN (docker run --privileged)"
            )
        obtain_programs()
        self._owner = os.getpid()
        # The lock lets only one process at a time look for a free number and take it.
        with locked("netns"):
            number = _free_number()
            self.name = f"recycle-{number}"
            self._link = f"rcy{number}"
            upper, lower = divmod(number * 4, 256)
            self.gateway = f"10.213.{upper}.{lower + 1}"
            self.address = f"10.213.{upper}.{lower + 2}"
            _run("ip", "netns", "add", self.name)
        ip = find_program("ip") or "ip"
        # The links go first: the kernel keeps the namespace, and them with it, for as long as a
        # connection in it waits for an acknowledgement.
        remove = f"{ip} link del {self._link}; {ip} netns del {self.name}"
        guard.register(f"namespace {self.name}", command=["sh", "-c", remove])
        atexit.register(self.destroy)
        # fmt: off
        _run("ip", "link", "add", self._link, "type", "veth",
             "peer", "name", "eth0", "netns", self.name)
        # fmt: on
        _run("ip", "addr", "add", f"{self.gateway}/30", "dev", self._link)
        _run("ip", "link", "set", self._link, "up")
        _run("ip", "-n", self.name, "addr", "add", f"{self.address}/30", "dev", "eth0")
        _run("ip", "-n", self.name, "link", "set", "eth0", "up")
        _run("ip", "-n", self.name, "link", "set", "lo", "up")

    def drop_client(self, port: int) -> None:
        """Drop packets from and to this client port, as if a NAT entry had been forgotten.

        Other connections, also new ones, are not affected.
        """
        self._iptables("-A", "INPUT", "-p", "tcp", "--sport", str(port), "-j", "DROP")
        self._iptables("-A", "OUTPUT", "-p", "tcp", "--dport", str(port), "-j", "DROP")

    def let_client_through(self, port: int) -> None:
        """Undo `drop_client`."""
        self._iptables("-D", "INPUT", "-p", "tcp", "--sport", str(port), "-j", "DROP")
        self._iptables("-D", "OUTPUT", "-p", "tcp", "--dport", str(port), "-j", "DROP")

    def drop_next(self, port: int) -> None:
        """Drop the next packet from this client port, and no other."""
        # fmt: off
        self._iptables("-A", "INPUT", "-p", "tcp", "--sport", str(port),
                       "-m", "limit", "--limit", "1/day", "--limit-burst", "1", "-j", "DROP")
        # fmt: on

    def dropped(self, port: int) -> int:
        """How many packets from this client port the current rules have dropped."""
        lines = self._iptables("-L", "INPUT", "-n", "-v", "-x").splitlines()
        return sum(int(line.split()[0]) for line in lines if f"spt:{port} " in f"{line} ")

    def drop_all(self) -> None:
        """Drop every packet in both directions."""
        self._iptables("-A", "INPUT", "-j", "DROP")
        self._iptables("-A", "OUTPUT", "-j", "DROP")

    def restore(self) -> None:
        """Let every packet through again."""
        self._iptables("-F")

    def destroy(self) -> None:
        """Remove the namespace and its links. A second call does nothing."""
        if not guard.owned_by_this_process(self._owner):
            return
        # The kernel removes the links of a namespace some time later. The next namespace could find them.
        if self._link in _links():
            _run("ip", "link", "del", self._link)
        if self.name in _namespaces():
            _run("ip", "netns", "del", self.name)
        guard.forget(f"namespace {self.name}")
        atexit.unregister(self.destroy)

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.destroy()

    def run(self, program: str, *arguments: str) -> str:
        """Run a program in the namespace and return what it prints."""
        return _run("ip", "netns", "exec", self.name, find_program(program) or program, *arguments)

    def _iptables(self, *arguments: str) -> str:
        return self.run("iptables", "-w", *arguments)


def missing_programs() -> list[str]:
    """The packages of `ip` and `iptables`, as far as these are missing."""
    return [package for program, package in _PROGRAMS.items() if find_program(program) is None]


def obtain_programs() -> None:
    """Install `ip` and `iptables` if they are missing; raises `NotAvailable` with what to install."""
    missing = missing_programs()
    if missing:
        apt.install(*missing)


def is_allowed() -> bool:
    """Whether this process may make a network namespace. Root in a container often may not."""
    unshare = find_program("unshare")
    if unshare is None:
        return is_root()
    # `ip netns` also mounts the namespace under a name.
    probe = [unshare, "--net", "--mount", "true"]
    return is_root() and subprocess.run(probe, capture_output=True, check=False).returncode == 0


def _free_number() -> int:
    taken = {*_namespaces(), *_links()}
    for number in range(1, 16000):
        if not {f"recycle-{number}", f"rcy{number}"} & taken:
            return number
    raise ServersError(
        "no number is free for another network namespace: remove some with 'ip netns del'"
    )


def _namespaces() -> list[str]:
    return [line.split()[0] for line in _run("ip", "netns", "list").splitlines() if line]


def _links() -> list[str]:
    # '7: rcy1@if2: <BROADCAST,...'
    lines = _run("ip", "-o", "link", "show").splitlines()
    return [line.split(": ")[1].partition("@")[0] for line in lines]


def _run(program: str, *arguments: str) -> str:
    path = find_program(program) or program
    result = subprocess.run(
        [path, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise ServersError(f"{program} {' '.join(arguments)} failed: {result.stderr.strip()}")
    return result.stdout
