"""Finds wrong numbers, wrong versions, and generated pages that are not up to date.

Used by docs_check.py.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from docs_pages import FENCE, Finding, line_of, without_code

#: Pages that a command writes, in whole or in part, from recorded results, and that command.
GENERATED = {
    "docs/comparison.md": "tests.comparison",
    "docs/fault-matrix.md": "tests.fault_matrix",
    "docs/performance.md": "benchmarks.report",
}

_QUOTED = re.compile(r"(-?\d[\d,]*(?:\.\d+)?)[^\d<>\n]*<!-- (from|count): ([^>]*?) -->")
_MARK = re.compile(r"<!-- (?:from|count): ")
_DEFAULT = re.compile(r"`(\w+)`(?: \(|, )(\d+(?:\.\d+)?)(?: s\b|\))")
#: A path, whose conditions may contain spaces, and a format such as .2f.
_PATH = re.compile(r"(.*?)(?: ([,.\d]+[a-z%]?))?")
_STEP = re.compile(r"([^.\[\]]+)|\[([^\]]*)\]")


def check_numbers(path: Path, root: Path) -> Iterator[Finding]:
    text = FENCE.sub(
        lambda found: re.sub(r"[^\n]", " ", found[0]), path.read_text(encoding="utf-8")
    )
    read = 0
    for found in _QUOTED.finditer(text):
        read += 1
        line, shown = line_of(text, found.start()), found[1].replace(",", "")
        try:
            expected = quoted(found[3], root) if found[2] == "from" else str(count(found[3], root))
        except (LookupError, OSError, ValueError) as error:
            yield Finding(path, line, f"expected a recorded number, found {found[3]!r}: {error!r}")
            continue
        if shown != expected:
            yield Finding(path, line, f"expected {expected} ({found[3]}), found {found[1]}")
    if read != len(_MARK.findall(text)):
        yield Finding(path, 1, "expected a number before each mark, found a mark without one")


def quoted(source: str, root: Path) -> str:
    """The value that `file.json path [format]` names, formatted as in the document."""
    name, path = source.split(maxsplit=1)
    steps, shape = _PATH.fullmatch(path).groups()  # type: ignore[union-attr] # matches anything
    value: Any = json.loads((root / name).read_text(encoding="utf-8"))
    for key, condition in _STEP.findall(steps):
        if condition:
            wanted = dict(pair.split("=", 1) for pair in condition.split(","))
            (value,) = [row for row in value if all(str(row[k]) == v for k, v in wanted.items())]
        else:
            value = value[int(key)] if isinstance(value, list) else value[key]
    return format(value, shape) if shape else str(value)


def count(what: str, root: Path) -> int:
    """How many settings, system checks, recipes or tests there are."""
    if what == "settings":
        return len(defaults(root)) - 1  # connect_timeout is the driver's
    if what == "checks":
        text = (root / "docs" / "checks.md").read_text(encoding="utf-8")
        return len(set(re.findall(r"django_mysql_recycle\.[EWI]\d{3}", text)))
    if what == "recipes":
        return len(list((root / "docs" / "recipes").glob("*.md")))
    if what == "tests":
        found = (path.read_text(encoding="utf-8") for path in (root / "tests").rglob("test_*.py"))
        return sum(
            len(re.findall(r"^ *(?:async )?def test_", text, re.MULTILINE)) for text in found
        )
    raise ValueError("expected settings, checks, recipes or tests")


def defaults(root: Path) -> dict[str, Any]:
    """The settings with their defaults, and the default of ``connect_timeout``."""
    text = (root / "django_mysql_recycle" / "options.py").read_text(encoding="utf-8")
    found: dict[str, Any] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and node.name == "Options":
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    assert field.value is not None
                    found[field.target.id] = ast.literal_eval(field.value)
    constant = re.search(r"^DEFAULT_CONNECT_TIMEOUT = (\d+)$", text, re.MULTILINE)
    return {**found, "connect_timeout": int(constant[1]) if constant else None}


def check_defaults(path: Path, root: Path) -> Iterator[Finding]:
    """A default that the text mentions: `ping_timeout` (5 s), or `ping_timeout`, 5 s."""
    text = path.read_text(encoding="utf-8")
    known = defaults(root)
    for found in _DEFAULT.finditer(text):
        expected = known.get(found[1])
        if isinstance(expected, (int, float)) and float(found[2]) != expected:
            line = line_of(text, found.start())
            yield Finding(path, line, f"expected `{found[1]}` {expected}, found {found[2]}")


def check_versions(paths: Sequence[Path], root: Path) -> Iterator[Finding]:
    """The documents name the same versions as pyproject.toml."""
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    asked = {
        "Python": re.search(r'^requires-python = ">=([\d.]+)"', project, re.MULTILINE),
        "Django": re.search(r'"django>=([\d.]+)"', project),
        "mysqlclient": re.search(r'"mysqlclient>=([\d.]+)"', project),
        "PyMySQL": re.search(r'^pymysql = \["PyMySQL>=([\d.]+)"', project, re.MULTILINE),
    }
    sentence = re.compile(
        r"\b(Python|Django|mysqlclient|PyMySQL) (\d[\d.]*\d)(?=[^.\n]*\bor later)"
    )
    for path in paths:
        text = without_code(path.read_text(encoding="utf-8"))
        for found in sentence.finditer(text):
            expected = asked[found[1]]
            if expected is not None and expected[1] != found[2]:
                where = line_of(text, found.start())
                yield Finding(path, where, f"expected {found[1]} {expected[1]}, found {found[2]}")
    version = re.search(r'^version = "([^"]+)"', project, re.MULTILINE)
    changes = root / "CHANGELOG.md"
    released = re.findall(r"^## \[(\d[^\]]*)\]", changes.read_text(encoding="utf-8"), re.MULTILINE)
    if version and released and released[0] != version[1]:
        yield Finding(changes, 1, f"expected {version[1]} first, found {released[0]}")


def check_generated(root: Path) -> Iterator[Finding]:
    """Ask each generator whether its page matches the recorded results."""
    for page, module in GENERATED.items():
        if not (root / page).exists():
            yield Finding(root / page, 1, f"expected what python -m {module} writes, found no file")
            continue
        asked = subprocess.run(
            [sys.executable, "-m", module, "--check"],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if asked.returncode:
            said = (asked.stdout.strip().splitlines() or ["nothing"])[-1]
            yield Finding(root / page, 1, f"expected what python -m {module} makes: {said}")
