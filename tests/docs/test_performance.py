"""The frame of the measures: it runs unattended, loses nothing, and its report is from the results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as frame
from benchmarks import catalogue, document, report
from benchmarks.facts import ROOT

from ..choice import DRIVER, VENDOR

MINE = ("statement", "operations", "liveness", "opening")


def bench(output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--output", str(output)]
    return subprocess.run(
        [*command, "--drivers", DRIVER, "--servers", VENDOR, *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a quick run of the measures of single calls."""
    folder = tmp_path_factory.mktemp("results")
    result = bench(folder, "--only", *MINE)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture(scope="module")
def found(results: Path) -> dict[str, Any]:
    return report.read(results)


@pytest.mark.timeout(120)
def test_every_measure_has_rows_and_says_what_they_belong_to(found: dict[str, Any]) -> None:
    assert list(found) == list(MINE)
    for result in found.values():
        assert result["failures"] == []
        assert result["rows"]
        assert all(row["driver"] == DRIVER and row["server"] == VENDOR for row in result["rows"])
        facts = result["machine"]
        assert facts["servers"][VENDOR] and facts["packages"]["Django"] and facts["commit"]


@pytest.mark.timeout(120)
def test_single_calls_are_measured_over_each_transport(found: dict[str, Any]) -> None:
    for measure in ("operations", "liveness", "opening"):
        transports = {row["transport"] for row in found[measure]["rows"]}
        assert transports >= {"tcp", "tls", "socket"}


@pytest.mark.timeout(120)
def test_what_is_counted_does_not_depend_on_a_quick_run(found: dict[str, Any]) -> None:
    counted = {
        row["case"]: (row["values"]["stock"]["median"], row["values"]["ours"]["median"])
        for row in found["opening"]["rows"]
        if row["unit"] == "statements"
    }
    assert counted == {
        "statements at the server: connecting": (5, 3),
        "statements at the server: the first statement": (1, 1),
        "statements at the server: the first statement after an idle time": (1, 2),
        "statements at the server: a statement after a later idle time": (1, 1),
    }


@pytest.mark.timeout(120)
def test_a_quick_run_says_that_its_numbers_mean_nothing(results: Path) -> None:
    assert "these numbers mean nothing" in (results / "performance.md").read_text()


@pytest.mark.timeout(120)
def test_report_writes_tables_and_plots_and_notices_a_number_that_was_edited(
    results: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    for path in results.glob("*.json"):
        (folder / path.name).write_text(path.read_text())
    written = tmp_path / "results" / "performance.md"
    report.write(folder, written)
    names = {path.name for path in folder.iterdir()}
    assert {"added.svg", "ratios.svg", "opening.svg"} <= names
    assert report.check(folder, written) == ""
    text = written.read_text()
    assert "1.5 us" in text
    written.write_text(text.replace("1.5 us", "1.6 us"))
    assert "run python -m benchmarks.report" in report.check(folder, written)


def test_the_same_results_give_the_same_plots(results: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        (folder / "statement.json").write_text((results / "statement.json").read_text())
        report.write(folder, folder / "performance.md")
    one, two = ((folder / "added.svg").read_bytes() for folder in folders)
    assert one == two


@pytest.mark.timeout(120)
def test_a_measure_that_fails_loses_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen(name: str) -> catalogue.Measure:
        found = catalogue.measure(name)
        return found._replace(name="no_such_module") if name == "opening" else found

    monkeypatch.setattr(frame, "measure", chosen)
    arguments = ["--quick", "--drivers", DRIVER, "--servers", VENDOR, "--output", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["benchmarks", *arguments, "--only", "opening", "statement"])
    assert frame.main() == 1
    broken = json.loads((tmp_path / "opening.json").read_text())
    assert "no_such_module" in broken["failures"][0]
    assert json.loads((tmp_path / "statement.json").read_text())["rows"]
    assert "What failed, or was not run" in (tmp_path / "performance.md").read_text()


@pytest.mark.timeout(120)
def test_a_measure_that_takes_too_long_keeps_the_rows_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hurried(name: str) -> catalogue.Measure:
        return catalogue.measure(name)._replace(limit=4.0)

    monkeypatch.setattr(frame, "measure", hurried)
    arguments = ["--drivers", DRIVER, "--servers", VENDOR, "--output", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["benchmarks", *arguments, "--only", "opening"])
    assert frame.main() == 1
    result = json.loads((tmp_path / "opening.json").read_text())
    assert "ended after 4 s" in result["failures"][0]
    assert result["rows"]


def test_without_results_the_document_says_so() -> None:
    assert "Nothing has been measured yet" in document.document({}, [], ".")
