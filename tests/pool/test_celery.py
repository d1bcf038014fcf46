"""Celery's threads and greenlets: twenty tasks at a time on four connections."""

from __future__ import annotations

from pathlib import Path

import pytest

from servers import Server
from tests.integration.acts import wait_for
from tests.integration.admin import Admin

from .places import OURS, STOCK, environment, run_program
from .sockets import Sockets

SIZE = 4
TASKS = 40
#: Rows of the tasks that have run: two of each.
ROWS = "SELECT COUNT(*) FROM testapp_item WHERE name LIKE 'task %%'"


@pytest.mark.load
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["threads", "gevent"])
def test_tasks_share_the_connections_of_the_pool(
    tmp_path: Path, server: Server, accounts: Admin, driver: str, kind: str
) -> None:
    most = {}
    for engine, pool in ((OURS, {"max_size": SIZE}), (STOCK, None)):
        messages = tmp_path / engine
        messages.mkdir()
        more = {"POOL_SITE_MESSAGES": str(messages)}
        variables = environment(server, driver, engine=engine, pool=pool, more=more)
        with run_program(tmp_path, variables, "tests.pool.tasks", str(TASKS)) as sender:
            assert sender.wait() == ""
        worker = (
            "celery --quiet -A tests.pool.tasks worker --concurrency 20 --without-gossip"
            f" --without-mingle --without-heartbeat --loglevel WARNING --pool {kind}"
        )
        with run_program(tmp_path, variables, *worker.split()) as program:
            with Sockets(server) as sockets:
                wait_for(lambda: accounts.value(ROWS) == 2 * TASKS, "the tasks", timeout=40)
            assert "Traceback" not in program.output
            program.kill()  # a warm shutdown takes seconds
        most[engine] = sockets.most
        names = accounts.rows("SELECT name, COUNT(*) FROM testapp_item GROUP BY name")
        assert dict(names) == {f"task {n}": 2 for n in range(TASKS)}
        accounts.rows("DELETE FROM testapp_item")
    assert most[OURS] <= SIZE < most[STOCK]
