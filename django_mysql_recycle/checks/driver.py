"""System checks of what depends on the driver: its version, its arguments, TLS, the transport."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from django.core import checks

from .. import option_files
from ..drivers import choose, versions
from ..network_path import leaves_time
from ..options import Options, path_of
from .options import KERNEL_PROBES, driver_options, own_settings

__all__ = ["NO_AUTHORITY", "authority_findings", "driver_findings"]

NO_AUTHORITY = "django_mysql_recycle.I001"


def driver_findings(alias: str, settings: Mapping[str, Any]) -> Iterator[checks.CheckMessage]:
    """What is wrong with one entry of DATABASES for the driver of this process."""
    name = choose().name
    yield from _check_version(alias, name)
    yield from _check_transport(alias, name, settings)
    yield from _check_cursor_class(alias, settings)
    if name == "mysqlclient":
        yield from _check_connect_timeout(alias, settings)
        yield from authority_findings(alias, settings)


def _check_version(alias: str, name: str) -> Iterator[checks.CheckMessage]:
    oldest = versions.OLDEST[name]
    installed = versions.installed(name)
    package = versions.PACKAGES[name]
    if installed is not None and versions.numbers(installed) < oldest:
        needed = versions.text(oldest)
        yield checks.Warning(
            f"{package} {installed} is installed, which alias {alias!r} uses: this backend is "
            f"made for {needed} and later.",
            hint=f"pip install '{package}>={needed}'. What the settings module makes the driver "
            "say of its version does not count here.",
            id="django_mysql_recycle.W008",
        )
        return
    claimed = versions.false_claim(name)
    if claimed is not None:
        yield checks.Warning(
            f"pymysql.version_info has been set to {claimed}, which alias {alias!r} uses: "
            "Django 6 takes that for a driver that is too old, and refuses it.",
            hint="Remove the line that sets it, and install_as_MySQLdb() with it: this backend "
            f"needs neither, and PyMySQL {installed or ''} reports a version that Django takes.",
            id="django_mysql_recycle.W009",
        )


def _check_transport(
    alias: str, name: str, settings: Mapping[str, Any]
) -> Iterator[checks.CheckMessage]:
    reason = _unix_socket(name, settings)
    given = own_settings(settings)
    if not reason:
        yield from _check_probes(alias, given, Options.of(alias, settings))
        return
    for key in ("keepalive", "network_timeout"):
        if given.get(key) is not None:
            yield checks.Warning(
                f"{path_of(alias, key)} has no effect: {reason}.",
                hint="There is no path between the two ends that could drop packets. For TCP "
                "to a server on the same machine set HOST to 127.0.0.1.",
                id="django_mysql_recycle.W005",
            )


def _check_probes(
    alias: str, given: Mapping[str, Any], options: Options
) -> Iterator[checks.CheckMessage]:
    keepalive, limit = options.keepalive, options.network_timeout
    if limit is None:
        return
    # TCP_USER_TIMEOUT takes the place of TCP_KEEPCNT: see network_path.py.
    if not leaves_time(1, limit):
        yield checks.Warning(
            f"{path_of(alias, 'network_timeout')} ({limit}) is shorter than 3 s: a single lost "
            "packet ends a connection that is idle or waits for an answer.",
            hint="The kernel sends keepalive probes at whole seconds, and no second one fits "
            "in. Raise network_timeout.",
            id="django_mysql_recycle.W014",
        )
    elif (
        "keepalive" in given
        and (keepalive is None or keepalive <= KERNEL_PROBES)  # else W012 says so
        and not (keepalive is not None and leaves_time(keepalive, limit))
    ):
        yield checks.Warning(
            f"{path_of(alias, 'keepalive')} ({keepalive}) leaves no time for several probes within "
            f"'network_timeout' ({limit}): the first probe is sent after {max(1, int(limit / 3))} "
            "s instead.",
            hint="Linux ends a connection by network_timeout and not by the number of probes, so "
            "that otherwise a single lost packet would end it. Lower keepalive to two thirds of "
            "network_timeout or less, or raise network_timeout.",
            id="django_mysql_recycle.W014",
        )


def _unix_socket(name: str, settings: Mapping[str, Any]) -> str:
    """Why the connection goes over a unix socket; empty if it does not, or if that is open.

    The drivers differ: tests/integration/test_checks.py asks them.
    """
    host = str(settings.get("HOST") or "")
    options = driver_options(settings)
    if host.startswith("/"):
        return "HOST is a unix socket"
    if options.get("read_default_group") and not options.get("read_default_file"):
        return ""  # the driver reads files that are not named here
    host = str(options.get("host") or host or _from_file(options, "host") or "")
    by_name = sys.platform != "win32" and host in ("", "localhost")
    if options.get("unix_socket") and (name == "pymysql" or by_name):
        return "OPTIONS['unix_socket'] names a unix socket"
    if _from_file(options, "socket") and (name == "pymysql" or by_name):
        return "the file of OPTIONS['read_default_file'] names a unix socket"
    if name == "mysqlclient" and by_name:
        return f"mysqlclient takes HOST {host!r} for a unix socket, whatever PORT says"
    return ""


def _check_cursor_class(alias: str, settings: Mapping[str, Any]) -> Iterator[checks.CheckMessage]:
    kind = driver_options(settings).get("cursorclass")
    if isinstance(kind, type) and issubclass(kind, choose().unbuffered):
        yield checks.Warning(
            f"DATABASES[{alias!r}]['OPTIONS']['cursorclass'] ({kind.__name__}) leaves the rows of "
            "every statement at the server: until they are read nothing can be checked or "
            "replaced.",
            hint="Remove it, and open such a cursor where a result is too large for memory.",
            id="django_mysql_recycle.W010",
        )


def _check_connect_timeout(
    alias: str, settings: Mapping[str, Any]
) -> Iterator[checks.CheckMessage]:
    value = driver_options(settings).get("connect_timeout")
    if value == 0 and value is not False:
        yield checks.Warning(
            f"DATABASES[{alias!r}]['OPTIONS']['connect_timeout'] is 0: connecting to a host that "
            "does not answer has no bound but the system's.",
            hint="mysqlclient waits 135 s then, with a statement waiting behind it. Without the "
            "option this backend gives connecting 10 s.",
            id="django_mysql_recycle.W011",
        )


def authority_findings(alias: str, settings: Mapping[str, Any]) -> Iterator[checks.CheckMessage]:
    """Whether each connection loads all authorities of the system. Says nothing without TLS."""
    options = driver_options(settings)
    tls = options.get("ssl")
    named = isinstance(tls, Mapping) and (tls.get("ca") or tls.get("capath"))
    # PREFERRED and an empty dict are plain with Connector/C, and so are `ssl` and `ssl-mode` in
    # an option file: nothing is loaded for them (tests/integration/test_checks.py).
    asked = bool(tls) or str(options.get("ssl_mode")) in (
        "REQUIRED",
        "VERIFY_CA",
        "VERIFY_IDENTITY",
    )
    if (
        not asked
        or named
        or _system_trusts_few()
        or _from_file(options, "ssl-ca")
        or _from_file(options, "ssl-capath")
        or not versions.is_connector_c()
    ):
        return
    yield checks.Info(
        f"DATABASES[{alias!r}]['OPTIONS'] asks for TLS and names no certificate authority: "
        "mysqlclient loads all those that the system trusts for each connection.",
        hint="That is about 20 ms of CPU for each connect; with OPTIONS['ssl'] = {'ca': <file of "
        "the one that signed the server's certificate>} it is about 2 ms. Naming it also makes "
        "the driver verify the certificate, which ssl_mode REQUIRED alone does not: with another "
        "one in the file connecting fails.",
        id=NO_AUTHORITY,
    )


def _system_trusts_few() -> bool:
    """Whether SSL_CERT_FILE puts a small file in the place of the system's 200 kB or more."""
    path = os.environ.get("SSL_CERT_FILE")
    try:
        return bool(path) and Path(str(path)).stat().st_size < 20_000
    except OSError:
        return False  # connecting will fail, or not: it is OpenSSL's business


def _from_file(options: Mapping[str, Any], name: str) -> str:
    """An option of the driver's in its option files; empty where there is none, or no file."""
    found = option_files.options(options).get(name)
    return "" if found is None else found.value or ""
