"""The example project works as its README.md says."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Callable
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

from servers import Server
from servers.machine import free_port

from .connections import OURS, STOCK
from .example import lines_until, run, running, variables

LOOP = ("manage.py", "loop", "--wait-timeout", "1", "--pause", "2")


def test_loop_goes_on_with_a_new_connection_on_ours(server: Server) -> None:
    result = run(*LOOP, "--engine", OURS, "--rounds", "2", env=variables(server), timeout=30)
    assert result.returncode == 0, result.stdout
    selects = re.findall(r"SELECT now\(\) .* connection (\d+)", result.stdout)
    assert len(selects) == len(set(selects)) == 3


def test_loop_ends_with_the_servers_own_error_on_the_stock_backend(server: Server) -> None:
    result = run(*LOOP, "--engine", STOCK, "--rounds", "2", env=variables(server), timeout=30)
    assert result.returncode == 1, result.stdout
    assert len(re.findall(r"SELECT now\(\) .* connection \d+", result.stdout)) == 1
    assert len(re.findall(r"SELECT now\(\) .*Error \(", result.stdout)) == 2
    assert "every further statement fails, too" in result.stdout


def test_loop_runs_on_the_engine_of_the_environment(server: Server) -> None:
    env = variables(server, EXAMPLE_ENGINE=STOCK)
    result = run(*LOOP, "--rounds", "1", env=env, timeout=30)
    assert result.returncode == 1
    assert f"{STOCK}, " in result.stdout


def test_interrupted_loop_ends_without_a_traceback(server: Server) -> None:
    command = ("manage.py", "loop", "--rounds", "0", "--pause", "50")
    with running(*command, env=variables(server)) as process:
        lines_until(process, "seconds without a statement")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"EXAMPLE_ENGINE": "mysql"}, "EXAMPLE_ENGINE: expected django_mysql_recycle or "),
        ({"MYSQL_PORT": "high"}, "MYSQL_PORT: expected a number from 1 to 65535, got 'high'"),
        ({"MYSQL_HOST": "", "MYSQL_SOCKET": ""}, "expected together with MYSQL_HOST"),
        ({"DJANGO_MYSQL_RECYCLE_DRIVER": "oursql"}, "DJANGO_MYSQL_RECYCLE_DRIVER: expected "),
    ],
)
def test_settings_refuse_bad_values(server: Server, given: dict[str, str], message: str) -> None:
    result = run("manage.py", "check", env=variables(server, **given), timeout=30)
    assert result.returncode != 0
    assert message in result.stdout


def test_migration_matches_the_model(server: Server) -> None:
    command = ("manage.py", "makemigrations", "--check", "--dry-run")
    result = run(*command, env=variables(server), timeout=30)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(("engine", "status"), [(OURS, 200), (STOCK, 500)])
def test_page_survives_a_pause_in_the_middle_of_a_request(
    own_server: Callable[..., Server], engine: str, status: int
) -> None:
    port = free_port()
    env = variables(own_server(wait_timeout=3), EXAMPLE_ENGINE=engine)
    with running("serve.py", "--port", str(port), env=env) as process:
        assert _get(port, "/visits/", until=30)[0] == 200
        assert _get(port, "/visits/pause/")[0] == status
        got, page = _get(port, "/visits/")
        assert got == 200
        assert "The latest of 4" in page if engine == OURS else "The latest of 3" in page
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 130
    with pytest.raises(URLError):
        _get(port, "/")


_BENCH = """
import django
django.setup()
from django.test import Client, override_settings
pages = ["/", "/bench/state/"]
posts = ["/bench/do/select/", "/bench/do/kill/"]

def answers(**who):
    client = Client(SERVER_NAME="127.0.0.1", **who)
    return [client.get(p).status_code for p in pages] + [client.post(p).status_code for p in posts]

print("here", answers())
print("elsewhere", answers(REMOTE_ADDR="192.0.2.1"))
with override_settings(DEBUG=False):
    print("deployed", answers())
"""


def test_bench_is_for_development_on_this_machine(server: Server) -> None:
    env = variables(server, DJANGO_SETTINGS_MODULE="config.settings")
    result = run("-c", _BENCH, env=env, timeout=30)
    assert result.returncode == 0, result.stdout
    # The server is named by the environment: the statement is welcome, KILL is not.
    assert "here [200, 200, 202, 403]" in result.stdout
    assert "elsewhere [403, 403, 403, 403]" in result.stdout
    assert "deployed [404, 404, 404, 404]" in result.stdout


def test_taken_port_is_reported_before_a_server_is_started() -> None:
    # Also before .server.json is written, which may be that of another `make run`.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve.py", "--port", str(port), env=variables(), timeout=30)
    assert result.returncode == 1
    assert f"Port {port} is in use" in result.stdout
    assert "Database" not in result.stdout


def _get(port: int, path: str, *, until: float = 0) -> tuple[int, str]:
    """Status and text of a page; asked for again for `until` seconds while no server listens."""
    deadline = time.monotonic() + until
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except URLError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)
