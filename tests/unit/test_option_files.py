"""Option files as the backend reads them: includes that never end, and what cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from django_mysql_recycle import option_files


def names_in(path: Any) -> set[str]:
    return set(option_files.options({"read_default_file": path}))


@pytest.mark.timeout(5)
def test_files_that_include_one_another_are_read_to_the_end(tmp_path: Path) -> None:
    for number in range(5):
        text = f"!includedir {tmp_path}\n[client]\noption_{number} = 1\n"
        (tmp_path / f"{number}.cnf").write_text(text)
    assert names_in(str(tmp_path / "0.cnf")) == {f"option-{number}" for number in range(5)}


def test_file_that_includes_itself_has_its_options(tmp_path: Path) -> None:
    path = tmp_path / "my.cnf"
    path.write_text(f"[client]\nbefore=1\n!include {path}\nafter=1\n")
    assert names_in(str(path)) == {"before", "after"}


def test_last_value_counts(tmp_path: Path) -> None:
    (tmp_path / "other.cnf").write_text("[client]\nreconnect=1\n")
    path = tmp_path / "my.cnf"
    path.write_text(f"[client]\nreconnect=0\n!include {tmp_path}/other.cnf\n")
    assert option_files.reconnecting({"read_default_file": str(path)})
    path.write_text(f"!include {tmp_path}/other.cnf\n[client]\nreconnect=0\n")
    assert not option_files.reconnecting({"read_default_file": str(path)})


@pytest.mark.parametrize("path", ["/nowhere/my.cnf", "/", "\0", 5, b"/nowhere/my.cnf"])
def test_what_cannot_be_read_has_no_options(path: Any) -> None:
    assert names_in(path) == set()
