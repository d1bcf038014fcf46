"""What is installed on a developer's machine: asked for, found, counted and removed."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from servers import NotAvailable, apt, consent, netns
from servers.__main__ import main
from servers.apt import Release

ROOT = Path(__file__).resolve().parents[2]

MIRROR = "http://mirror/debian"
SID = Release("sid", "unstable", MIRROR)
TRIXIE = Release("trixie", "stable", MIRROR)
UPDATES = Release("trixie-updates", "stable-updates", "http://other/debian")
SECURITY = Release("trixie-security", "stable-security", "http://security/debian")
NOBLE = Release("noble", "noble", "http://ubuntu/ubuntu")


@pytest.fixture(autouse=True)
def _without_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YES", "")


@pytest.mark.parametrize(
    ("codename", "sources", "found"),
    [
        ("trixie", [SECURITY, UPDATES, TRIXIE], TRIXIE),
        ("trixie", [SID, TRIXIE], TRIXIE),
        # Debian unstable: os-release has the name of the release to come.
        ("forky", [SID], SID),
        ("", [SID], SID),
        ("noble", [NOBLE], NOBLE),
        ("bookworm", [TRIXIE], None),
        ("trixie", [], None),
    ],
)
def test_release_of_the_machine_is_found_among_its_package_sources(
    codename: str, sources: list[Release], found: Release | None
) -> None:
    assert apt.own_release(codename, sources) == found


@pytest.mark.parametrize(
    ("said", "phrase"),
    [
        (
            "0 upgraded, 57 newly installed, 0 to remove.\nNeed to get 61 MB of archives.\n"
            "After this operation, 370 MB of additional disk space will be used.\n",
            "57 packages, 370 MB",
        ),
        ("0 upgraded, 1 newly installed, 0 to remove.\n", "1 packages"),
        ("E: Unable to locate package x\n", ""),
    ],
)
def test_size_of_an_installation_is_what_apt_says(said: str, phrase: str) -> None:
    assert apt.size_of(said) == phrase


def test_nothing_is_installed_against_the_will_of_the_user(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("YES", "0")
    with pytest.raises(NotAvailable, match=r"a server \(5 MB\).*YES=0.*install it by hand"):
        consent.require("a server", "5 MB", "install it by hand.")
    assert "a server (5 MB)" in capsys.readouterr().out


@pytest.mark.parametrize("value", [None, ""])
def test_where_there_is_no_terminal_it_is_shown_and_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str | None
) -> None:
    if value is not None:
        monkeypatch.setenv("YES", value)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    consent.require("a server", "5 MB", "install it by hand.")
    assert "a server (5 MB)" in capsys.readouterr().out
    assert consent.given()


@pytest.mark.parametrize(("answer", "agreed"), [("y", True), ("yes ", True), ("", False)])
def test_answer_at_a_terminal_counts_for_all_that_follows(
    monkeypatch: pytest.MonkeyPatch, answer: str, agreed: bool
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    if agreed:
        consent.ask(["a server", "a browser"])
        monkeypatch.delattr("builtins.input")
        consent.require("a server", "", "")
    else:
        with pytest.raises(NotAvailable, match=r"Nothing was installed\."):
            consent.ask(["a server"])
    assert consent.given() is agreed


@pytest.mark.parametrize(("value", "agreed"), [("1", True), ("0", False), ("", False)])
def test_variable_of_the_environment_agrees(
    monkeypatch: pytest.MonkeyPatch, value: str, agreed: bool
) -> None:
    monkeypatch.setenv("YES", value)
    assert consent.given() is agreed


def test_clean_empties_the_cache_and_names_what_it_leaves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("servers.__main__", "servers.apt"):
        monkeypatch.setattr(f"{module}.cache_directory", lambda: tmp_path)
    monkeypatch.setattr(apt, "_present", lambda: {"strace", "bash"})
    (tmp_path / "mysql" / "usr").mkdir(parents=True)
    (tmp_path / "mysql.lock").touch()
    (tmp_path / apt.INSTALLED).write_text("strace\ngdal-bin\n")
    assert main(["clean"]) == 0
    said = capsys.readouterr().out
    assert "apt-get purge strace" in said
    assert "gdal-bin" not in said  # it has ended already
    assert [path.name for path in tmp_path.iterdir()] == [apt.INSTALLED]
    removed: list[str] = []
    monkeypatch.setattr(apt, "remove", removed.extend)
    monkeypatch.setenv("YES", "1")
    assert main(["clean"]) == 0
    assert removed == ["strace"]
    assert list(tmp_path.iterdir()) == []


def test_root_without_the_capability_makes_no_namespace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refuses = tmp_path / "unshare"
    refuses.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    refuses.chmod(0o755)
    monkeypatch.setattr(netns, "is_root", lambda: True)
    monkeypatch.setattr(netns, "find_program", lambda _: str(refuses))
    assert not netns.is_allowed()
    with pytest.raises(NotAvailable, match="CAP_SYS_ADMIN"):
        netns.Namespace()
    refuses.write_text("#!/bin/sh\nexit 0\n")
    assert netns.is_allowed()


def test_runs_say_how_far_they_are() -> None:
    program = runpy.run_path(str(ROOT / "scripts" / "run_tests.py"))
    one, other = (program["Run"](name, [], {}) for name in ("one", "other"))
    progress = program["Progress"](2)
    progress.read(one, "tests/unit/test_x.py ......   [ 42%]")
    progress.read(other, "platform linux")
    assert progress.line().endswith("0 of 2 runs ended; one 42 %, other 0 %")
    progress.read(one, "FAILED tests/unit/test_x.py")
    progress.ended(other)
    assert progress.line().endswith("1 of 2 runs ended; one 42 %")


def test_mysqlclient_is_tried_again_once_its_headers_are_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program: dict[str, Any] = runpy.run_path(str(ROOT / "scripts" / "bootstrap.py"))
    inside = program["main"].__globals__
    python = tmp_path / "bin" / "python"
    mark = tmp_path / inside["MARK"]
    built: list[str] = []

    def pip(*arguments: Any, **_: Any) -> bool:
        built.append(str(arguments[1]))
        return bool(headers)

    def install(*_: str) -> None:
        raise NotAvailable("no root")

    headers: list[str] = []
    monkeypatch.setitem(inside, "pip", pip)
    monkeypatch.setitem(inside, "install", install)
    monkeypatch.setitem(inside, "has_mysqlclient", lambda _: False)
    monkeypatch.setitem(inside, "can_build_mysqlclient", lambda: bool(headers))
    program["obtain_mysqlclient"](python)
    assert mark.exists()
    built.clear()
    assert program["main"](tmp_path, "retry") == 0
    assert built == []  # without headers no attempt is made
    headers.append("mysql.h")
    assert program["main"](tmp_path, "retry") == 0
    assert len(built) == 1
    assert not mark.exists()
