"""The documentation site, made of the Markdown in this folder: `nox -s docs`.

The pages are written to be read in the repository as well. What the two need differently is done
here, while a page is read: links that lead out of this folder, anchors, and languages of blocks.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

import tomllib

ROOT = Path(__file__).resolve().parent.parent
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: The files of the repository at the tag of this version, or at the commit that is built.
_FILES = (
    f"{_PROJECT['urls']['Source']}/blob/{os.environ.get('READTHEDOCS_GIT_COMMIT_HASH') or 'main'}"
)

project = _PROJECT["name"]
author = _PROJECT["authors"][0]["name"]
version = release = _PROJECT["version"]
html_title = f"{project} {version}"
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL") or _PROJECT["urls"]["Documentation"]

extensions = ["myst_parser"]
# index.rst takes the place of the index that the repository shows.
exclude_patterns = ["README.md"]
# GitHub makes an anchor for headings of every level.
myst_heading_anchors = 6
html_theme = "furo"
html_copy_source = False
html_theme_options = {
    "source_repository": _PROJECT["urls"]["Source"],
    "source_branch": "main",
    "source_directory": "docs/",
}

_FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)")
_ANCHOR = re.compile(r'^<a id="([^"]+)"></a>$', re.MULTILINE)
_HEADING = re.compile(r"^#{2,3} (.+)$", re.MULTILINE)
_CHECK = re.compile(r"`django_mysql_recycle\.([EWI]\d{3})`")
_NUMBER = re.compile(r"\b\d{4}\b")
#: Languages that Pygments does not know.
_NOT_HIGHLIGHTED = re.compile(r"^( *```)(?:haproxy|mermaid)$", re.MULTILINE)


def addresses(docname: str, heading: str) -> list[str]:
    """The anchors of a heading that the package names in its messages: they never change."""
    if docname == "checks":
        return [code.lower() for code in _CHECK.findall(heading)]
    if docname == "troubleshooting":
        return [f"error-{number}" for number in _NUMBER.findall(heading)]
    return []


def adapted(docname: str, text: str) -> str:
    """A page of the repository as a page of the site."""
    folder = posixpath.dirname(docname)

    def link(found: re.Match[str]) -> str:
        text, path, anchor = found[1], found[2], found[3] or ""
        target = posixpath.normpath(posixpath.join("docs", folder, path))
        if target == "docs/README.md":
            return f"[{text}]({posixpath.relpath('index.rst', folder or '.')})"
        if target.startswith("docs/") and (ROOT / target).is_file():
            # A link that is named like its file gets the title of the page or of the heading.
            return f"[{'' if text == posixpath.basename(path) else text}]({path}{anchor})"
        return f"[{text}]({_FILES}/{target}{anchor})"

    def heading(found: re.Match[str]) -> str:
        targets = "".join(f"({name})=\n" for name in addresses(docname, found[1]))
        return targets + found[0]

    def outside(part: str) -> str:
        part = _HEADING.sub(heading, _LINK.sub(link, part))
        return _ANCHOR.sub(r"(\1)=", part)

    parts, end = [], 0
    for fence in _FENCE.finditer(text):
        parts += [outside(text[end : fence.start()]), _NOT_HIGHLIGHTED.sub(r"\1text", fence[0])]
        end = fence.end()
    return "".join([*parts, outside(text[end:])])


def _adapt(app: Any, docname: str, source: list[str]) -> None:  # noqa: ARG001 - Sphinx's signature
    source[0] = adapted(docname, source[0])


def setup(app: Any) -> None:
    app.connect("source-read", _adapt)
