"""What `make docs-check` finds, on small projects that have one thing wrong."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

PYPROJECT = """\
[project]
version = "0.1.0"
requires-python = ">=3.10"
dependencies = ["django>=5.2"]

[project.optional-dependencies]
mysqlclient = ["mysqlclient>=2.2.1"]
pymysql = ["PyMySQL>=1.2"]
"""
OPTIONS = '''\
DEFAULT_CONNECT_TIMEOUT = 10


class Options:
    """Two settings."""

    one: int = 1
    two: int = 2
'''


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script("docs_links", monkeypatch)


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script("docs_numbers", monkeypatch)


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))  # as if scripts/docs_check.py were run
    yielded = importlib.import_module(name)
    assert name in sys.modules
    return yielded


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose documents are in order."""
    files = {
        "pyproject.toml": PYPROJECT,
        "CHANGELOG.md": "# Changelog\n\n## [Unreleased]\n",
        "README.md": "# Here\n\nNeeds Python 3.10 or later.\n",
        "docs/README.md": "# Index\n\n- [a page](page.md)\n",
        "docs/page.md": "# A page\n\n## It's `here`, twice!\n\n## It's `here`, twice!\n",
        "django_mysql_recycle/options.py": OPTIONS,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def found(module: ModuleType, project: Path, text: str) -> list[str]:
    """What is found in a README with this text, as `line: text`."""
    path = project / "README.md"
    path.write_text(text)
    check = getattr(module, "check_links", None) or module.check_numbers
    return [f"{line}: {reported}" for _, line, reported in check(path, project)]


def test_links_that_lead_somewhere_are_no_finding(links: ModuleType, project: Path) -> None:
    text = (
        "[page](docs/page.md), [`here`](docs/page.md#its-here-twice), "
        "[again](docs/page.md#its-here-twice-1), [folder](docs), <https://example.org/a>,\n"
        "[out](https://example.org/x_(y)), [self](#a-heading)\n\n## A heading\n"
    )
    assert found(links, project, text) == []


def test_dead_link_is_found(links: ModuleType, project: Path) -> None:
    reported = found(links, project, "# Here\n\n[gone](docs/gone.md)\n")
    assert reported == ["3: expected a file, found a dead link to docs/gone.md"]


def test_dead_image_and_image_without_a_text_are_found(links: ModuleType, project: Path) -> None:
    reported = found(links, project, "![](docs/page.md)\n![a picture](docs/gone.png)\n")
    assert reported == [
        "1: expected a text for the image docs/page.md, found none",
        "2: expected a file, found a dead link to docs/gone.png",
    ]


def test_dead_anchor_is_found(links: ModuleType, project: Path) -> None:
    reported = found(links, project, "[x](docs/page.md#its-there)\n[y](#nowhere)\n")
    assert reported == [
        "1: expected a heading, found a dead anchor docs/page.md#its-there",
        "2: expected a heading, found a dead anchor #nowhere",
    ]


def test_pictures_in_links_and_tags_are_followed(links: ModuleType, project: Path) -> None:
    text = '[![a](docs/gone.png)](docs/page.md)\n<img alt="" src="docs/page.md">\n<a href="gone">x</a>\n'
    assert found(links, project, text) == [
        "1: expected a file, found a dead link to docs/gone.png",
        "2: expected a text for the image docs/page.md, found none",
        "3: expected a file, found a dead link to gone",
    ]


def test_link_out_of_the_project_is_found(links: ModuleType, project: Path) -> None:
    (reported,) = found(links, project, "[x](../)\n")
    assert "expected a file of the project" in reported


def test_address_that_is_none_is_found(links: ModuleType, project: Path) -> None:
    assert found(links, project, "[x](htp://example.org)\n") == [
        "1: expected an address, found 'htp://example.org'"
    ]


def test_what_only_looks_like_a_link_is_none(links: ModuleType, project: Path) -> None:
    text = "`[x](gone.md)`\n\n```text\n[y](gone.md)\n```\n\n<!-- [z](gone.md) -->\n"
    assert found(links, project, text) == []


def test_page_that_no_index_names_is_found(links: ModuleType, project: Path) -> None:
    def reported() -> list[str]:
        return [finding.text for finding in links.check_index(project)]

    assert reported() == []
    (project / "docs" / "new.md").write_text("# New\n")
    folder = project / "docs" / "folder"
    folder.mkdir()
    (folder / "README.md").write_text("# Folder\n\n[one](one.md)\n")
    (folder / "one.md").write_text("# One\n")
    (folder / "two.md").write_text("# Two\n")
    assert reported() == [
        "expected a line for docs/folder/README.md, found none",
        "expected a line for docs/new.md, found none",
        "expected a line for docs/folder/two.md, found none",
    ]


def test_page_that_the_index_of_the_site_does_not_name_is_found(
    links: ModuleType, project: Path
) -> None:
    index = project / "docs" / "index.rst"
    index.write_text(".. toctree::\n\n   other\n")
    received = [finding.text for finding in links.check_index(project)]
    assert received == ["expected a line for page, found none"]
    index.write_text(".. toctree::\n\n   page\n")
    assert list(links.check_index(project)) == []


def test_quoted_number_that_was_recorded_is_no_finding(numbers: ModuleType, project: Path) -> None:
    rows = [{"case": "a", "ratio": {"median": 1.0149}}, {"case": "b", "ratio": {"median": 7}}]
    (project / "results.json").write_text(json.dumps({"rows": rows, "n": [12345]}))
    text = (
        "ratio 1.01 <!-- from: results.json rows[case=a].ratio.median .2f -->,"
        " 7 us <!-- from: results.json rows.1.ratio.median -->,"
        " 12,345 rows <!-- from: results.json n.0 -->, 2 settings <!-- count: settings -->\n"
    )
    assert found(numbers, project, text) == []


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        (
            "\n1.2 <!-- from: results.json ratio .2f -->",
            "2: expected 1.01 (results.json ratio .2f), found 1.2",
        ),
        ("3 settings <!-- count: settings -->", "1: expected 2 (settings), found 3"),
    ],
)
def test_stale_number_is_found(
    numbers: ModuleType, project: Path, text: str, reported: str
) -> None:
    (project / "results.json").write_text(json.dumps({"ratio": 1.0149}))
    assert found(numbers, project, text) == [reported]


def test_default_that_is_none_is_found(numbers: ModuleType, project: Path) -> None:
    page = project / "docs" / "page.md"
    page.write_text(
        "`one` (1 s), `two`, 2 s, `three` (7 s)\n\n`two` (3 s); `connect_timeout`, 9 s\n"
    )
    reported = [(line, text) for _, line, text in numbers.check_defaults(page, project)]
    assert reported == [
        (3, "expected `two` 2, found 3"),
        (3, "expected `connect_timeout` 10, found 9"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "1 <!-- from: gone.json a -->",
        "1 <!-- from: results.json b -->",
        "1 <!-- count: sheep -->",
        "none <!-- count: settings -->",
    ],
)
def test_number_without_a_source_is_found(numbers: ModuleType, project: Path, text: str) -> None:
    (project / "results.json").write_text("{}")
    (reported,) = found(numbers, project, text)
    assert "expected a " in reported


def test_version_that_differs_from_the_project_is_found(numbers: ModuleType, project: Path) -> None:
    readme = project / "README.md"
    assert list(numbers.check_versions([readme], project)) == []
    readme.write_text("# Here\n\nNeeds Python 3.9 or later, mysqlclient 2.2.1 or later.\n")
    (finding,) = numbers.check_versions([readme], project)
    assert (finding.line, finding.text) == (3, "expected Python 3.10, found 3.9")
    changes = project / "CHANGELOG.md"
    changes.write_text("# Changelog\n\n## [0.2.0] - 2026-01-01\n\n## [0.1.0]\n")
    (finding,) = numbers.check_versions([], project)
    assert finding.text == "expected 0.1.0 first, found 0.2.0"


@pytest.mark.parametrize(("status", "findings"), [(0, 0), (1, 1)])
def test_generated_page_is_what_its_generator_says(
    numbers: ModuleType,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    findings: int,
) -> None:
    (project / "maker.py").write_text(f"print('stale')\nraise SystemExit({status})\n")
    monkeypatch.setattr(numbers, "GENERATED", {"docs/page.md": "maker"})
    reported = list(numbers.check_generated(project))
    assert len(reported) == findings
    assert all(finding.text.endswith("stale") for finding in reported)


def test_generated_page_that_is_not_there_is_found(
    numbers: ModuleType, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers, "GENERATED", {"docs/gone.md": "maker"})
    (finding,) = numbers.check_generated(project)
    assert "found no file" in finding.text
