"""Finds dead links, dead anchors, and pages that no index names. Used by docs_check.py."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

from docs_pages import COMMENT, FENCE, Finding, line_of, without_code

_LINK = re.compile(
    r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(\s*<?([^\s()<>]*(?:\([^\s()]*\))?)>?[^)]*\)"
)
_REFERENCE = re.compile(r"^\[[^\]]+\]:\s+<?(\S+?)>?$", re.MULTILINE)
_TAG = re.compile(r'<(img|source|a)\b([^>]*?)\b(?:src|srcset|href)="([^" ]+)[^>]*>')
_AUTOLINK = re.compile(r"<(https?://[^>\s]+)>")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_ANCHOR = re.compile(r'<a +(?:id|name)="([^"]+)"')


def anchors_of(text: str) -> set[str]:
    """The anchors that GitHub makes for a page."""
    text = FENCE.sub("", text)
    anchors = set(_ANCHOR.findall(text))
    for heading in _HEADING.findall(text):
        slug = slug_of(heading)
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in anchors:
            number += 1
        anchors.add(name)
    return anchors


def slug_of(heading: str) -> str:
    """Lower case, without punctuation, with hyphens for blanks. Only the text of a link counts."""
    shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", COMMENT.sub("", heading))
    return re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")


def links_of(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Line, `!` for an image, text and target of every link."""
    plain = without_code(text)
    for found in _LINK.finditer(plain):
        line = line_of(plain, found.start())
        yield line, found[1], found[2], found[3]
        for inner in _LINK.finditer(found[2]):  # a picture that is a link
            yield line, inner[1], inner[2], inner[3]
    for found in _TAG.finditer(plain):
        image = "!" if found[1] == "img" else ""
        alt = re.search(r'\balt="([^"]*)"', found[0])
        yield line_of(plain, found.start()), image, alt[1] if alt else "", found[3]
    for pattern in (_REFERENCE, _AUTOLINK):
        for found in pattern.finditer(plain):
            yield line_of(plain, found.start()), "", "x", found[1]


def check_links(path: Path, root: Path) -> Iterator[Finding]:
    for line, image, text, target in links_of(path.read_text(encoding="utf-8")):
        if image and not text.strip():
            yield Finding(path, line, f"expected a text for the image {target}, found none")
        address = urlsplit(target)
        if address.scheme or target.startswith("//"):
            if address.scheme not in ("http", "https", "mailto") or not (
                address.netloc or address.path
            ):
                yield Finding(path, line, f"expected an address, found {target!r}")
            continue
        aim = path if not address.path else (path.parent / unquote(address.path)).resolve()
        if not aim.exists():
            yield Finding(path, line, f"expected a file, found a dead link to {target}")
        elif root not in aim.parents and aim != root:
            yield Finding(path, line, f"expected a file of the project, found {target}")
        elif address.fragment and aim.suffix == ".md":
            if address.fragment not in anchors_of(aim.read_text(encoding="utf-8")):
                yield Finding(path, line, f"expected a heading, found a dead anchor {target}")


def check_index(root: Path) -> Iterator[Finding]:
    """The index of each folder names every page of it, and the index above names the folder's.

    docs/index.rst, the index of the documentation site, names every page.
    """
    for index in sorted((root / "docs").rglob("README.md")):
        text = index.read_text(encoding="utf-8")
        targets = (target.partition("#")[0] for *_, target in links_of(text))
        named = {(index.parent / target).resolve() for target in targets}
        pages = {*index.parent.glob("*.md"), *index.parent.glob("*/README.md")} - {index}
        for page in sorted(pages):
            if page.resolve() not in named:
                yield Finding(index, 1, f"expected a line for {page.relative_to(root)}, found none")
    site = root / "docs" / "index.rst"
    if site.exists():
        listed = set(re.findall(r"^   ([\w/-]+)$", site.read_text(encoding="utf-8"), re.MULTILINE))
        for page in sorted((root / "docs").rglob("*.md")):
            name = str(page.relative_to(root / "docs").with_suffix(""))
            if name != "README" and name not in listed:
                yield Finding(site, 1, f"expected a line for {name}, found none")


def external(paths: Sequence[Path]) -> dict[str, tuple[Path, int]]:
    """The addresses that the documents name, and where they are named first."""
    found: dict[str, tuple[Path, int]] = {}
    for path in paths:
        for line, _, _, target in links_of(path.read_text(encoding="utf-8")):
            if target.startswith("http") and "//127.0.0.1" not in target:
                found.setdefault(target.partition("#")[0], (path, line))
    return found


def check_online(paths: Sequence[Path]) -> Iterator[Finding]:
    for address, (path, line) in external(paths).items():
        request = urllib.request.Request(address, headers={"User-Agent": "docs-check"})
        try:
            with urllib.request.urlopen(request, timeout=15):
                pass
        except HTTPError as error:
            if error.code in (404, 410):
                yield Finding(path, line, f"expected a page, found {error.code} at {address}")
        except OSError as error:
            yield Finding(path, line, f"expected an answer from {address}, found {error}")
