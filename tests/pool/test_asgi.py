"""Requests under real ASGI servers share the pool's connections, and get their own answers.

The load has synchronous and asynchronous views, streams, websockets, background tasks, executor
threads, cancelled tasks, transactions, session state, and clients that hang up in the middle.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from servers import Server
from tests.integration.acts import wait_for
from tests.integration.admin import Admin

from .conftest import ASGI_SERVERS
from .load import ASYNC_MIX, Load, Report
from .places import STOCK, Site, killing
from .sockets import Sockets

SIZE = 6
CLIENTS = 20
#: Where Django has no thread that is kept, every request opens a connection of its own. These views
#: leave session state, so their connection is closed instead of returned.
MARKING = ("lock", "tenant", "temporary")
#: The errors of a statement whose connection was killed while it ran.
LOST = re.compile(
    r"((OperationalError|InterfaceError|Error|SessionStateLost) (0|2006|2013|2055|4031|1927|1317|1053)?"
    # A stream or a websocket that has begun has no status left to say it with.
    r"|^stream: .*|^async_stream: .*|^websocket: .*)$"
)


def visit(
    site: Site, server: Server, requests: int, *, kill_every: float = 0, **arguments: Any
) -> tuple[Report, int, int]:
    """Send the load. Returns its report, the most connections that were open, and the kills."""
    seed = random.randrange(10**6)
    load = Load(site.port, ASYNC_MIX, requests=requests, clients=CLIENTS, seed=seed, **arguments)
    with ExitStack() as stack:
        sockets = stack.enter_context(Sockets(server))
        kills = (
            stack.enter_context(killing(server, kill_every, random.Random(seed)))
            if kill_every
            else lambda: 0
        )
        report = load.run()
        killed = kills()
    print(f"seed {seed}: {report}, {sockets.most} connections, {killed} kills")  # noqa: T201
    return report, sockets.most, killed


def assert_nothing_left(site: Site, admin: Admin, report: Report) -> None:
    """No row of a failed request is there, no money is lost, no lock is held any more."""
    wait_for(lambda: not site.state()["tasks"], "the background tasks")
    assert admin.value("SELECT SUM(balance) FROM testapp_account") == 0
    assert admin.value("SELECT COUNT(*) FROM testapp_item WHERE name LIKE 'never%%'") == 0
    wait_for(lambda: admin.value("SELECT IS_USED_LOCK('pool')") is None, "the lock")
    transfers = admin.rows("SELECT name FROM testapp_item WHERE name LIKE 'transfer%%'")
    assert len(transfers) == len(set(transfers)) >= report.right["atomic"]


@pytest.mark.load
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("web_server", ASGI_SERVERS)
def test_requests_share_the_connections_of_the_pool(
    run_site: Callable[..., Site], server: Server, admin: Admin, requests: int, web_server: str
) -> None:
    site = run_site(web_server, pool={"max_size": SIZE})
    before = admin.connects()
    report, most, _ = visit(site, server, requests, hang_up=0.1)
    opened = admin.connects() - before
    assert not report.wrong
    assert not report.errors
    assert most <= SIZE
    assert_nothing_left(site, admin, report)
    assert len(site.sessions_of(SIZE)) == SIZE  # no slot is lost
    marked = sum(report.right[view] for view in MARKING)
    assert opened <= SIZE + marked + 2 * report.hung_up
    assert opened < requests / 2


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("web_server", ASGI_SERVERS)
def test_killed_connections_cost_no_slot(
    run_site: Callable[..., Site], server: Server, admin: Admin, requests: int, web_server: str
) -> None:
    site = run_site(web_server, pool={"max_size": SIZE})
    report, most, killed = visit(site, server, requests, hang_up=0.1, kill_every=0.05)
    assert killed
    assert not report.wrong
    unexpected = [error for error in report.errors if not LOST.search(error)]
    assert not unexpected
    assert report.errors.total() <= killed
    assert most <= SIZE
    assert_nothing_left(site, admin, report)
    assert len(site.sessions_of(SIZE)) == SIZE


@pytest.mark.timeout(3600)
def test_requests_on_the_stock_backend_open_a_connection_each(
    run_site: Callable[..., Site], server: Server, admin: Admin, requests: int
) -> None:
    """The control: the answers are right there as well."""
    site = run_site("uvicorn", engine=STOCK)
    before = admin.connects()
    report, _, _ = visit(site, server, min(requests, 1000), hang_up=0.1)
    assert not report.wrong
    assert not report.errors
    assert_nothing_left(site, admin, report)
    assert admin.connects() - before > min(requests, 1000) * 0.8
