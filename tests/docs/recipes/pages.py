"""The code in the pages: each fenced block that begins with a comment naming its file, each command."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

RECIPES = Path(__file__).resolve().parents[3] / "docs" / "recipes"

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"# ([\w./-]+\.\w+)\n")


def text(page: str) -> str:
    return (RECIPES / f"{page}.md").read_text()


def files(page: str) -> dict[str, str]:
    """The page's files: `# mysite/celery.py` in the first line of a block is its path."""
    found: dict[str, str] = {}
    for _, code in _BLOCK.findall(text(page)):
        if named := _NAME.match(code):
            assert named[1] not in found, f"{page}.md has {named[1]} twice"
            found[named[1]] = code
    return found


def command(page: str, beginning: str, **values: object) -> list[str]:
    """The page's one command line that begins so; `port=` and the like replace `--port 8000`."""
    lines = [
        line
        for language, code in _BLOCK.findall(text(page))
        if language == "sh"
        for line in code.splitlines()
        if line.startswith(beginning)
    ]
    assert len(lines) == 1, f"{page}.md: {len(lines)} commands begin with {beginning!r}"
    words = shlex.split(lines[0], comments=True)
    for name, value in values.items():
        words[words.index(f"--{name}") + 1] = str(value)
    return words
