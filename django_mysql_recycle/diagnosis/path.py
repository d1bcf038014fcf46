"""The open connection itself: driver, transport, TLS, kernel options, costs."""

from __future__ import annotations

import os
import re
import select
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from time import perf_counter
from typing import Any

from .. import liveness, network_path
from ..drivers import Driver, choose
from ..drivers.versions import installed, is_connector_c
from ..server_facts import ServerFacts

__all__ = [
    "Cost",
    "DriverFacts",
    "KernelOption",
    "TlsFacts",
    "Transport",
    "driver_facts",
    "installed_version",
    "kernel_options",
    "library_of",
    "measure",
    "missing_guards",
    "proxy_evidence",
    "tls_of",
    "transport_of",
]

CONNECTOR_C = "MariaDB Connector/C"

#: Round trips of which the median is reported.
PINGS = 11


@dataclass(frozen=True, slots=True)
class DriverFacts:
    name: str  #: ``mysqlclient`` or ``pymysql``
    version: str
    library: str  #: the C library behind mysqlclient; empty with PyMySQL


@dataclass(frozen=True, slots=True)
class Transport:
    kind: str  #: ``tcp`` or ``socket``; empty where it is not known
    address: str  #: ``host:port``, or the path of the unix socket
    local_port: int | None


@dataclass(frozen=True, slots=True)
class TlsFacts:
    version: str  #: empty without TLS
    cipher: str
    #: ``certificate and host name``, ``certificate``, ``nothing`` or ``unknown``
    verified: str


@dataclass(frozen=True, slots=True)
class KernelOption:
    name: str  #: as in setsockopt()
    asked: int | None  #: set by the backend; None where it left the system's own value
    found: int


@dataclass(frozen=True, slots=True)
class Cost:
    connect_ms: float
    ping_ms: float
    liveness_check_us: float | None  #: None where the system has no poll()


def installed_version() -> str:
    """The version of this package. Empty where it was copied and not installed."""
    try:
        return version("django-mysql-recycle")
    except PackageNotFoundError:
        return ""


def driver_facts(driver: Driver) -> DriverFacts:
    return DriverFacts(driver.name, installed(driver.name) or "unknown", library_of(driver))


def library_of(driver: Driver) -> str:
    """The C library behind the driver; empty without."""
    if driver.name == "pymysql":
        return ""
    name = CONNECTOR_C if is_connector_c() else "libmysqlclient"
    return f"{name} {import_module('MySQLdb').get_client_info()}"


def missing_guards() -> tuple[str, ...]:
    """What this system lacks of the functions that the backend checks a connection with."""
    has = {
        "poll": liveness.can_look(),
        "POLLRDHUP": hasattr(select, "POLLRDHUP"),
        "TCP_KEEPIDLE": network_path.has_option("TCP_KEEPIDLE"),
        "TCP_USER_TIMEOUT": network_path.has_option("TCP_USER_TIMEOUT"),
        "fork": hasattr(os, "register_at_fork"),
    }
    return tuple(name for name, present in has.items() if not present)


def transport_of(descriptor: int | None) -> Transport:
    """The two ends of the open socket, whatever the settings say."""
    if descriptor is None or network_path.WINDOWS:
        return Transport("", "", None)
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        peer = sock.getpeername()
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return Transport(
                "socket", peer.decode() if isinstance(peer, bytes) else str(peer), None
            )
        host = f"[{peer[0]}]" if ":" in peer[0] else peer[0]
        return Transport("tcp", f"{host}:{peer[1]}", sock.getsockname()[1])


def tls_of(raw: Any, facts: ServerFacts, settings: Mapping[str, Any], library: str) -> TlsFacts:
    """TLS as PyMySQL's socket has it. mysqlclient does not show it; then the server is asked."""
    sock = getattr(raw, "_sock", None)
    if isinstance(sock, ssl.SSLSocket):
        cipher = sock.cipher()
        required = sock.context.verify_mode is ssl.CERT_REQUIRED
        verified = "certificate" if required else "nothing"
        if required and sock.context.check_hostname:
            verified = "certificate and host name"
        return TlsFacts(sock.version() or "", cipher[0] if cipher else "", verified)
    if sock is not None or not facts.tls_version or not choose().is_encrypted(raw):
        return TlsFacts("", "", "nothing")
    verified = verified_by_library(settings.get("OPTIONS") or {}, library)
    return TlsFacts(facts.tls_version, facts.tls_cipher, verified)


def verified_by_library(options: Mapping[str, Any], library: str) -> str:
    """What the settings make the C library verify, as far as they show it."""
    mode = str(options.get("ssl_mode") or "").upper()
    if mode == "VERIFY_IDENTITY":
        return "certificate and host name"
    if mode == "VERIFY_CA":
        return "certificate"
    if options.get("read_default_file"):
        return "unknown"
    parts = options.get("ssl")
    names_ca = isinstance(parts, Mapping) and bool(parts.get("ca") or parts.get("capath"))
    if library.startswith(CONNECTOR_C):
        # Connector/C verifies against an authority that was named, whatever the mode (3.3.20,
        # tests/integration/test_command.py). Without one, 3.4 verifies and 3.3 does not.
        if names_ca:
            return "certificate"
        old = re.search(r" 3\.[0-3]\.", library)
        return "nothing" if old or mode else "unknown"
    # libmysqlclient takes a named authority for VERIFY_CA unless a mode is given.
    return "certificate" if names_ca and not mode else "nothing"


def kernel_options(descriptor: int | None, asked: Mapping[str, int]) -> tuple[KernelOption, ...]:
    """What the kernel reports for the open socket, and what the backend has set."""
    if descriptor is None:
        return ()
    options = network_path.options_of(descriptor)
    found = {} if options is None else options._asdict()
    return tuple(
        KernelOption(name, asked.get(name), value)
        for name, value in sorted(found.items())
        if value is not None
    )


def measure(driver: Driver, raw: Any, timeout: float | None) -> tuple[float, float | None]:
    """Medians: milliseconds of a ping such as the backend sends, microseconds of a liveness check.

    `timeout`: seconds for each ping. Raises the driver's error, or TimeoutError where the server
    does not answer.
    """
    descriptor = driver.descriptor(raw)

    def ping() -> None:
        driver.send(raw, b"DO 0")
        if not liveness.wait_until_readable(descriptor, timeout):
            raise TimeoutError(f"no answer to a ping within {timeout} s")
        driver.receive(raw)

    ping()
    ping_ms = round(median(_timed(ping) for _ in range(PINGS)) * 1e3, 4)
    if "poll" in missing_guards():
        return ping_ms, None
    look = liveness.watch(descriptor)

    def fifty() -> None:
        for _ in range(50):
            look()

    return ping_ms, round(median(_timed(fifty) for _ in range(21)) / 50 * 1e6, 3)


def _timed(call: Callable[[], object]) -> float:
    begun = perf_counter()
    call()
    return perf_counter() - begun


def proxy_evidence(raw: Any, transport: Transport, facts: ServerFacts) -> tuple[str, ...]:
    """What shows that something stands between this end of the connection and the server's."""
    evidence = []
    greeted = str(raw.get_server_info()).removeprefix("5.5.5-")
    if greeted != facts.version:
        evidence.append(f"the greeting has version {greeted}, the server reports {facts.version}")
    thread = raw.thread_id()
    if facts.connection_id not in (None, thread):
        evidence.append(
            f"the greeting has connection {thread}, the server reports {facts.connection_id}"
        )
    if transport.kind == "socket" and facts.client_port is not None:
        evidence.append("this end is a unix socket, and the server sees a TCP connection")
    elif transport.local_port is not None and facts.client_port not in (None, transport.local_port):
        evidence.append(
            f"this end of the connection has port {transport.local_port}, and the server sees port "
            f"{facts.client_port}"
        )
    return tuple(evidence)
