"""The files in .github name what there is, and let nothing in that is not pinned."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def content(path: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def commands(path: Path) -> str:
    steps = (step for job in content(path)["jobs"].values() for step in job.get("steps", ()))
    return "\n".join(step.get("run", "") for step in steps)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_say_their_version(path: Path) -> None:
    for line in re.findall(r"uses: (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE):
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_jobs_may_read_and_nothing_more_unless_they_publish(path: Path) -> None:
    workflow = content(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        allowed = {"id-token": "write"} if name == "publish" else None
        assert job.get("permissions") == allowed, name
        assert job["timeout-minutes"] <= 90, name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_commands_name_targets_sessions_and_programs_that_exist(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    sessions = re.findall(
        r"^@nox\.session.*?^def (\w+)",
        (ROOT / "noxfile.py").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    run = commands(path)
    for target in re.findall(r"^make ([a-z][\w-]*)", run, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for session in re.findall(r"\bnox -s (\w+)", run):
        assert session in sessions, session
    for program in re.findall(r"(?<![\w/])((?:scripts|\.ci)/[\w./]+)", run):
        assert (ROOT / program).exists(), program


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_issue_forms_name_documents_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"\b(?:docs/[\w/-]+|[A-Z]+)\.md\b", text):
        assert (ROOT / name).exists(), name
    if path.stem != "config":
        fields = [part for part in content(path)["body"] if part["type"] != "markdown"]
        assert len({field["id"] for field in fields}) == len(fields)


def test_matrix_has_every_supported_python_and_django_and_server() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pythons = set(re.findall(r"Python :: (3\.\d+)", project))
    djangos = set(re.findall(r"Django :: (\d\.\d)", project))
    jobs = content(ROOT / ".github" / "workflows" / "matrix.yml")["jobs"]
    rows = jobs["core"]["strategy"]["matrix"]["include"]
    # Django 6.0 dropped Python 3.10 and 3.11.
    assert {(row["python"], row["django"]) for row in rows} == {
        (python, django)
        for python in pythons
        for django in djangos
        if django == "5.2" or python not in ("3.10", "3.11")
    }
    assert {(row["mariadb"], row["debian"]) for row in rows} == {
        ("10.11", "bookworm"),
        ("11.8", "trixie"),
    }
    for django in djangos:
        assert len({row["mariadb"] for row in rows if row["django"] == django}) == 2
    assert "--libmysqlclient" in commands(ROOT / ".github" / "workflows" / "matrix.yml")


def test_page_of_support_names_what_the_matrix_has() -> None:
    page = (ROOT / "docs" / "support.md").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    djangos = re.findall(r"Django :: (\d\.\d)", project)
    pythons = re.findall(r"Python :: (3\.\d+)", project)
    assert f"| Django | {', '.join(djangos)} |" in page
    assert f"| Python | {pythons[0]} to {pythons[-1]}," in page
    for row in content(ROOT / ".github" / "workflows" / "matrix.yml")["jobs"]["core"]["strategy"][
        "matrix"
    ]["include"]:
        assert row["mariadb"] in page
