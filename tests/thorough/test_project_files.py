"""What is shipped, built and read as its users do."""

from __future__ import annotations

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
    assert metadata.get_all("Provides-Extra") == ["mysqlclient", "pymysql"]


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
