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
