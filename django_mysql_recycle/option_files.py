"""MySQL option files (``read_default_file``), as far as the backend needs them.

The driver reads them when it connects. This module is the only other reader.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

__all__ = [
    "Option",
    "connect_timeout",
    "is_on",
    "mentions_tls",
    "options",
    "reconnecting",
]

_GROUPS = frozenset({"client", "client-server", "client-mariadb"})
_GROUP = re.compile(r"\[([^\]]+)\]")
_INCLUDE = re.compile(r"!(include|includedir)\s+(.+)")
#: How deep files may include one another. Connector/C stops at 64; real ones need two or three.
_DEEPEST = 10


class Option(NamedTuple):
    value: str | None  #: without quotes; None where the option stands alone
    source: str  #: the file


def options(params: Mapping[str, Any]) -> dict[str, Option]:
    """The options in the files that the C library reads with these parameters of the driver.

    The keys are the names, with dashes; the last value of a name counts. A file that cannot be
    read is left out, as the library does. Connector/C is stricter in places (of an
    ``!includedir`` it reads one file, ``my.cnf``); this reads whatever it might read.
    """
    if params.get("read_default_file") is None and params.get("read_default_group") is None:
        return {}  # the library reads none unless a parameter says so
    found: dict[str, Option] = {}
    groups = _GROUPS | {str(params.get("read_default_group") or "client")}
    for path in _files(params):
        found.update(_options_in(path, groups, ()))
    return found


def is_on(value: str | None) -> bool:
    """Whether the value of a switch turns it on. One that stands alone does."""
    if value is None:
        return True
    number = re.match(r"[+-]?\d+", value)
    return int(number[0]) != 0 if number else value.lower() not in ("", "off", "false", "no")


def connect_timeout(params: Mapping[str, Any]) -> int | None:
    """The ``connect_timeout`` that the option files set; None where they set none."""
    given = options(params)
    for name in ("connect-timeout", "loose-connect-timeout", "timeout"):
        if name in given and (found := re.match(r"\d+", given[name].value or "")):
            return int(found[0])
    return None


def reconnecting(params: Mapping[str, Any]) -> str:
    """What switches on Connector/C's reconnect: an option file, or HOST. Empty if nothing does."""
    given = options(params)
    by_name = given.get("reconnect")
    if by_name is not None and is_on(by_name.value):
        return by_name.source
    # A string of options, as Connector/C takes it for a host and in a file.
    string = given.get("connection")
    if string is not None and _reconnects(string.value):
        return string.source
    return "HOST" if _reconnects(params.get("host")) else ""


def _reconnects(connection: Any) -> bool:
    found = re.search(r"(?:^|;)\s*reconnect\s*(?:=\s*([^;]*))?(?:;|$)", str(connection or ""))
    return found is not None and is_on(found[1])


def mentions_tls(params: Mapping[str, Any]) -> bool:
    """Whether the option file that PyMySQL reads with these parameters may have options for TLS."""
    path = params.get("read_default_file")
    if not path and params.get("read_default_group"):
        path = "c:\\my.ini" if sys.platform.startswith("win") else "/etc/my.cnf"
    return bool(path) and any("ssl" in line.lower() for line in _lines(path))


def _files(params: Mapping[str, Any]) -> list[Any]:
    path = params.get("read_default_file")
    if path:
        return [path]
    if sys.platform.startswith("win"):
        return [r"C:\Windows\my.ini", r"C:\my.ini", r"C:\Windows\my.cnf", r"C:\my.cnf"]
    home = os.environ.get("MARIADB_HOME") or os.environ.get("MYSQL_HOME")
    folders = ["/etc", "/etc/mysql", *([home] if home else [])]
    return [*(f"{folder}/my.cnf" for folder in folders), "~/.my.cnf"]


def _options_in(
    path: Any, groups: frozenset[str], outer: tuple[str, ...]
) -> Iterator[tuple[str, Option]]:
    """`outer`: the files that are being read and include this one."""
    group, files = "", (*outer, str(path))
    for line in map(str.strip, _lines(path)):
        if not line or line[0] in "#;":
            continue
        if included := _INCLUDE.match(line):
            for other in _included(included[1], included[2].strip()):
                # The lines of a file that includes itself are read all the same.
                if str(other) not in files and len(files) <= _DEEPEST:
                    yield from _options_in(other, groups, files)
        elif found := _GROUP.match(line):
            group = found[1].strip()
        elif group in groups:
            name, given, value = line.partition("=")
            value = value.strip()
            if value[:1] in ("'", '"'):
                value = value[1:].rstrip("'\"")
            yield (
                name.strip().replace("_", "-"),
                Option(value if given else None, os.fsdecode(path)),
            )


def _included(kind: str, where: str) -> list[Path]:
    if kind == "include":
        return [Path(where)]
    try:
        return sorted(path for path in Path(where).iterdir() if path.suffix in (".cnf", ".ini"))
    except OSError:
        return []


def _lines(path: Any) -> Iterator[str]:
    try:
        with Path(os.fsdecode(path)).expanduser().open(encoding="utf-8", errors="replace") as lines:
            yield from lines
    except (OSError, RuntimeError, TypeError, ValueError):
        return  # no such file, no home folder, or no path at all: the driver judges it
