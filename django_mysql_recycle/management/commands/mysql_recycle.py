"""Report what is known of each connection to MySQL or MariaDB, and what is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser, OutputWrapper
from django.core.management.color import no_style

from django_mysql_recycle.diagnosis import diagnose, survey
from django_mysql_recycle.diagnosis.report import AliasReport, as_dict, environment
from django_mysql_recycle.diagnosis.text import (
    alias_text,
    environment_text,
    ignored_text,
    summary,
)

#: The exit status that shells use for a program that Ctrl-C has ended.
INTERRUPTED = 130


class Command(BaseCommand):
    help = (
        "Reports for each alias on MySQL or MariaDB: the server, the driver, the transport, the "
        "time limits and where they come from, the kernel's TCP options, what a ping and a "
        "liveness check cost, and findings with hints. The exit status is 1 if a finding is an "
        "error or a warning."
    )
    # A setting that cannot be used is a finding of its alias and does not stop the command.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--database",
            action="append",
            dest="databases",
            metavar="ALIAS",
            help="report only this alias; can be given more than once (default: all aliases on MySQL "
            "or MariaDB)",
        )
        parser.add_argument(
            "--json", action="store_true", help="print one JSON document (docs/command.md)"
        )
        parser.add_argument(
            "--prove",
            action="store_true",
            help="let the server close a connection that is opened for this, and show that the next "
            "statement works; takes a few seconds for each alias",
        )
        # Django gives this option only to commands that cannot run without the checks.
        parser.add_argument(
            "--skip-checks",
            action="store_true",
            dest="without_checks",
            help="leave out the findings of the system checks",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        concerned, ignored = survey()
        chosen = _chosen(options["databases"], concerned, ignored)
        # OutputWrapper knows whether it is a terminal, Django's style only whether stdout is one.
        coloured = options["force_color"] or (
            self.stdout.isatty() and not options["no_color"] and not os.environ.get("NO_COLOR")
        )
        style = self.style if coloured else no_style()
        width = min(100, max(80, shutil.get_terminal_size().columns))
        about = environment()
        if not options["json"]:
            self._print(environment_text(about, width))
        reports: list[AliasReport] = []
        for alias in chosen:
            report = self._diagnose(alias, options)
            reports.append(report)
            if not options["json"]:
                self._print("\n" + alias_text(report, style, width))
        if options["json"]:
            document = as_dict(about, reports, ignored)
            self._print(json.dumps(document, indent=2, default=str))
        elif not concerned:
            self._print("\nNo alias is on MySQL or MariaDB.")
        elif ignored and not options["databases"]:
            self._print("\n" + ignored_text(ignored, width))
        if wrong := summary(reports):
            raise CommandError(wrong)

    def _print(self, text: str) -> None:
        # An alias, a path or a server's message may have letters that stdout's encoding lacks.
        encoding = getattr(self.stdout, "encoding", None) or "utf-8"
        try:
            self.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self.stdout.flush()
        except BrokenPipeError:
            # `| head` has read enough. The rest of the output is dropped; the status stays.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stdout.fileno())
            os.close(nowhere)

    def _diagnose(self, alias: str, options: dict[str, Any]) -> AliasReport:
        progress = _Progress(self.stderr, alias) if options["prove"] else None
        try:
            return diagnose(alias, with_checks=not options["without_checks"], progress=progress)
        except KeyboardInterrupt:
            raise CommandError("interrupted", returncode=INTERRUPTED) from None
        finally:
            if progress is not None:
                progress.clear()


class _Progress:
    """One line that is rewritten on a terminal, and elsewhere a plain line for each second.

    To stderr: what the command prints is the report alone.
    """

    def __init__(self, out: OutputWrapper, alias: str) -> None:
        self._out = out
        self._alias = alias
        self._written = ""
        self._second = -1

    def __call__(self, waited: float, at_most: float) -> None:
        if int(waited) == self._second and not self._out.isatty():
            return
        self._second = int(waited)
        text = f"{self._alias}: waiting for the server to close the connection, {waited:.0f} s"
        if not self._out.isatty():
            self._write(f"{text}\n")
            return
        bar = "#" * round(20 * min(1, waited / at_most))
        text = f"{text} [{bar:<20}]"
        self._write("\r" + text.ljust(len(self._written)))
        self._written = text

    def clear(self) -> None:
        """Clear the line that was rewritten."""
        if self._written:
            self._write("\r" + " " * len(self._written) + "\r")
            self._written = ""

    def _write(self, text: str) -> None:
        self._out.write(text, style_func=str, ending="")
        self._out.flush()


def _chosen(
    given: list[str] | str | None, concerned: list[str], ignored: dict[str, str]
) -> list[str]:
    if given is None:
        return concerned
    wanted = [given] if isinstance(given, str) else list(dict.fromkeys(given))
    expected = f"one of {', '.join(concerned)}" if concerned else "there is none"
    for alias in wanted:
        if alias not in concerned:
            engine = f", whose ENGINE is {ignored[alias]}" if alias in ignored else ""
            raise CommandError(
                f"--database: expected an alias of DATABASES on MySQL or MariaDB ({expected}), "
                f"got {alias!r}{engine}",
                returncode=2,
            )
    return wanted
