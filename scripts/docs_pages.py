"""The documents of this project, and the findings in them. Used by docs_check.py."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


class Finding(NamedTuple):
    """Something in a document that is wrong."""

    path: Path
    line: int
    text: str


def documents(root: Path) -> list[Path]:
    """Every document that users read."""
    others = ("*.md", "*/README.md")
    found = [path for pattern in others for path in sorted(root.glob(pattern))]
    return list(dict.fromkeys([*found, *sorted((root / "docs").rglob("*.md"))]))


def without_code(text: str) -> str:
    """The text with code and comments replaced by blanks. The line numbers stay the same."""

    def blank(found: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", found[0])

    text = COMMENT.sub(blank, FENCE.sub(blank, text))
    # Not a blank, because the text of a link may be code.
    return _CODE.sub(lambda found: re.sub(r"[^\n]", "x", found[0]), text)


def line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
