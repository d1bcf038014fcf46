"""Report what is known of each connection to MySQL or MariaDB, and what is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser, OutputWrapper
from django.core.management.color import no_style

from django_mysql_recycle.checks.finding import ERROR, NOTE, WARNING
from django_mysql_recycle.diagnosis import diagnose, survey
from django_mysql_recycle.diagnosis.explanation import explained, ids
from django_mysql_recycle.diagnosis.report import AliasReport, as_dict, environment
from django_mysql_recycle.diagnosis.schema import schema
from django_mysql_recycle.diagnosis.text import (
    alias_text,
    environment_text,
    ignored_text,
    summary,
    unproved,
    verdict_text,
)

#: Which findings make the exit status 1, by the value of --fail-on.
FAIL_ON = {
    "error": (ERROR,),
    "warning": (ERROR, WARNING),
    "note": (ERROR, WARNING, NOTE),
    "never": (),
}

#: The widths between which the text follows the terminal.
NARROWEST, WIDEST = 40, 200

#: The exit status that shells use for a program that Ctrl-C has ended.
INTERRUPTED = 130


class Command(BaseCommand):
    help = (
        "Reports for each alias on MySQL or MariaDB: the server, the driver, the transport, the "
        "time limits and where they come from, the kernel's TCP options, what a ping and a "
        "liveness check cost, and findings with hints. The exit status is 1 if a finding is an "
        "error or a warning (--fail-on)."
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
            "statement works; takes a few seconds for each alias. The exit status is 1 without a "
            "proof for each alias on this backend",
        )
        parser.add_argument(
            "--quiet",
            action="store_true",
            help="print only the findings that make the exit status 1, and nothing if there are none",
        )
        parser.add_argument(
            "--fail-on",
            choices=FAIL_ON,
            default="warning",
            help="the least level of a finding with which the exit status is 1 (default: warning)",
        )
        parser.add_argument(
            "--explain",
            metavar="ID",
            help="print what a check or a finding means, such as W012 or proxy, and connect to nothing",
        )
        parser.add_argument(
            "--schema",
            action="store_true",
            help="print the JSON schema of --json, and connect to nothing",
        )
        # Django gives this option only to commands that cannot run without the checks.
        parser.add_argument(
            "--skip-checks",
            action="store_true",
            dest="without_checks",
            help="leave out the findings of the system checks",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        width = min(WIDEST, max(NARROWEST, shutil.get_terminal_size().columns))
        if options["explain"] is not None:
            self._print(_explanation(options["explain"], width))
            return
        if options["schema"]:
            self._print(json.dumps(schema(), indent=2))
            return
        concerned, ignored = survey()
        chosen = _chosen(options["databases"], concerned, ignored)
        about = environment()
        reports = [self._diagnose(alias, options) for alias in chosen]
        levels = FAIL_ON[options["fail_on"]]
        lacking = unproved(reports) if options["prove"] else ""
        wrong = "; ".join(filter(None, (summary(reports, levels), lacking)))
        if options["json"]:
            document = as_dict(about, reports, ignored)
            self._print(json.dumps(document, indent=2, default=str))
        elif options["quiet"]:
            for report in reports:
                if report.has(*levels):
                    self._print(alias_text(report, self._style(options), width, levels))
        else:
            others = {} if options["databases"] else ignored
            texts = self._texts(reports, others, lacking, self._style(options), width)
            self._print("\n\n".join([*texts, environment_text(about, width)]))
        if wrong:
            raise CommandError(wrong)

    def _texts(
        self,
        reports: list[AliasReport],
        ignored: dict[str, str],
        lacking: str,
        style: Any,
        width: int,
    ) -> Iterator[str]:
        if reports:
            yield verdict_text(reports, style, lacking)
        else:
            yield "No alias is on MySQL or MariaDB."
        for report in reports:
            yield alias_text(report, style, width)
        if reports and ignored:
            yield ignored_text(ignored, width)

    def _style(self, options: dict[str, Any]) -> Any:
        # OutputWrapper knows whether it is a terminal, Django's style only whether stdout is one.
        coloured = options["force_color"] or (
            self.stdout.isatty() and not options["no_color"] and not os.environ.get("NO_COLOR")
        )
        return self.style if coloured else no_style()

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
        progress = None if options["quiet"] else _Progress(self.stderr, alias)
        try:
            return diagnose(
                alias,
                with_checks=not options["without_checks"],
                progress=(progress.closing if progress else _say_nothing)
                if options["prove"]
                else None,
                connecting=None if progress is None else progress.connecting,
            )
        except KeyboardInterrupt:
            raise CommandError("interrupted", returncode=INTERRUPTED) from None
        finally:
            if progress is not None:
                progress.clear()


def _say_nothing(_waited: float, _at_most: float) -> None:
    pass


def _explanation(name: str, width: int) -> str:
    text = explained(name, width)
    if text is None:
        raise CommandError(
            f"--explain: expected one of {', '.join(ids())}, got {name!r}", returncode=2
        )
    return text


class _Progress:
    """One line that is rewritten on a terminal, and elsewhere plain lines.

    To stderr: what the command prints is the report alone.
    """

    def __init__(self, out: OutputWrapper, alias: str) -> None:
        self._out = out
        self._alias = alias
        self._written = ""
        self._second = -1

    def closing(self, waited: float, at_most: float) -> None:
        """The proof waits for the server."""
        if int(waited) == self._second and not self._out.isatty():
            return
        self._second = int(waited)
        text = f"waiting for the server to close the connection, {waited:.0f} s"
        bar = "#" * round(20 * min(1, waited / at_most))
        self._show(text, f" [{bar:<20}]")

    def connecting(self, address: str, waited: float) -> None:
        """The first connection is being opened, and there is no answer yet."""
        if self._out.isatty():
            self._show(f"no answer from {address} yet, {waited:.0f} s")
        elif self._second < 0:
            # Of this one line is enough: it ends within connect_timeout.
            self._second = 0
            self._show(f"no answer from {address} yet")

    def _show(self, text: str, bar: str = "") -> None:
        text = f"{self._alias}: {text}"
        if not self._out.isatty():
            self._write(f"{text}\n")
            return
        text += bar
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
