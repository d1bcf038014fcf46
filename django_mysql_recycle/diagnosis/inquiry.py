"""One alias: its settings, its server, its socket, and the proof, each step as far as it gets."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from math import ceil
from time import perf_counter
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.utils import Error, load_backend

from ..checks import settings_findings, takes_options
from ..checks.driver import authority_findings
from ..checks.entry import Entry
from ..checks.finding import Finding
from ..checks.server import server_findings
from ..checks.settings import other_backend_findings
from ..connecting import with_connect_timeout
from ..drivers import choose
from ..errors import Proof, classify, code_of
from ..opening import time_to_connect
from ..options import KEYS, Options, given_options, is_number
from ..server_facts import read
from . import path
from .findings import connect_hint, finding, of_connection, of_server
from .proof import Progress, prove
from .report import AliasReport, idle_limit, max_age_limit

__all__ = ["STOCK", "Connecting", "Inquiry"]

STOCK = "django.db.backends.mysql"

#: Called each second while the first connection is being opened, with the address and the seconds.
Connecting = Callable[[str, float], None]

#: Connects of which the quickest is reported: the others measure what else the machine does.
CONNECTS = 3


class Inquiry:
    """After `run`, the report and what was found."""

    def __init__(
        self,
        alias: str,
        with_checks: bool,
        progress: Progress | None,
        connecting: Connecting | None,
    ) -> None:
        self.entry = Entry(alias, connections.settings[alias])
        self.with_checks = with_checks
        self.progress = progress
        self.connecting = connecting
        #: Seconds that the first attempt to connect took.
        self.waited = 0.0
        self.found: list[Finding] = []
        self.options: Options | None = None  # on the stock backend
        self.settings_read = False
        settings = self.entry.settings
        max_age = settings.get("CONN_MAX_AGE", 0)
        self.report = AliasReport(
            alias=alias,
            engine=str(settings["ENGINE"]),
            guarded=False,
            reachable=False,
            conn_max_age=max_age if is_number(max_age) else None,
            conn_health_checks=bool(settings.get("CONN_HEALTH_CHECKS", False)),
            recycle=None,
        )

    def run(self) -> None:
        connection: Any = None
        try:
            connection = self._wrapper()
            if not self._look_at_settings(takes_options(connection)):
                return
            self.settings_read = True
            self._look_at_server(connection)
            if self.progress is not None and self.report.guarded:
                self._prove(self.progress)
        except Exception as error:
            # Drivers also raise TypeError, OSError and RuntimeError for what OPTIONS names. One
            # alias that cannot be used is no reason to leave the others out.
            self.found.append(self._failure(error))
        finally:
            if connection is not None:
                with suppress(Error):
                    connection.close()

    def _failure(self, error: Exception) -> Finding:
        message = f"{type(error).__name__}: {error}"
        if not self.settings_read or isinstance(error, ImproperlyConfigured):
            return finding("not_loaded", message)
        if not self.report.reachable:
            limit = time_to_connect(self.entry.params)
            if self.waited >= limit - 0.5 and not _is_refusal(error):
                said = f"{self.address} did not answer within {limit:g} s: {message}"
                return finding("no_answer", said)
            return finding("unreachable", message, connect_hint(code_of(error)))
        facts = self.report.server
        mariadb = facts is None or facts.is_mariadb
        if isinstance(error, Error) and classify(error, mariadb=mariadb) is Proof.ALIVE:
            return finding("refused", f"The server refused a query: {message}")
        return finding("lost", message)

    @property
    def address(self) -> str:
        """Where the settings say that the server is, as far as they do."""
        settings, params = self.entry.settings, self.entry.params
        host = params.get("unix_socket") or params.get("host") or settings.get("HOST")
        port = params.get("port") or settings.get("PORT") or 3306
        host = str(host or "localhost")
        return host if host.startswith("/") else f"{host}:{port}"

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Call `connecting` once a second, from a thread: the driver gives nothing to wait with."""
        begun, done = perf_counter(), threading.Event()

        def report() -> None:
            # What it writes to may be closed.
            with suppress(OSError, ValueError):
                while self.connecting is not None and not done.wait(1):
                    self.connecting(self.address, perf_counter() - begun)

        thread = threading.Thread(target=report, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.waited = perf_counter() - begun
            done.set()
            thread.join()

    def _wrapper(self) -> Any:
        """A wrapper that no other code uses."""
        wrapper: Any = connections.create_connection(self.entry.alias)
        from ..base import RecycleMixin

        if isinstance(wrapper, RecycleMixin):
            self.report.guarded = True
            return type(wrapper)(self._for_ours(), self.entry.alias)
        return type(wrapper)(self._for_stock(), self.entry.alias)

    def _for_ours(self) -> Mapping[str, Any]:
        """The settings without the pool, whose connections are the application's and cost nothing,
        and without further tries: what refuses a connection does so at once."""
        params, given = self.entry.params, self.entry.given
        if not isinstance(params.get("recycle", {}), Mapping):
            return self.entry.settings  # which are refused
        own = {key: value for key, value in params.items() if key != "pool"}
        own["recycle"] = {**given, "connect_retries": 0}
        return {**self.entry.settings, "OPTIONS": own}

    def _for_stock(self) -> dict[str, Any]:
        """The settings for the stock backend, which must not wait longer for a host than ours.

        Without a limit mysqlclient waits 135 s, and PyMySQL has none at all for the greeting.
        """
        given = given_options(self.entry.alias, self.entry.settings)
        limits = {"read_timeout": ceil(time_to_connect(given))}
        return {**self.entry.settings, "OPTIONS": {**limits, **with_connect_timeout(given)}}

    def _look_at_settings(self, takes_options: bool) -> bool:
        """Whether it is possible to connect with these settings."""
        if missing := path.missing_guards():
            self.found.append(finding("platform_lacks", f"This system lacks {', '.join(missing)}."))
        if not self.report.guarded:
            # GeoDjango's backend has its own counterpart.
            suits = "django_mysql_recycle" + (".gis" if ".gis." in self.report.engine else "")
            message = f"The ENGINE is {self.report.engine}."
            self.found.append(finding("stock_backend", message, f"Set ENGINE to {suits!r}."))
            if self.with_checks:
                self.found += other_backend_findings(self.entry)
            return True
        found = settings_findings(
            self.entry.alias, self.entry.settings, connects=True, takes_options=takes_options
        )
        usable = not any(one.id.endswith(".E001") for one in found)
        if self.with_checks or not usable:
            self.found += found
        if usable:
            self.options = self.entry.options
            self.report.recycle = asdict(self.options)
            pool = self.entry.max_age.pool
            self.report.pool = None if pool is None else asdict(pool)
        return usable

    def _look_at_server(self, connection: Any) -> None:
        entry, options, report = self.entry, self.options, self.report
        with self._waiting():
            connection.ensure_connection()
        report.reachable = True
        report.max_age = max_age_limit(entry.max_age, options)
        facts = read(connection)
        # Only now: if the first connection has been closed meanwhile, this is another one.
        raw, driver = connection.connection, choose()
        descriptor = driver.descriptor(raw)
        asked = connection.guard.current().path_options if report.guarded else {}
        encrypted = driver.is_encrypted(raw)
        evidence = path.proxy_evidence(raw, path.transport_of(descriptor), facts)
        report.server = facts
        report.transport = path.transport_of(descriptor)
        report.tls = path.tls_of(raw, facts, entry.settings, path.library_of(driver))
        report.kernel = path.kernel_options(descriptor, asked)
        report.idle_limit = idle_limit(facts.wait_timeout, options)
        self.found += of_server(facts, entry.settings, options)
        with connection.wrap_database_errors:
            timeout = Options().within(entry.params).ping_timeout
            ping_ms, liveness_check_us = path.measure(driver, raw, timeout)
        if self.with_checks and report.guarded:
            self.found += map(Finding.of, connection.validation.inherited(databases=[entry.alias]))
            self.found += server_findings(entry.alias, entry.settings, facts)
            self.found += authority_findings(entry) if encrypted else ()
        # The first connect also pays for what a process pays for once.
        connect_ms = min(_milliseconds_to_connect(connection) for _ in range(CONNECTS))
        report.cost = cost = path.Cost(connect_ms, ping_ms, liveness_check_us)
        cause_is_known = any(one.id.endswith(".I001") for one in self.found)
        for one in of_connection(
            report.transport, report.tls, report.kernel, cost, evidence, options
        ):
            if not (cause_is_known and one.id.endswith(".tls_connect_cost")):
                self.found.append(one)
        asks = driver.asks_for_tls(entry.params)
        if asks and not encrypted and report.transport.kind != "socket":
            message = "The settings ask for TLS, but the connection is not encrypted."
            self.found.append(finding("tls_missing", message))
        connection.close()

    def _prove(self, progress: Progress) -> None:
        control = {**self._for_stock(), "ENGINE": STOCK}
        for key in KEYS:
            control["OPTIONS"].pop(key, None)
        stock = load_backend(STOCK).DatabaseWrapper(control, self.entry.alias)
        proof = prove(self._wrapper(), stock, choose(), progress)
        self.report.proof = proof
        if proof.outcome != "proven":
            self.found.append(finding(f"proof_{proof.outcome}", f"--prove: {proof.explanation}."))


def _is_refusal(error: Exception) -> bool:
    """Whether the system at the other end has answered that nothing listens there."""
    return f"({errno.ECONNREFUSED})" in str(error) or "refused" in str(error).lower()


def _milliseconds_to_connect(connection: Any) -> float:
    connection.close()
    begun = perf_counter()
    connection.ensure_connection()
    return round((perf_counter() - begun) * 1e3, 3)
