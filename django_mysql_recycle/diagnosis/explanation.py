"""``manage.py mysql_recycle --explain ID``: what a check or a finding says, without a network.

The text of a system check is that of docs/checks.md, which is a part of the installed package.
"""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import wrap

from .kinds import CONNECT_HINTS, KINDS

__all__ = ["explained", "ids"]

_HERE = Path(__file__).parent
#: In an installed package, and in a clone.
_PAGES = (_HERE / "checks.md", _HERE.parents[1] / "docs" / "checks.md")

_CHECK = re.compile(
    r"^### `django_mysql_recycle\.(\w+)`\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")


def ids() -> list[str]:
    """Everything that can be explained."""
    return [*_checks(), *KINDS, *map(str, CONNECT_HINTS)]


def explained(name: str, width: int) -> str | None:
    """The explanation of a check, of a finding, or of a number with which connecting fails.

    None if there is none. `name`: with or without ``django_mysql_recycle.``.
    """
    name = name.removeprefix("django_mysql_recycle.")
    checks = _checks()
    if name.upper() in checks:
        name = name.upper()
        paragraphs = [" ".join(part.split()) for part in checks[name].strip().split("\n\n")]
    elif name.lower() in KINDS:
        name = name.lower()
        kind = KINDS[name]
        paragraphs = [f"What it says ({kind.level}). {kind.about}.", f"What to do. {kind.hint}"]
    elif name.isdigit() and int(name) in CONNECT_HINTS:
        paragraphs = [f"What to do if connecting fails with it. {CONNECT_HINTS[int(name)]}"]
    else:
        return None
    texts = (_LINK.sub(r"\1", part).replace("**", "").replace("`", "") for part in paragraphs)
    return "\n\n".join(
        [name, *("\n".join(wrap(text, width, break_on_hyphens=False)) for text in texts)]
    )


def _checks() -> dict[str, str]:
    for page in _PAGES:
        if page.exists():
            return dict(_CHECK.findall(page.read_text(encoding="utf-8")))
    return {}
