"""Nothing may cost more than is recorded: calls, system calls, statements. Nothing is timed.

The numbers are in recorded_costs.json. Whoever wants to spend more runs
`python -m tests.integration.costs` and shows the difference.
"""

from __future__ import annotations

import shutil

import pytest

from . import costs

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def strace():
    if shutil.which("strace") is None:
        pytest.fail("strace is missing: apt-get install --no-install-recommends strace")


def test_no_operation_calls_more_than_is_recorded(server, driver):
    calls = costs.extra_calls(server, driver)
    excess = costs.excess(costs.summed(calls), costs.recorded()["calls"][driver])
    named = {line.partition(":")[0] for line in excess}
    assert not excess, {name: calls[name] for name in named}


def test_no_operation_makes_more_system_calls_than_are_recorded(server, driver, tmp_path):
    measured = costs.extra_system_calls(server, driver, tmp_path / "strace.log")
    assert not costs.excess(measured, costs.recorded()["system calls"][driver])


def test_a_statement_takes_one_poll_and_none_in_a_tight_loop_or_in_atomic():
    for driver in ("mysqlclient", "pymysql"):
        system_calls = costs.recorded()["system calls"][driver]
        assert system_calls["statement"] == {"poll": 1}
        assert system_calls["statement in a tight loop"] == {}
        assert system_calls["statement inside atomic"] == {}


def test_no_operation_sends_a_statement_that_is_not_recorded(server, driver):
    assert costs.extra_statements(server, driver) == costs.recorded()["statements"]


def test_the_only_statement_of_our_own_is_the_limit_after_the_first_rest():
    sent = {name: texts for name, texts in costs.recorded()["statements"].items() if texts}
    assert sent == {
        "select after the first rest": ["SELECT @@SESSION.wait_timeout, @@SESSION.sql_mode"]
    }


# ##### Controls: what is added to a statement is noticed #####


@pytest.mark.parametrize("addition", ["poll", "clock", "call"])
def test_what_a_statement_calls_in_addition_is_noticed(server, driver, addition):
    measured = costs.summed(costs.extra_calls(server, driver, addition))
    excess = costs.excess(measured, costs.recorded()["calls"][driver])
    what = {"poll": "socket", "clock": "clock", "call": "all calls"}[addition]
    for operation in ("statement", "statement in a tight loop", "statement inside atomic"):
        assert any(line.startswith(f"{operation}:") and what in line for line in excess)


def test_a_poll_in_addition_is_noticed_as_a_system_call(server, driver, tmp_path):
    measured = costs.extra_system_calls(server, driver, tmp_path / "strace.log", "poll")
    excess = costs.excess(measured, costs.recorded()["system calls"][driver])
    assert "statement: 2 x poll, recorded 1" in excess
    assert "statement inside atomic: 1 x poll, recorded 0" in excess


def test_a_statement_in_addition_is_noticed(server, driver):
    assert costs.extra_statements(server, driver, "statement") != costs.recorded()["statements"]
