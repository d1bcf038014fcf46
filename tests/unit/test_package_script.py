"""scripts/package.py refuses a tag that is not the version of the project."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
versions_differ = runpy.run_path(str(ROOT / "scripts" / "package.py"))["versions_differ"]

PROJECT = '[project]\nversion = "0.1.0"\n'
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - 2026-12-01\n\n## [0.0.9] - 2026-11-01\n"


def test_tag_of_the_version_of_project_and_changelog_is_accepted() -> None:
    assert versions_differ("v0.1.0", PROJECT, CHANGELOG) == ""


@pytest.mark.parametrize(
    ("tag", "project", "changelog"),
    [
        ("v0.1.1", PROJECT, CHANGELOG),
        ("0.1.0", PROJECT, CHANGELOG),
        ("v0.1.0", PROJECT.replace("0.1.0", "0.2.0"), CHANGELOG),
        ("v0.1.0", PROJECT, CHANGELOG.replace("0.1.0", "0.2.0")),
        ("v0.1.0", PROJECT, "## [Unreleased]\n"),
        ("v0.1.0", PROJECT, CHANGELOG.replace(" - 2026-12-01", "")),
    ],
)
def test_any_other_tag_is_refused(tag: str, project: str, changelog: str) -> None:
    assert versions_differ(tag, project, changelog).startswith("expected one version")


def test_this_version_has_an_entry_with_a_date_and_upgrade_notes() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = project.partition('version = "')[2].partition('"')[0]
    assert versions_differ(f"v{version}", project, changelog) == ""
    entry = changelog.partition(f"## [{version}]")[2].partition("\n## ")[0]
    assert "\n### Upgrade notes\n" in entry
