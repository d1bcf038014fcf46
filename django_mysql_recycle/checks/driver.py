"""System checks of what depends on the driver: its version, its arguments, TLS, the transport."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..drivers import choose, versions
from ..network_path import LINUX_PROBES, first_probe
from .entry import Entry
from .finding import Finding, check

__all__ = ["authority_findings", "driver_findings"]


def driver_findings(entry: Entry) -> Iterator[Finding]:
    """What is wrong with one entry of DATABASES for the driver of this process."""
    name = choose().name
    yield from _check_version(entry.alias, name)
    if reason := unix_socket(name, entry):
        yield from _check_unix_socket(entry, reason)
    else:
        yield from _check_probes(entry)
    kind = entry.params.get("cursorclass")
    if isinstance(kind, type) and issubclass(kind, choose().unbuffered):
        yield check(
            "W010",
            f"{entry.path('OPTIONS', 'cursorclass')} ({kind.__name__}) leaves the rows of each "
            "statement at the server. Until all of them are read, the connection can be neither "
            "checked nor replaced.",
            "Remove it. Where a result is too large for memory, open such a cursor in the code "
            "that needs it.",
        )
    timeout = entry.params.get("connect_timeout")
    if name == "mysqlclient" and timeout == 0 and timeout is not False:
        yield check(
            "W011",
            f"{entry.path('OPTIONS', 'connect_timeout')} is 0: nothing but the operating system "
            "limits the time for connecting to a host that does not answer.",
            "With mysqlclient that is 135 s, and the statement that needs the connection waits as "
            "long. Without the option this backend allows 10 s.",
        )


def _check_version(alias: str, name: str) -> Iterator[Finding]:
    oldest = versions.OLDEST[name]
    installed = versions.installed(name)
    package = versions.PACKAGES[name]
    if installed is not None and versions.numbers(installed) < oldest:
        needed = versions.text(oldest)
        yield check(
            "W008",
            f"{package} {installed} is installed, and alias {alias!r} uses it. This backend is made "
            f"for {needed} and later.",
            f"Run: pip install '{package}>={needed}'. The version of the installed package counts, "
            "and not one that the settings module gives to the driver.",
        )
        return
    claimed = versions.false_claim(name)
    if claimed is not None:
        yield check(
            "W009",
            f"pymysql.version_info has been set to {claimed}, and alias {alias!r} uses PyMySQL. "
            "Django 6 takes this for the version of the driver and refuses it as too old.",
            "Remove the line that sets it, and the call of install_as_MySQLdb(). This backend "
            f"needs neither, and PyMySQL {installed or ''} reports a version that Django accepts.",
        )


def _check_unix_socket(entry: Entry, reason: str) -> Iterator[Finding]:
    for key in ("keepalive", "network_timeout"):
        if entry.given.get(key) is not None:
            yield check(
                "W005",
                f"{entry.own(key)} has no effect: {reason}.",
                "This setting is for TCP connections. Remove it, or set HOST to 127.0.0.1 to use "
                "TCP to a server on the same machine.",
            )


def _check_probes(entry: Entry) -> Iterator[Finding]:
    keepalive, limit = entry.options.keepalive, entry.options.network_timeout
    if limit is None:
        return
    first, in_time = first_probe(keepalive, limit)
    if not first_probe(1, limit)[1]:
        yield check(
            "W014",
            f"{entry.own('network_timeout')} ({limit}) is shorter than 3 s: a single lost packet "
            "ends a connection that is idle or waits for an answer.",
            "The kernel sends keepalive probes at whole seconds, so that there is no time for a "
            "second probe. Set network_timeout to 3 or more.",
        )
    elif (
        "keepalive" in entry.given
        and not in_time
        and (keepalive is None or keepalive <= LINUX_PROBES)  # otherwise W012 says so
    ):
        yield check(
            "W014",
            f"{entry.own('keepalive')} ({keepalive}) leaves no time for several probes within "
            f"'network_timeout' ({limit}). The first probe is sent after {first} s instead.",
            "Linux ends a connection after network_timeout, however many probes are still to be "
            "sent: with a later first probe, a single lost packet would end it. Set keepalive to "
            "two thirds of network_timeout or less, or raise network_timeout.",
        )


def unix_socket(name: str, entry: Entry) -> str:
    """Why the connection goes over a unix socket. Empty if it does not, or if that is not known.

    The drivers differ: tests/integration/test_checks.py asks them.
    """
    host = str(entry.settings.get("HOST") or "")
    params = entry.params
    if host.startswith("/"):
        return "HOST is a unix socket"
    if params.get("read_default_group") and not params.get("read_default_file"):
        return ""  # the driver reads files that are not named here
    host = str(params.get("host") or host or entry.in_file("host") or "")
    by_name = sys.platform != "win32" and host in ("", "localhost")
    if params.get("unix_socket") and (name == "pymysql" or by_name):
        return "OPTIONS['unix_socket'] names a unix socket"
    if entry.in_file("socket") and (name == "pymysql" or by_name):
        return "the file of OPTIONS['read_default_file'] names a unix socket"
    if name == "mysqlclient" and by_name:
        return f"with HOST {host!r} mysqlclient connects over a unix socket, whatever PORT is"
    return ""


def authority_findings(entry: Entry) -> Iterator[Finding]:
    """Whether each connection loads all authorities of the system. Says nothing without TLS."""
    if choose().name != "mysqlclient":
        return
    tls = entry.params.get("ssl")
    named = isinstance(tls, Mapping) and (tls.get("ca") or tls.get("capath"))
    # PREFERRED and an empty dict are plain with Connector/C, and so are `ssl` and `ssl-mode` in
    # an option file: nothing is loaded for them (tests/integration/test_checks.py).
    asked = bool(tls) or str(entry.params.get("ssl_mode")) in (
        "REQUIRED",
        "VERIFY_CA",
        "VERIFY_IDENTITY",
    )
    if (
        not asked
        or named
        or _system_trusts_few()
        or entry.in_file("ssl-ca")
        or entry.in_file("ssl-capath")
        or not versions.is_connector_c()
    ):
        return
    yield check(
        "I001",
        f"{entry.path('OPTIONS')} asks for TLS and names no certificate authority (CA): for each "
        "connection mysqlclient loads all authorities that the system trusts.",
        "That takes about 20 ms of CPU time per connect. With OPTIONS['ssl'] = {'ca': path of the "
        "CA that signed the server's certificate} it takes about 2 ms. The driver then also "
        "verifies the certificate, which ssl_mode 'REQUIRED' alone does not do, and refuses to "
        "connect if another CA signed it.",
    )


def _system_trusts_few() -> bool:
    """Whether SSL_CERT_FILE puts a small file in the place of the system's 200 kB or more."""
    path = os.environ.get("SSL_CERT_FILE")
    try:
        return bool(path) and Path(str(path)).stat().st_size < 20_000
    except OSError:
        return False  # whether connecting fails then is up to OpenSSL
