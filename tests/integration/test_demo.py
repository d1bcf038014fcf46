"""`make demo` does what README.md shows."""

from __future__ import annotations

import signal
from pathlib import Path

from servers import Server
from servers.guard import started_at

from .example import lines_until, run, running, variables


def test_demo_shows_the_stock_backend_failing_and_ours_going_on(
    server: Server, driver: str
) -> None:
    result = run("demo.py", env=variables(server), timeout=50)
    assert result.returncode == 0, result.stdout
    stock, ours = result.stdout.split("$ python manage.py loop --engine ")[1:]
    assert stock.startswith("django.db.backends.mysql")
    assert stock.count("Error (") == 2  # and still at the second try
    assert "every further statement fails, too" in stock
    assert ours.startswith("django_mysql_recycle")
    assert "Error" not in ours
    assert ours.count("SELECT now()") == 3
    for part in (stock, ours):
        assert {"mysqlclient": "mysqlclient ", "pymysql": "PyMySQL "}[driver] in part
        assert {"mariadb": "MariaDB ", "mysql": "MySQL "}[server.vendor] in part
    assert server.password not in result.stdout
    assert server.running


def test_demo_fails_if_the_server_cannot_be_reached(server: Server) -> None:
    env = variables(server, MYSQL_HOST="127.0.0.1", MYSQL_PORT="1")
    result = run("demo.py", env=env, timeout=50)
    assert result.returncode == 2
    assert "expected a MySQL or MariaDB server at 127.0.0.1:1, got" in result.stdout


def test_demo_ends_at_once_if_the_server_refuses_the_user(server: Server) -> None:
    env = variables(server, MYSQL_PASSWORD="another")
    result = run("demo.py", env=env, timeout=50)
    assert result.returncode == 1
    assert result.stdout.count("OperationalError (1045") == 1
    assert "No statement could be run, so there is nothing to compare." in result.stdout


def test_demo_refuses_a_misspelt_environment() -> None:
    result = run("demo.py", env=variables(MYSQL_PORT="3306"), timeout=50)
    assert result.returncode == 2
    assert "MYSQL_PORT: expected together with MYSQL_HOST or MYSQL_SOCKET" in result.stdout


def test_interrupted_demo_leaves_nothing_running(vendor: str) -> None:
    with running("demo.py", "--vendor", vendor, env=variables()) as process:
        lines_until(process, "SELECT now()")
        # The server that it started, what watches over that, and the loop.
        born = {pid: started_at(pid) for pid in _children(process.pid)}
        assert len(born) >= 3
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "No process is left running" in output
    assert not [pid for pid, start in born.items() if started_at(pid) == start]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
