"""docs/performance.md comes of measures that run, and of numbers that would show it if it were otherwise."""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.facts import ROOT
from benchmarks.load import Clients
from benchmarks.measure import Run, environment_of
from benchmarks.memory import Failed, slope, watch
from benchmarks.storm import bins_of
from servers import Server

from ..choice import DRIVER, VENDOR

Rows = dict[str, dict[str, Any]]


def quick_run(measure: str, server: Server) -> Rows:
    """The rows of a quick run, by case and transport."""
    command = [sys.executable, "-m", f"benchmarks.{measure}", "--driver", DRIVER]
    result = subprocess.run(
        [*command, "--server", VENDOR, "--quick"],
        cwd=ROOT,
        env={**os.environ, **environment_of(server)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(row["driver"] == DRIVER and row["server"] == VENDOR for row in rows)
    return {f"{row['case']}, {row['transport']}": row for row in rows}


@pytest.mark.timeout(120)
def test_recovery_is_timed_for_each_death_and_transport(server: Server) -> None:
    rows = quick_run("recovery", server)
    for death in ("idle past wait_timeout", "KILL", "restart", "crash (SIGKILL) and start"):
        for transport in ("tcp", "tls", "socket"):
            row = rows[f"{death}, {transport}"]
            assert row["values"]["ours"]["median"] > 0
            assert "x a row" not in row["note"]  # the control: stock fails, and fails again
    if VENDOR == "mariadb":
        values = rows["unresponsive network, idle for longer than ping_after, tcp"]["values"]
        assert values["ours"]["high"] < values["stock, still waiting after"]["median"]


@pytest.mark.timeout(120)
def test_requests_that_fail_are_counted_beside_the_speed(server: Server) -> None:
    rows = quick_run("throughput", server)
    bursts = "gunicorn gthread, bursts, wait_timeout 1 s: "
    failed = rows[bursts + "requests that failed, tcp"]["values"]
    assert failed["ours, persistent"]["median"] == 0
    assert failed["stock, persistent"]["median"] > 0
    speed = rows[bursts + "requests, tcp"]["values"]
    assert min(one["median"] for one in speed.values()) > 0


@pytest.mark.timeout(120)
def test_storm_is_counted_by_the_server(server: Server) -> None:
    (row,) = [row for row in quick_run("storm", server).values() if "series" in row]
    for name, curve in row["series"].items():
        # Two lives of 20 connections; the administrator's is not in it.
        assert 20 <= sum(y for _, y in curve) * 0.1 <= 80, name


@pytest.mark.timeout(120)
def test_memory_is_watched_over_statements_and_recycles(server: Server) -> None:
    counted = [row for row in quick_run("memory", server).values() if "count" in row["case"]]
    assert [row["transport"] for row in counted] == ["socket", "socket", "tls"]
    for row in counted:
        assert row["values"]["descriptors"]["median"] == 0
        assert row["values"]["threads"]["median"] == 0


# What the numbers are made with.


def test_growth_fails_the_measure(server: Server) -> None:
    run, left = Run("memory", DRIVER, server), []

    def leak(first: int, last: int) -> None:
        left.extend([number] for number in range(first, last))

    with pytest.raises(Failed, match="grows by"):
        list(watch(run, "statements", leak, 100_000, 100_000))


def test_no_growth_passes_the_measure(server: Server) -> None:
    gc.collect()
    assert (
        len(list(watch(Run("memory", DRIVER, server), "statements", range, 1_000_000, 1000))) == 2
    )


def test_slope_of_a_line_is_exact_and_of_noise_uncertain() -> None:
    line = slope([(x, 3 + 2 * x) for x in range(10)])
    assert line["median"] == line["low"] == line["high"] == 2
    noise = slope([(x, x % 2) for x in range(10)])
    assert noise["low"] < 0 < noise["high"]


def test_connections_are_spread_over_the_bins_in_which_they_came() -> None:
    counted = [(0.0, 10), (0.1, 10), (0.2, 30), (0.4, 50), (0.41, 50)]
    assert [(end, round(number)) for end, number in bins_of(counted, 0.1)] == [
        (0.1, 0),
        (0.2, 20),
        (0.3, 10),
        (0.4, 10),
    ]


@pytest.fixture
def web_server() -> Iterator[int]:
    """Answers in turn: 200 and keeps the connection, 500, 200 and closes, nothing at all."""
    answers = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 6\r\n\r\nfailed",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\none",
        b"",
    ]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            turn = 0
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    while peer.recv(4096):
                        answer = answers[turn % 4]
                        turn += 1
                        peer.sendall(answer)
                        if b"Length" not in answer:
                            break

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_load_generator_distinguishes_success_from_each_kind_of_failure(web_server: int) -> None:
    with Clients(web_server, 1) as clients:
        load = clients.burst(0)
        for _ in range(7):
            load.add(clients.burst(0))
    assert load.requests == 8
    assert len(load.latencies) == 4
    assert load.failures == {"HTTP 500 failed": 2, "cut short": 2}
