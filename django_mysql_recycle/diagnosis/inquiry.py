"""One alias: its settings, its server, its socket, and the proof, each step as far as it gets."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from time import perf_counter
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.utils import Error, load_backend

from ..checks import check_settings, settings_findings
from ..drivers import Driver, choose
from ..errors import Proof, classify, code_of
from ..option_files import connect_timeout
from ..options import DEFAULT_CONNECT_TIMEOUT, Options, is_number, max_age_of, path_of
from ..server_facts import read
from .findings import (
    Finding,
    connect_hint,
    finding,
    of_check,
    of_connection,
    of_server,
)
from .path import (
    Cost,
    Transport,
    kernel_options,
    library_of,
    measure,
    missing_guards,
    proxy_evidence,
    tls_of,
    transport_of,
)
from .proof import Progress, prove
from .report import AliasReport, idle_limit_told, max_age_told

__all__ = ["STOCK", "Inquiry"]

STOCK = "django.db.backends.mysql"

#: Connects of which the quickest is told: the others measure what else the machine does.
CONNECTS = 3


class Inquiry:
    """After `run`, the report and what was found."""

    def __init__(self, alias: str, with_checks: bool, progress: Progress | None) -> None:
        self.alias = alias
        self.with_checks = with_checks
        self.progress = progress
        self.settings: Mapping[str, Any] = connections.settings[alias]
        self.found: list[Finding] = []
        self.options: Options | None = None  # on the stock backend
        self.settings_read = False
        max_age = self.settings.get("CONN_MAX_AGE", 0)
        self.report = AliasReport(
            alias=alias,
            engine=str(self.settings["ENGINE"]),
            guarded=False,
            reachable=False,
            conn_max_age=max_age if is_number(max_age) else None,
            conn_health_checks=bool(self.settings.get("CONN_HEALTH_CHECKS", False)),
            recycle=None,
        )

    def run(self) -> None:
        connection: Any = None
        try:
            connection = self._wrapper()
            if not self._look_at_settings(connection):
                return
            self.settings_read = True
            self._look_at_server(connection)
            if self.progress is not None and self.report.guarded:
                self._prove(self.progress)
        except Exception as error:
            # Drivers also raise TypeError, OSError and RuntimeError for what OPTIONS names. One
            # alias that cannot be used is no reason to be silent about the others.
            self.found.append(self._failure(error))
        finally:
            if connection is not None:
                _close(connection)

    def _failure(self, error: Exception) -> Finding:
        told = f"{type(error).__name__}: {error}"
        if not self.settings_read or isinstance(error, ImproperlyConfigured):
            return finding("not_loaded", told)
        if not self.report.reachable:
            return finding("unreachable", told, connect_hint(code_of(error)))
        facts = self.report.server
        mariadb = facts is None or facts.is_mariadb
        if isinstance(error, Error) and classify(error, mariadb=mariadb) is Proof.ALIVE:
            return finding("refused", f"The server refused a question: {told}")
        return finding("lost", told)

    def _wrapper(self) -> Any:
        """A wrapper that is nobody else's."""
        wrapper: Any = connections.create_connection(self.alias)
        from ..base import RecycleMixin

        if isinstance(wrapper, RecycleMixin):
            return wrapper
        return type(wrapper)(_in_time(self.settings), self.alias)

    def _look_at_settings(self, connection: Any) -> bool:
        """Whether the settings let us connect."""
        from ..base import RecycleMixin

        if missing := missing_guards():
            self.found.append(finding("platform_lacks", f"This system lacks {', '.join(missing)}."))
        if not isinstance(connection, RecycleMixin):
            # GeoDjango's backend has its own counterpart.
            suits = "django_mysql_recycle" + (".gis" if ".gis." in self.report.engine else "")
            told = f"The engine is {self.report.engine}."
            self.found.append(finding("stock_backend", told, f"Set ENGINE to {suits!r}."))
            if self.with_checks:
                self.found += _told_of_another_engine(self.alias)
            return True
        self.report = replace(self.report, guarded=True)
        of_settings = [*map(of_check, settings_findings(self.alias, self.settings))]
        try:
            self.options = Options.of(self.alias, self.settings)
            max_age_of(self.alias, self.settings)
        except ImproperlyConfigured:
            self.found += of_settings  # connecting would raise the same
            return False
        self.found += of_settings if self.with_checks else []
        self.report = replace(self.report, recycle=asdict(self.options))
        return True

    def _look_at_server(self, connection: Any) -> None:
        settings, options = self.settings, self.options
        connection.ensure_connection()
        self.report = replace(
            self.report,
            reachable=True,
            max_age=max_age_told(self.alias, settings, options),
        )
        facts = read(connection)
        # Only now: somebody may have closed the first connection, and this is another.
        raw, driver = connection.connection, choose()
        descriptor = driver.descriptor(raw)
        transport = transport_of(descriptor)
        asked = connection.guard.current().path_options if self.report.guarded else {}
        kernel = kernel_options(descriptor, asked)
        encrypted = driver.is_encrypted(raw)
        tls = tls_of(raw, facts, settings, library_of(driver))
        evidence = proxy_evidence(raw, transport, facts)
        self.report = replace(
            self.report,
            server=facts,
            transport=transport,
            tls=tls,
            kernel=kernel,
            idle_limit=idle_limit_told(facts.wait_timeout, options),
        )
        self.found += of_server(facts, settings, options)
        with connection.wrap_database_errors:
            timeout = Options().within(settings["OPTIONS"]).ping_timeout
            ping_ms, liveness_check_us = measure(driver, raw, timeout)
        if self.with_checks and self.report.guarded:
            self.found += map(of_check, connection.validation.check(databases=[self.alias]))
        # The first connect also pays for what a process pays for once.
        connect_ms = min(_time_to_connect(connection) for _ in range(CONNECTS))
        cost = Cost(connect_ms, ping_ms, liveness_check_us)
        self.report = replace(self.report, cost=cost)
        self.found += of_connection(transport, tls, kernel, cost, evidence, options)
        if not encrypted:
            self._tls_is_missing(driver, transport)
        if any(found.id.endswith(".I001") for found in self.found):
            # The check knows the cause, and the report has the measured time anyway.
            self.found = [found for found in self.found if "tls_connect_cost" not in found.id]
        connection.close()

    def _tls_is_missing(self, driver: Driver, transport: Transport) -> None:
        # The system checks say the same, or take the settings' word for it.
        said = (".E101", ".I001")
        self.found = [found for found in self.found if not found.id.endswith(said)]
        if transport.kind != "socket" and driver.asks_for_tls(self.settings.get("OPTIONS") or {}):
            told = "The settings ask for TLS, and the connection is not encrypted."
            self.found.append(finding("tls_missing", told))

    def _prove(self, progress: Progress) -> None:
        control = {**_in_time(self.settings), "ENGINE": STOCK}
        control["OPTIONS"].pop("recycle", None)
        stock = load_backend(STOCK).DatabaseWrapper(control, self.alias)
        proof = prove(self._wrapper(), stock, choose(), progress)
        self.report = replace(self.report, proof=proof)
        if proof.outcome != "proven":
            self.found.append(finding(f"proof_{proof.outcome}", f"--prove: {proof.explanation}."))


def _told_of_another_engine(alias: str) -> list[Finding]:
    """Recycle options that its driver would refuse."""
    messages = [message for message in check_settings() if path_of(alias) in message.msg]
    return [of_check(message) for message in messages]


def _in_time(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for the stock backend, with which mysqlclient waits 135 s for a silent host."""
    options = dict(settings.get("OPTIONS") or {})
    if options.get("connect_timeout") is None and connect_timeout(options) is None:
        options["connect_timeout"] = DEFAULT_CONNECT_TIMEOUT
    return {**settings, "OPTIONS": options}


def _time_to_connect(connection: Any) -> float:
    connection.close()
    begun = perf_counter()
    connection.ensure_connection()
    return round((perf_counter() - begun) * 1e3, 3)


def _close(connection: Any) -> None:
    with suppress(Error):
        connection.close()
