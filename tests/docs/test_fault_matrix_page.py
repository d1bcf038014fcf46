"""docs/fault-matrix.md says of this backend what tests/integration/test_fault_matrix.py holds it to."""

from __future__ import annotations

import re

from tests.fault_matrix import TARGET, summary
from tests.integration.matrix import FIRST, SITUATIONS, TRANSPORTS, expected

PAGE = TARGET.read_text(encoding="utf-8")
UNRESPONSIVE = ("select", "insert", "atomic")  # the first statements on an unresponsive network


def table() -> list[list[str]]:
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    return [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_every_fault_situation_and_first_statement_is_on_the_page() -> None:
    head, _, *lines = table()
    assert head[1:] == list(TRANSPORTS)
    assert [line[0] for line in lines] == list(SITUATIONS)
    assert f"They are: {', '.join(FIRST)}." in PAGE


def test_the_page_says_of_this_backend_what_its_tests_expect() -> None:
    head, _, *lines = table()
    for situation, *cells in lines:
        for fault, cell in zip(head[1:], cells, strict=True):
            firsts = UNRESPONSIVE if fault == "unresponsive network" else FIRST
            verdicts = {
                (transport, first): expected(fault, situation, first)
                for transport in TRANSPORTS[fault]
                for first in firsts
            }
            assert cell.startswith(f"**{summary(verdicts)}** "), (fault, situation)
