"""The pages in docs/ say what the code has."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from fnmatch import fnmatch
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

from django.db.utils import InterfaceError, OperationalError

from django_mysql_recycle import errors
from django_mysql_recycle.errors import NOT_NOW, Proof, classify
from django_mysql_recycle.policy import Action, Verdict, decide
from django_mysql_recycle.session_state.kinds import Boundary, Kind
from tests.comparison.table import GOOD, load

from .rows import each
from .test_policy import ORDINARY

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
HOW_IT_WORKS = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
TROUBLESHOOTING = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
GUARANTEE_TESTS = (ROOT / "docs" / "guarantee-tests.md").read_text(encoding="utf-8")


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = re.split(rf"\n##+ {re.escape(heading)}\n", page)[1]
    after = dropwhile(lambda line: not line.startswith("|"), section.splitlines())
    table = list(takewhile(lambda line: line.startswith("|"), after))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[2:]]


# ##### The decision table #####

NOTHING = replace(ORDINARY, age=0.0, idle_limit=None, ping_after=None)
ALIVE: dict[str, Any] = {"reason": "", "peer_closed": lambda: False}

#: How each row of the table begins, what makes it apply, what decide() then says.
ROWS: list[tuple[str, dict[str, Any], Verdict]] = [
    ("in a transaction", {"safe": False, "interrupted": False}, Verdict(Action.RUN)),
    (
        "a result of another",
        {"pending": True, "reason": ""},
        Verdict(Action.RUN),
    ),
    (
        "pinned by [statements",
        {"pinned": True, "unknown_only": True, "age": 60.0, "max_age": 60.0, "idle": 1.0, **ALIVE},
        Verdict(Action.RECYCLE, "max age"),
    ),
    ("pinned, or", {"pinned": True, "unknown_only": False, **ALIVE}, Verdict(Action.RUN)),
    (
        "pinned by variables and temporary tables alone",
        {"pinned": True, "settable": True},
        Verdict(Action.RECYCLE, "lost"),
    ),
    (
        "pinned, or the statement asks, and the connection is lost",
        {"pinned": True, "settable": False},
        Verdict(Action.STATE_LOST, "lost"),
    ),
    ("marked lost", {"reason": "lost"}, Verdict(Action.RECYCLE, "lost")),
    ("on a node", {"wrong_node": True}, Verdict(Action.RECYCLE, "wrong node")),
    (
        "idle reached the idle",
        {"idle": 30.0, "idle_limit": 30.0},
        Verdict(Action.RECYCLE, "idle limit"),
    ),
    ("the liveness check", {"peer_closed": lambda: True}, Verdict(Action.RECYCLE, "closed")),
    (
        "age reached",
        {"age": 60.0, "max_age": 60.0, "idle": 30.0},
        Verdict(Action.RECYCLE, "max age"),
    ),
    ("of a pool", {"asks_earlier": True}, Verdict(Action.RECYCLE, "used before")),
    ("`wait_timeout` not read", {"limit_unread": True, "idle": 30.0}, Verdict(Action.READ_LIMIT)),
    ("idle reached `ping_after`", {"ping_after": 10.0, "idle": 30.0}, Verdict(Action.PING)),
    ("otherwise", {}, Verdict(Action.RUN)),
]
WORDS = {
    Action.RUN: "run",
    Action.RECYCLE: "recycle",
    Action.STATE_LOST: "raise",
    Action.READ_LIMIT: "read",
    Action.PING: "ping",
}


def test_the_decision_table_has_the_rows_of_the_code_in_their_order() -> None:
    table = rows(HOW_IT_WORKS, "The decision")
    assert len(table) == len(ROWS)
    for (state, decision, _), (beginning, _, verdict) in zip(table, ROWS, strict=True):
        assert state.startswith(beginning)
        assert decision.startswith(WORDS[verdict.action]), state


@each(range(len(ROWS)))
def test_a_row_decides_whatever_the_rows_below_it_say(number: int) -> None:
    changes: dict[str, Any] = {}
    for _, own, _ in reversed(ROWS[number:]):
        changes.update(own)
    assert decide(replace(NOTHING, **changes)) == ROWS[number][2]


# ##### Kinds of session state #####


def test_the_table_of_session_state_is_that_of_the_code() -> None:
    table = {label: end for label, _, end in rows(HOW_IT_WORKS, "Session state")}
    assert table == {kind.value.label: kind.value.ends_with for kind in Kind}


def test_the_table_of_boundaries_says_what_becomes_of_each_kind() -> None:
    reported = {
        Boundary.ROLLED_BACK: "closed, as in Django; the server rolls back",
        Boundary.CLOSED: "closed",
        Boundary.KEPT: "kept open",
        Boundary.FORGOTTEN: "ended with the unit of work",
    }
    table = rows(HOW_IT_WORKS, "At the boundary of a unit of work")
    said = [
        (label.partition(" (")[0], cell) for kinds, cell in table for label in kinds.split(", ")
    ]
    assert sorted(label for label, _ in said) == sorted(kind.value.label for kind in Kind)
    for kind in Kind:
        assert dict(said)[kind.value.label].startswith(reported[kind.value.boundary]), kind


def test_every_module_has_its_reason_to_change() -> None:
    table = rows(ARCHITECTURE, "Modules")
    named = [name for cells in table for name in re.findall(r"`([\w*]+(?:\.py|/))`", cells[0])]
    package = ROOT / "django_mysql_recycle"
    modules = [path.name for path in package.glob("*.py") if path.name != "__init__.py"]
    modules += [f"{path.parent.name}/" for path in package.glob("*/__init__.py")]
    for module in modules:
        assert any(fnmatch(module, name) for name in named), module
    for name in named:
        assert any(fnmatch(module, name) for module in modules), name


# ##### The way of a statement #####


def test_calls_of_an_operation_are_those_that_are_recorded() -> None:
    recorded = json.loads((ROOT / "tests/integration/recorded_costs.json").read_text())
    calls = recorded["calls"]["mysqlclient"]
    table = rows(HOW_IT_WORKS, "The way of a statement")
    assert len(table) > 2
    for name, functions, modules in table:
        found = calls[name]
        assert int(functions) == found["functions of the package"], name
        assert int(modules) == found["modules of the package"], name


# ##### Error numbers #####

PROOFS = {
    "never ran": Proof.NEVER_RAN,
    "may have run": Proof.MAY_HAVE_RUN,
    "protocol broken": Proof.PROTOCOL,
    "wrong node": Proof.WRONG_NODE,
    "read-only": Proof.READ_ONLY,
    "nothing about the connection": Proof.ALIVE,
}


def numbers_in(text: str) -> set[int]:
    found = {int(number) for number in re.findall(r"\b\d{4}\b", text)}
    for first, last in re.findall(r"\b(\d{4}) to (\d{4})\b", text):
        found.update(range(int(first), int(last) + 1))
    return found


DOCUMENTED = [
    (number, cells[0], cells[2])
    for cells in rows(TROUBLESHOOTING, "What each number proves")
    for number in sorted(numbers_in(cells[0]))
]


@each(DOCUMENTED)
def test_a_documented_number_proves_what_the_code_says(number: int, cell: str, proof: str) -> None:
    error = OperationalError(number, "is running with the --read-only option")
    for mariadb, only in ((True, "MariaDB only"), (False, "MySQL only")):
        expected = Proof.ALIVE if " only" in cell and only not in cell else PROOFS[proof]
        assert classify(error, mariadb=mariadb) is expected


def test_every_classifyd_number_is_documented() -> None:
    classifyd = {
        number
        for name, numbers in vars(errors).items()
        if isinstance(numbers, set) and name.isupper()
        for number in numbers
    }
    assert len(classifyd) > 20
    assert classifyd <= {number for number, _, _ in DOCUMENTED}


def test_the_numbers_after_which_connecting_is_tried_again_are_those_of_the_code() -> None:
    found = re.search(r"tried again after these numbers: ([\d, ]+)\.", TROUBLESHOOTING)
    assert found is not None
    assert numbers_in(found[1]) == NOT_NOW


def test_errors_without_a_number_prove_what_the_page_says() -> None:
    for mariadb in (True, False):
        assert classify(InterfaceError(0, ""), mariadb=mariadb) is Proof.NEVER_RAN
    assert "`InterfaceError (0, '')` means never ran" in TROUBLESHOOTING


@each(
    [
        *(2006, 2013, 4031, 2026, 2055, 1290, 1836, 1792, 1047, 1180, 1040, 1203, 1226, 1205),
        *(1213, 1927, 2002, 2003, 2014, 2027, 1053, 3032, 3169),
    ]
)
def test_a_number_that_users_meet_has_a_heading(number: int) -> None:
    headings = re.findall(r"^## (.*)$", TROUBLESHOOTING, re.MULTILINE)
    assert any(number in numbers_in(heading) for heading in headings)


# ##### Guarantees #####


def test_every_test_that_holds_a_guarantee_exists() -> None:
    links = re.findall(r"\[`(test_\w+)`\]\(\.\./([\w/]+\.py)\)", GUARANTEE_TESTS)
    assert len(links) > 50
    for name, path in links:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), f"{name} in {path}"


def test_every_guarantee_and_refusal_names_a_test_that_holds_it() -> None:
    headings = re.findall(r"^##+ .*$", GUARANTEES, re.MULTILINE)
    assert re.findall(r"^##+ .*$", GUARANTEE_TESTS, re.MULTILINE) == headings
    for section in re.split(r"^### ", GUARANTEE_TESTS, flags=re.MULTILINE)[1:]:
        assert "\nHeld by: [`test_" in section, section.splitlines()[0]


# ##### The comparison #####

COMPARED = {
    "idle past `wait_timeout` between requests": "idle_between_requests",
    "the same inside a request, in a command, task or thread": "idle_inside",
    "`KILL`, server restart, crash; then a statement outside requests": "killed",
    "network that drops packets": "silent_path",
    "connection lost inside a transaction": "lost_inside_atomic",
    "answer to a write lost": "answer_lost",
}
COLUMNS = ["persistent", "health_checks", "pool", "has_gone", "ours"]


def test_the_overview_of_the_comparison_says_what_was_recorded() -> None:
    recorded = load()["found"]
    page = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    table = {row[0]: row[1:] for row in rows(page, "Overview")}
    for title, failure in COMPARED.items():
        for name, cell in zip(COLUMNS, table[title], strict=True):
            word = cell.partition(",")[0]
            for found in recorded.values():
                good = found[name][failure][0] in GOOD
                if word.startswith("only with `CONN_MAX_AGE = 0`"):
                    assert not good and found["age_0"][failure][0] in GOOD
                else:
                    assert word == ("yes" if good else "no"), (title, name)


def test_this_backend_fails_in_no_row_of_the_comparison() -> None:
    for found in load()["found"].values():
        verdicts = {failure: verdict for failure, (verdict, _) in found["ours"].items()}
        assert set(verdicts.values()) <= GOOD
