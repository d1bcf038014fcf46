"""The fenced blocks of the documents, and the marks that stand before them.

A mark is an HTML comment on the lines right before the fence, so that no reader sees it:

    <!-- test: skip-run because REASON -->     Python that cannot run here is only compiled
    <!-- test: own process -->                 it runs in a fresh interpreter
    <!-- test: raises SomeError -->            the block ends with this exception
    <!-- test: setup
    what_the_reader_has = ...
    -->                                        runs before the block, in the same namespace
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(
    r"(?P<marks>(?:^<!-- test: (?:(?!-->).)*-->\n+)*)"
    r"^(?P<indent> *)```(?P<language>[\w+-]*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_MARK = re.compile(r"^<!-- test: (.*?)-->", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+\.\w+)\n")
_MARKS = ("skip-run because ", "own process", "raises ", "setup\n")


class BadMark(Exception):
    """A mark that says nothing that this module knows."""


@dataclass(frozen=True)
class Snippet:
    """One fenced block."""

    path: Path
    line: int  #: of the first line inside the fence
    language: str
    text: str
    skipped: str = ""  #: why it is not run
    own_process: bool = False
    raises: str = ""
    setup: str = ""
    setup_line: int = 0

    def __str__(self) -> str:
        root = ROOT if ROOT in self.path.parents else self.path.parent
        return f"{self.path.relative_to(root)}:{self.line}"

    @property
    def file(self) -> str:
        """The file that a block of a recipe is, by the comment in its first line.

        The recipe's own test writes it into a project and runs programs there.
        """
        named = _FILE.match(self.text) if self.path.parent.name == "recipes" else None
        return named[1] if named else ""


def documents() -> list[Path]:
    """Every document that users read."""
    return [
        *sorted(ROOT.glob("*.md")),
        ROOT / "example_project" / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]


def snippets(path: Path) -> Iterator[Snippet]:
    """The fenced blocks of one document, in order."""
    text = path.read_text(encoding="utf-8")
    for fence in _FENCE.finditer(text):
        indent = len(fence["indent"])
        body = "".join(line[indent:] or "\n" for line in fence["text"].splitlines(keepends=True))
        found: dict[str, object] = {}
        for mark in _MARK.finditer(fence["marks"]):
            line = text.count("\n", 0, fence.start() + mark.start()) + 1
            found.update(_read(mark[1], f"{path.name}:{line}", line))
        yield Snippet(
            path=path,
            line=text.count("\n", 0, fence.start("text")) + 1,
            language=fence["language"],
            text=body,
            **found,  # type: ignore[arg-type]
        )


def _read(mark: str, where: str, line: int) -> dict[str, object]:
    if mark.startswith("skip-run because "):
        return {"skipped": mark.removeprefix("skip-run because ").strip()}
    if mark.strip() == "own process":
        return {"own_process": True}
    if mark.startswith("raises "):
        return {"raises": mark.removeprefix("raises ").strip()}
    if mark.startswith("setup\n"):
        return {"setup": mark.removeprefix("setup\n"), "setup_line": line + 1}
    raise BadMark(f"{where}: expected one of {_MARKS}, got {mark!r}")
