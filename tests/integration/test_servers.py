"""The servers and faults themselves: every other test rests on them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymysql
import pytest

from servers import FaultProxy, HAProxy, Namespace, Server, ServersError, StartFailed
from servers.guard import started_at

from .admin import Admin

ROOT = Path(__file__).resolve().parents[2]


def connect(server: Server, **settings: Any) -> pymysql.Connection[Any]:
    arguments: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": server.password,
        "database": server.database,
        "ssl_disabled": True,
        "autocommit": True,
        **settings,
    }
    return pymysql.connect(**arguments)


def value(connection: pymysql.Connection[Any], sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        row = cursor.fetchone()
        return row[0] if row else None


def test_server_takes_options_and_names_its_version(own_server: Callable[..., Server]) -> None:
    server = own_server(wait_timeout=7)
    with connect(server) as connection:
        assert value(connection, "SELECT @@wait_timeout") == 7
        assert value(connection, "SELECT VERSION()") == server.version


def test_server_offers_tls_with_a_certificate_that_names_it(server: Server) -> None:
    with connect(server, ssl_disabled=False, ssl={"ca": str(server.ca)}) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SHOW STATUS LIKE 'Ssl_version'")
            assert cursor.fetchone() == ("Ssl_version", "TLSv1.3")


def test_restart_keeps_port_and_rows_and_drops_connections(server: Server, admin: Admin) -> None:
    port, pid = server.port, server.pid
    admin.rows("INSERT INTO testapp_account (owner, balance) VALUES ('a', 1)")
    connection = connect(server)
    server.restart()
    assert (server.port, server.pid != pid) == (port, True)
    with pytest.raises(pymysql.err.OperationalError):
        value(connection, "SELECT 1")
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == 1


def test_killed_server_starts_again_with_what_was_committed(server: Server, admin: Admin) -> None:
    admin.rows("INSERT INTO testapp_account (owner, balance) VALUES ('a', 1)")
    server.kill()
    assert not server.running
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((server.host, server.port))
    server.start()
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == 1


def test_paused_server_answers_once_it_is_resumed(server: Server) -> None:
    connection = connect(server, read_timeout=1)
    server.pause()
    with pytest.raises(pymysql.err.OperationalError, match="timed out"):
        value(connection, "SELECT 1")
    server.resume()
    with connect(server) as connection:
        assert value(connection, "SELECT 1") == 1


def test_server_that_cannot_start_shows_its_log(vendor: str) -> None:
    with pytest.raises(StartFailed, match=r"no_such_option|no-such-option"):
        with Server(vendor, no_such_option=1):
            pytest.fail("it started")


def test_misuse_is_an_error(vendor: str, server: Server) -> None:
    with pytest.raises(ServersError, match="already running"):
        server.start()
    unstarted = Server(vendor)
    with pytest.raises(ServersError, match="never started"):
        unstarted.stop()
    unstarted.destroy()
    unstarted.destroy()
    assert not unstarted.directory.exists()


def test_killed_parent_leaves_no_server_and_no_files(vendor: str) -> None:
    script = (
        "import sys; from servers import Server; server = Server(sys.argv[1]); server.start();"
        "print(server.pid, server.directory, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, vendor],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert parent.stdin is not None and parent.stdout is not None
    pid, directory = parent.stdout.readline().split()
    born = started_at(int(pid))
    assert born and Path(directory).exists()
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while Path(directory).exists() or started_at(int(pid)) == born:
        assert time.monotonic() < deadline, "the server outlived its parent"
        time.sleep(0.02)


def test_forked_child_that_exits_takes_no_server_with_it(own_server: Callable[..., Server]) -> None:
    server = own_server()
    child = os.fork()
    if child == 0:
        server.destroy()
        os._exit(0)
    os.waitpid(child, 0)
    assert server.running


def test_run_prints_settings_and_ends_with_its_input(vendor: str) -> None:
    command = [sys.executable, "-m", "servers", "run", "--vendor", vendor, "--wait-timeout", "9"]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("MYSQL_")}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    assert process.stdin is not None and process.stdout is not None
    printed = {}
    while not (line := process.stdout.readline()).startswith("#"):
        name, _, text = line.strip().partition("=")
        printed[name] = text
    with pymysql.connect(
        host=printed["MYSQL_HOST"],
        port=int(printed["MYSQL_PORT"]),
        user=printed["MYSQL_USER"],
        password=printed["MYSQL_PASSWORD"],
        database=printed["MYSQL_DATABASE"],
    ) as connection:
        assert value(connection, "SELECT @@wait_timeout") == 9
    process.communicate()
    assert process.returncode == 0


def test_run_ends_its_server_when_terminated(vendor: str) -> None:
    command = [sys.executable, "-m", "servers", "run", "--vendor", vendor]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(7)]
    directory = Path(lines[5].strip().partition("=")[2]).parent.parent
    assert directory.exists()
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert not directory.exists()


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_proxy_cuts_open_connections(
    proxy: Callable[..., FaultProxy], server: Server, how: Any
) -> None:
    between = proxy()
    connection = connect(server, port=between.port)
    assert value(connection, "SELECT 1") == 1
    between.cut(how)
    assert between.open_connections() == []
    with pytest.raises(pymysql.err.OperationalError):
        value(connection, "SELECT 1")
    with connect(server, port=between.port) as connection:
        assert value(connection, "SELECT 1") == 1


INSERT = "INSERT INTO testapp_account (owner, balance) VALUES ('a', 1)"


@pytest.mark.parametrize("fault", ["cut_next_request", "cut_at_before"])
def test_request_cut_before_forwarding_was_never_executed(
    proxy: Callable[..., FaultProxy], server: Server, admin: Admin, fault: str
) -> None:
    between = proxy()
    connection = connect(server, port=between.port)
    made = (
        between.cut_next_request()
        if fault == "cut_next_request"
        else between.cut_at(b"INSERT INTO")
    )
    with pytest.raises(pymysql.err.OperationalError):
        value(connection, INSERT)
    made.wait()
    assert made.fired
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == 0


@pytest.mark.parametrize("fault", ["swallow_next_reply", "cut_at_after"])
def test_request_whose_reply_is_swallowed_was_executed(
    proxy: Callable[..., FaultProxy], server: Server, admin: Admin, fault: str
) -> None:
    between = proxy()
    connection = connect(server, port=between.port)
    made = (
        between.swallow_next_reply()
        if fault == "swallow_next_reply"
        else between.cut_at(b"INSERT INTO", when="after", how="rst")
    )
    with pytest.raises(pymysql.err.OperationalError):
        value(connection, INSERT)
    made.wait()
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == 1


def test_proxy_reads_the_commands_of_a_plain_connection(
    proxy: Callable[..., FaultProxy], server: Server
) -> None:
    between = proxy()
    with connect(server, port=between.port) as connection:
        value(connection, "SELECT 'seen'")
        connection.ping()
    (seen,) = between.connections
    names = [command.name for command in seen.commands]
    assert names[-2:] == ["PING", "QUIT"] or names[-1] == "PING"
    assert seen.queries()[-1] == "SELECT 'seen'"
    assert seen.bytes_sent > 0 and seen.bytes_received > 0


def test_proxy_knows_that_it_cannot_read_tls(
    proxy: Callable[..., FaultProxy], server: Server
) -> None:
    between = proxy()
    with connect(server, port=between.port, ssl_disabled=False, ssl={"ca": str(server.ca)}):
        (seen,) = between.connections
        assert seen.encrypted and seen.commands == []


def test_stalled_proxy_answers_nothing_until_resumed(
    proxy: Callable[..., FaultProxy], server: Server
) -> None:
    between = proxy()
    connection = connect(server, port=between.port, read_timeout=1)
    between.stall()
    with pytest.raises(pymysql.err.OperationalError, match="timed out"):
        value(connection, "SELECT 1")
    between.resume()
    with connect(server, port=between.port) as connection:
        assert value(connection, "SELECT 1") == 1


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_stalled_proxy_does_not_say_that_the_server_has_closed(
    proxy: Callable[..., FaultProxy], own_server: Callable[..., Server], end: str
) -> None:
    server = own_server()
    between = proxy(server)
    connection = connect(server, port=between.port, read_timeout=10)
    stream = connection._sock  # type: ignore[attr-defined]
    stream.settimeout(1)
    between.stall()
    getattr(server, end)()
    with pytest.raises(TimeoutError):
        stream.recv(1)
    between.resume()
    stream.settimeout(10)
    with contextlib.suppress(ConnectionResetError):
        while stream.recv(100):
            pass  # the last words


def test_proxy_delays_by_its_latency_each_way(
    proxy: Callable[..., FaultProxy], server: Server
) -> None:
    between = proxy()
    with connect(server, port=between.port) as connection:
        between.latency = 0.1
        began = time.monotonic()
        value(connection, "SELECT 1")
        assert time.monotonic() - began >= 0.2
        between.latency = 0


def test_proxy_sends_new_connections_to_another_server(
    proxy: Callable[..., FaultProxy], server: Server, own_server: Callable[..., Server]
) -> None:
    between = proxy()
    other = own_server(wait_timeout=11)
    between.retarget(other.host, other.port)
    with connect(other, port=between.port) as connection:
        assert value(connection, "SELECT @@wait_timeout") == 11


def test_haproxy_closes_an_idle_connection(haproxy: Callable[..., HAProxy], server: Server) -> None:
    balancer = haproxy(client_timeout=0.5)
    connection = connect(server, port=balancer.port)
    stream = connection._sock  # type: ignore[attr-defined]
    stream.settimeout(5)
    # MySQL has been seen to send an error packet on the way out; then the stream ends.
    while stream.recv(1000):
        pass
    connection._force_close()  # type: ignore[attr-defined]


def test_haproxy_switches_to_its_spare(
    haproxy: Callable[..., HAProxy], server: Server, own_server: Callable[..., Server]
) -> None:
    spare = own_server()
    balancer = haproxy(server, spare)
    old = connect(server, port=balancer.port)
    balancer.disable("db1")
    assert value(old, "SELECT @@port") == server.port
    balancer.shutdown_sessions("db1")
    with pytest.raises(pymysql.err.OperationalError):
        value(old, "SELECT 1")
    with connect(spare, port=balancer.port) as connection:
        assert value(connection, "SELECT @@port") == spare.port
    balancer.enable("db1")
    balancer.restart()
    with connect(server, port=balancer.port) as connection:
        assert value(connection, "SELECT @@port") == server.port
    with pytest.raises(ServersError, match="refused"):
        balancer.disable("db9")


@pytest.mark.netns
def test_namespace_drops_one_client_and_serves_the_next(
    namespace: Namespace, own_server: Callable[..., Server]
) -> None:
    server = own_server(host=namespace.address, namespace=namespace.name)
    connection = connect(server, read_timeout=1)
    namespace.drop_client(connection._sock.getsockname()[1])  # type: ignore[attr-defined]
    with pytest.raises(pymysql.err.OperationalError, match="timed out"):
        value(connection, "SELECT 1")
    with connect(server) as connection:
        assert value(connection, "SELECT 1") == 1
    namespace.drop_all()
    with pytest.raises(pymysql.err.OperationalError, match="timed out"):
        connect(server, connect_timeout=1)
    namespace.restore()
    with connect(server) as connection:
        assert value(connection, "SELECT 1") == 1
