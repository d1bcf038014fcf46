"""What is shipped, built and read as its users do."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

from servers.docker import COMPOSE_FILE
from servers.machine import find_program

ROOT = COMPOSE_FILE.parent


def build(kind: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (built,) = folder.iterdir()
    return built


def test_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(build("wheel", tmp_path)) as wheel:
        names = wheel.namelist()
        metadata = message_from_bytes(
            wheel.read(next(name for name in names if name.endswith("/METADATA")))
        )
    assert {name.partition("/")[0] for name in names} == {
        "django_mysql_recycle",
        "django_mysql_recycle-0.1.0.dist-info",
    }
    packaged = {name for name in names if name.startswith("django_mysql_recycle/")}
    listed = subprocess.run(
        ["git", "ls-files", "django_mysql_recycle"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert {"django_mysql_recycle/py.typed", *listed.stdout.split()} <= packaged
    required = metadata.get_all("Requires-Dist") or []
    assert [name for name in required if "extra ==" not in name] == ["django>=5.2"]
    assert {"mysqlclient", "pymysql"} <= {*(metadata.get_all("Provides-Extra") or [])}


def test_links_of_the_long_description_lead_to_the_repository(tmp_path: Path) -> None:
    with zipfile.ZipFile(build("wheel", tmp_path)) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
        metadata = message_from_bytes(wheel.read(name))
    text = metadata.get_payload()
    assert isinstance(text, str)
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL") or [])
    targets = re.findall(r"\]\(([^)]+)\)|\b(?:src|srcset)=\"([^\"]+)\"", text)
    assert len(targets) > 20
    for target in map("".join, targets):
        assert target.startswith(("https://", "#")), target
        kind, path = re.subn(r"^.*?/(?:blob|raw)/v[\d.]+/", "", target)[::-1]
        if target.startswith(urls["Source"]):
            assert kind, target
            assert (ROOT / path.partition("#")[0]).exists(), target


def test_addresses_of_the_project_are_those_of_its_metadata() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    urls = dict(re.findall(r'^(\w+) = "(https://[^"]+)"$', project, re.MULTILINE))
    assert {"Documentation", "Source", "Issues", "Changelog"} <= urls.keys()
    known = tuple(urls.values())
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    ours = re.compile(
        r"https://[\w.]*(?:github\.com/django-mysql|django-mysql-recycle\.)[^\s\"')>\]]*"
    )
    for name in listed.stdout.split():
        path = ROOT / name
        if path.suffix in (".md", ".py", ".toml", ".yml", ".yaml", ".rst", ".html"):
            for address in ours.findall(path.read_text(encoding="utf-8")):
                assert address.startswith(known), f"{name}: {address}"


def test_source_distribution_holds_what_the_tests_need(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path)) as archive:
        folders = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert {"django_mysql_recycle", "servers", "tests", "LICENSE", "README.md"} <= folders
    # The unit tests hold these to the code.
    assert {"docs", "example_project", "scripts", "Makefile", "CONTRIBUTING.md"} <= folders


def test_compose_accepts_its_file() -> None:
    """Where there is a Compose, it does; tests/unit/test_compose.py holds the file to its structure."""
    docker, separate = find_program("docker"), find_program("docker-compose")
    commands = [*([[docker, "compose"]] if docker else []), *([[separate]] if separate else [])]
    for command in commands:
        if subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0:
            subprocess.run([*command, "-f", str(COMPOSE_FILE), "config", "--quiet"], check=True)
