"""What `make demo` takes for success. Running it is for tests/integration/test_demo.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from servers import Endpoint


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "example_project" / "demo.py"
    spec = importlib.util.spec_from_file_location("demo", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "path", list(sys.path))  # it adds the repository
    monkeypatch.setitem(sys.modules, "demo", module)
    spec.loader.exec_module(module)
    return module


def status(demo: ModuleType, monkeypatch: pytest.MonkeyPatch, *sessions: object) -> int:
    answers = iter(sessions)
    monkeypatch.setattr(demo, "_run_loop", lambda *_: next(answers))
    result = demo._compare(Endpoint(vendor="mariadb"))
    assert isinstance(result, int)
    return result


def test_demo_succeeds_only_if_both_happened(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost() -> object:
        return demo.Session(1, connections=["5"], milliseconds=[0.1], errors=["2006", "2006"])

    def kept() -> object:
        return demo.Session(0, connections=["6", "7", "8"], milliseconds=[0.1, 1.0, 1.0])

    assert status(demo, monkeypatch, lost(), kept()) == 0
    assert status(demo, monkeypatch, lost(), lost()) == 1
    assert status(demo, monkeypatch, kept(), kept()) == 1


def test_errors_of_another_kind_are_no_demonstration(demo: ModuleType) -> None:
    assert not demo.Session(1, errors=["2003", "2003"]).lost_for_good
    assert not demo.Session(1, connections=["5"], errors=["1064", "2006"]).lost_for_good
    assert not demo.Session(1, connections=["5"], errors=["2006"]).lost_for_good


def test_the_same_connection_after_a_pause_is_no_demonstration(demo: ModuleType) -> None:
    assert not demo.Session(0, connections=["6", "6", "6"]).went_on
    assert not demo.Session(0, connections=["6", "7"]).went_on
