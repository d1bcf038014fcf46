"""The documents say what the code has."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import django_mysql_recycle
from django_mysql_recycle.options import Options

from .rows import each

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
SETTINGS = (ROOT / "docs" / "settings.md").read_text()
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "example_project" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]

DEFAULTS = {field.name: repr(field.default) for field in fields(Options)}


def test_the_three_messages_are_in_the_first_lines_of_the_readme() -> None:
    first = "\n".join(README.splitlines()[:10])
    assert "2006, 'MySQL server has gone away'" in first
    assert "2013, 'Lost connection to MySQL server during query'" in first
    assert "4031, 'The client was disconnected by the server because of inactivity." in first


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len(README.split()) < 1200


def test_the_table_of_settings_is_that_of_the_code() -> None:
    table = SETTINGS.partition("\n## ")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", table, re.MULTILINE)) == DEFAULTS


def test_each_setting_is_described_in_one_shape_with_its_default() -> None:
    parts = re.split(r"^## `(\w+)`$", SETTINGS, flags=re.MULTILINE)[1:]
    described = dict(zip(parts[::2], parts[1::2], strict=True))
    assert list(described) == list(DEFAULTS)
    for name, text in described.items():
        assert f"- Default: `{DEFAULTS[name]}`" in text
        shape = re.findall(r"^- ([A-Z][\w ]+): ", text, re.MULTILINE)
        assert shape == ["Default", "Takes", "What it does", "When to set it", "Watch out"]


@each(DOCUMENTS)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_the_readme_names_only_what_the_package_has() -> None:
    for name in re.findall(r"django_mysql_recycle\.(\w+)\(", README):
        assert hasattr(django_mysql_recycle, name), name


def test_contributing_names_every_target_of_the_makefile() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    targets = set(phony[1].split()) - {"help"}
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert set(re.findall(r"`make ([a-z][\w-]*)", contributing)) == targets
    assert set(re.findall(r"`make ([a-z][\w-]*)", README)) <= targets


def test_the_readme_of_the_tests_names_every_integration_test() -> None:
    named = set(re.findall(r"`([a-z_]+)/?`", (ROOT / "tests" / "README.md").read_text()))
    folder = ROOT / "tests" / "integration"
    files = {path.stem for path in folder.glob("test_*.py")}
    files |= {path.parent.name for path in folder.glob("*/test_*.py")}
    assert files <= named
    missing = {name for name in named if re.fullmatch(r"test_\w{1,30}", name)} - files
    assert missing == set()
