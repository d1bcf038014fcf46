"""Every cell of the fault matrix succeeds, or raises and nothing is half done (see matrix.py).

`python -m tests.fault_matrix` writes docs/fault-matrix.md from the same cells, with the stock
backend beside ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from servers import FaultProxy, Namespace, Server

from .admin import Admin
from .connections import OURS, STOCK, ConnectionFactory
from .matrix import FIRST, RAISES, SITUATIONS, TRANSPORTS, Cell, Matrix, expected
from .unresponsive import unresponsive_cells

CHEAP = [
    (fault, transport)
    for fault in ("idle", "KILL", "cut before arrival", "answer cut off")
    for transport in TRANSPORTS[fault]
]
CUT = ("cut before arrival", "answer cut off")


@pytest.fixture
def matrix(make_connection: ConnectionFactory, server: Server, admin: Admin) -> Iterator[Matrix]:
    made = Matrix(make_connection, server, admin)
    yield made
    made.close()


def check(verdicts: dict[Cell, str]) -> None:
    wrong = [
        f"{cell.fault}, {cell.transport}, {cell.situation}, {cell.first}: {verdict} ({cell.error!r})"
        for cell, verdict in verdicts.items()
        if verdict != expected(cell.fault, cell.situation, cell.first)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("fault", "transport"), CHEAP)
def test_every_cell_is_as_promised(
    matrix: Matrix, proxy: Callable[..., FaultProxy], fault: str, transport: str
) -> None:
    between = proxy() if fault in CUT else None
    verdicts = matrix.run(OURS, fault, [transport], via=between)
    assert len(verdicts) == len(SITUATIONS) * len(FIRST)
    check(verdicts)


@pytest.mark.parametrize("fault", ["restart", "crash"])
def test_every_cell_is_as_promised_when_the_server_goes_down(matrix: Matrix, fault: str) -> None:
    check(matrix.run(OURS, fault, TRANSPORTS[fault], firsts=["insert", "update", "atomic"]))


@pytest.mark.netns
def test_every_cell_is_as_promised_on_an_unresponsive_network(
    make_connection: ConnectionFactory, namespace: Namespace, own_server: Callable[..., Server]
) -> None:
    check(unresponsive_cells(OURS, make_connection, namespace, own_server, ["insert", "atomic"]))


@pytest.mark.parametrize("fault", ["idle", "KILL", "answer cut off"])
def test_control_stock_backend_fails_in_every_cell_that_loses_its_connection_and_stays_broken(
    matrix: Matrix, proxy: Callable[..., FaultProxy], fault: str
) -> None:
    between = proxy() if fault in CUT else None
    verdicts = matrix.run(STOCK, fault, ["tcp"], via=between, firsts=["insert", "update"])
    plain = Counter(v for cell, v in verdicts.items() if cell.situation == "plain")
    assert set(plain) == {f"{RAISES}, stays broken"}
