"""The original problem: a statement, a short wait_timeout, a pause, a statement, and so on."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.utils import DEFAULT_DB_ALIAS, ConnectionHandler, DatabaseError, InterfaceError

from visits.server import connection_id, driver_name, server_name


class Command(BaseCommand):
    help = (
        "Run SELECT now(), SET wait_timeout, pause for longer than that, SELECT now() and so on, in "
        "one process without requests. The status is 1 if a statement fails."
    )
    # It uses no model, and --engine can differ from the engine of the settings.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--engine",
            choices=settings.ENGINES,
            default=settings.DATABASES[DEFAULT_DB_ALIAS]["ENGINE"],
            help="the backend of this run (default: the one of the settings)",
        )
        parser.add_argument("--wait-timeout", type=_seconds, default=3, metavar="SECONDS")
        parser.add_argument("--pause", type=_seconds, default=5, metavar="SECONDS")
        parser.add_argument(
            "--rounds", type=int, default=3, help="number of pauses; 0: until Ctrl-C (default: 3)"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        database = {**settings.DATABASES[DEFAULT_DB_ALIAS], "ENGINE": options["engine"]}
        connection = ConnectionHandler({DEFAULT_DB_ALIAS: database})[DEFAULT_DB_ALIAS]
        try:
            self._loop(connection, options)
        except KeyboardInterrupt:
            self.stdout.write("")
        finally:
            connection.close()

    def _loop(self, connection: Any, options: dict[str, Any]) -> None:
        wait_timeout, pause, rounds = options["wait_timeout"], options["pause"], options["rounds"]
        self._started = time.monotonic()
        if not self._step("connect", connection, connection.ensure_connection):
            raise CommandError("no connection")
        about = (options["engine"], driver_name(connection), server_name(connection))
        self.stdout.write(f"          {', '.join(about)}")
        for done in count():
            if not self._run(connection, "SELECT now()"):
                # Try again at once, to see whether one statement failed or the connection is lost.
                again = self._run(connection, "SELECT now()")
                raise CommandError(
                    "one statement failed" if again else "every further statement fails, too"
                )
            if done == rounds != 0:
                return
            if not self._run(connection, f"SET wait_timeout={wait_timeout}"):
                raise CommandError("one statement failed")
            self._line(f"({pause} seconds without a statement)")
            time.sleep(pause)

    def _run(self, connection: Any, sql: str) -> bool:
        """Run a statement and print a line about it. Returns whether it succeeded."""

        def run() -> str:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return f"{cursor.fetchone()[0]:%H:%M:%S}" if cursor.description else ""

        return self._step(sql, connection, run)

    def _step(self, what: str, connection: Any, call: Callable[[], str | None]) -> bool:
        begun = time.perf_counter()
        try:
            answer = call() or "ok"
        except (DatabaseError, InterfaceError) as error:
            self._line(what, f"{type(error).__name__} {error}")
            return False
        spent = (time.perf_counter() - begun) * 1000
        number = connection_id(connection)
        self._line(what, f"{answer:<8}  connection {number}  {spent:6.1f} ms")
        return True

    def _line(self, what: str, outcome: str = "") -> None:
        elapsed = time.monotonic() - self._started
        self.stdout.write(f"{elapsed:6.1f} s  {what:<22}  {outcome}".rstrip())
        self.stdout.flush()


def _seconds(text: str) -> int:
    seconds = int(text)
    if seconds < 1:
        raise ValueError
    return seconds
