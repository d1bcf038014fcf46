"""Every fenced block of every document runs, or is proven to fit what there is."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path

import pytest
from django.core.management.base import CommandError
from django.db import connections

from servers import Server
from tests.integration.admin import Admin

from .running import Names, check_diff, check_shell, run_python
from .snippets import ROOT, BadMark, documents, snippets

#: Nothing of these can be run: sessions as they were seen, pages, files of other programs.
SHOWN = {"text", "console", "html", "yaml", "nginx", "haproxy", "mermaid", "promql", "toml", "css"}
CHECKED = {"python", "diff", "sh", "ini", "json", "sql"}
COMMAND = re.compile(r"management/commands/(\w+)\.py$")


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", documents(), ids=page_id)
def test_blocks_of_a_page_run(path: Path, server: Server, admin: Admin) -> None:
    names: Names = {"__name__": "document"}
    blocks = list(snippets(path))
    commands = [name for block in blocks for name in COMMAND.findall(block.file)]
    for snippet in blocks:
        if snippet.language == "python":
            run_python(snippet, names, server)
        elif snippet.language == "diff":
            check_diff(snippet)
        elif snippet.language == "sh":
            check_shell(snippet, commands)
        elif snippet.language == "ini":
            configparser.ConfigParser(interpolation=None).read_string(snippet.text)
        elif snippet.language == "json":
            json.loads(snippet.text)
        elif snippet.language == "sql" and not snippet.skipped:
            with connections["default"].cursor() as cursor:
                for statement in filter(str.strip, snippet.text.split(";")):
                    cursor.execute(statement)


@pytest.mark.parametrize("path", documents(), ids=page_id)
def test_every_block_names_a_language_that_is_known(path: Path) -> None:
    for snippet in snippets(path):
        assert snippet.language in SHOWN | CHECKED, f"{snippet}: {snippet.language!r}"


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "recipes").glob("*.md")), ids=page_id)
def test_recipe_with_files_names_the_test_that_runs_them(path: Path) -> None:
    if any(snippet.file for snippet in snippets(path)):
        tests = re.findall(r"\]\(\.\./\.\./(tests/docs/recipes/test_\w+\.py)\)", path.read_text())
        assert tests
        page = path.stem.removeprefix("migrating-from-")  # these share one test
        assert any(f'"{page}"' in (ROOT / test).read_text() for test in tests)


def test_mark_that_is_misspelt_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- test: skipp because of haste -->\n```python\n1 / 0\n```\n")
    with pytest.raises(BadMark, match="skipp"):
        list(snippets(page))


def test_marks_and_lines_are_read(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\n"
        "<!-- test: setup\nx = 1\n-->\n<!-- test: raises ZeroDivisionError -->\n"
        "```python\nx / 0\n```\n\n"
        "- in a list:\n\n  ```sh\n  make test\n  ```\n"
    )
    first, second = snippets(page)
    assert (first.line, first.text, first.setup) == (8, "x / 0\n", "x = 1\n")
    assert first.raises == "ZeroDivisionError"
    assert (second.language, second.text) == ("sh", "make test\n")


def test_block_that_does_not_run_fails(tmp_path: Path, server: Server) -> None:
    page = tmp_path / "page.md"
    page.write_text('```python\n"OPTIONS": {"recycle": {"idel_limit": 240}},\n```\n')
    (snippet,) = snippets(page)
    with pytest.raises(Exception, match="unknown key 'idel_limit'"):
        run_python(snippet, {}, server)


@pytest.mark.parametrize(
    "line",
    [
        "make tea",
        "python -m nobody",
        "python manage.py nothing",
        "python manage.py migrate --sideways",
        "python manage.py loop --sideways",
        "pip install '.[oracle]'",
        "pytest tests/nowhere",
        "python scripts/nothing.py",
    ],
)
def test_shell_lines_that_name_what_is_not_there_fail(tmp_path: Path, line: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"```sh\nA=1 {line}  # a comment\n```\n")
    (snippet,) = snippets(page)
    with pytest.raises((AssertionError, CommandError)):
        check_shell(snippet)
