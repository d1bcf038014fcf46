"""Greenlets share the pool's connections: gunicorn's gevent worker, timeouts, greenlets that are killed.

PyMySQL lets other greenlets run while a statement is under way, mysqlclient does not.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from servers import Server
from tests.integration.admin import Admin

from .load import SYNC_MIX, Load
from .places import OURS, STOCK, Site, environment, run_program
from .sockets import Sockets

SIZE = 4
CLIENTS = 16


@pytest.mark.timeout(3600)
def test_requests_in_greenlets_share_the_connections_of_the_pool(
    run_site: Callable[..., Site], server: Server, admin: Admin, requests: int
) -> None:
    opened = {}
    for engine, pool in ((OURS, {"max_size": SIZE}), (STOCK, None)):
        site = run_site("gevent", engine=engine, pool=pool)
        seed = random.randrange(10**6)
        load = Load(site.port, SYNC_MIX, requests=requests, clients=CLIENTS, seed=seed, hang_up=0.1)
        before = admin.connects()
        with Sockets(server) as sockets:
            report = load.run()
        opened[engine] = admin.connects() - before
        print(f"{engine}, seed {seed}: {report}, {sockets.most} connections")  # noqa: T201
        assert not report.wrong
        assert not report.errors
        assert admin.value("SELECT SUM(balance) FROM testapp_account") == 0
        if pool:
            assert sockets.most <= SIZE
            assert len(site.sessions_of(SIZE)) == SIZE  # no slot is lost
        site.program.end()
    assert opened[OURS] < requests / 2 < opened[STOCK]  # stock has a connection for each


@pytest.mark.load
@pytest.mark.timeout(120)
def test_greenlets_that_rest_give_their_connection_to_those_that_wait(
    run_site: Callable[..., Site], server: Server
) -> None:
    site = run_site("gevent", pool={"max_size": SIZE, "timeout": 6})
    with Sockets(server) as sockets:
        answers = site.at_once(*[f"/stream/{n}/?pause=1.5" for n in range(3 * SIZE)])
    assert [given.body.split() for given in answers] == [[str(n)] * 3 for n in range(3 * SIZE)]
    assert sockets.most <= SIZE
    assert site.state()["pool"]["called_in"] > 0


@pytest.mark.timeout(3600)
def test_greenlets_that_are_killed_or_run_out_of_time_cost_no_slot(
    tmp_path: Path, server: Server, accounts: Admin, driver: str, requests: int
) -> None:
    variables = environment(
        server, driver, pool={"max_size": SIZE}, more={"POOL_SITE_SIZE": str(SIZE)}
    )
    seconds = max(2, requests // 500)
    with run_program(tmp_path, variables, "tests.pool.greenlets", str(seconds)) as program:
        with Sockets(server) as sockets:
            output = program.wait(seconds + 60)
    lines = [line for line in output.splitlines() if line.startswith("{")]
    assert lines, output
    seen = json.loads(lines[0])
    print(seen)  # noqa: T201
    assert seen.pop("sessions") == SIZE, output
    assert sockets.most <= SIZE
    assert seen.pop("greenlets") > 20
    right, committed, cut = seen.pop("right"), seen.pop("committed"), seen.pop("cut short")
    assert not seen, seen  # no wrong answer and no error
    assert right > 100 and cut > 10
    # A COMMIT that was cut short, or whose greenlet was killed, may have been done.
    assert committed <= accounts.value("SELECT SUM(balance) FROM testapp_account")
