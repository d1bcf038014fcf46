"""`manage.py mysql_recycle --prove`: a connection is lost and replaced before the eyes of the user."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest
from django.core.management import CommandError, call_command

from django_mysql_recycle import liveness
from django_mysql_recycle.diagnosis.proof import prove
from django_mysql_recycle.drivers import choose
from django_mysql_recycle.management.commands.mysql_recycle import Command
from servers import HAProxy, Server
from servers.machine import free_port

from .admin import Admin
from .connections import STOCK, ConnectionFactory
from .queries import kill, run
from .test_command import Outcome, wait_until_closed


def test_proof_shows_a_new_connection_and_what_it_cost(
    make_connection: ConnectionFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "django_mysql_recycle")
    outcome = Outcome(make_connection().alias, json=True, prove=True)
    proof = outcome.alias["proof"]
    assert outcome.status == 0, outcome.out
    assert proof["outcome"] == "proven"
    assert proof["connection_id_after"] != proof["connection_id_before"]
    assert proof["closed"] is True
    assert proof["reason"] == "closed"
    assert proof["waited"] >= 1.9
    assert proof["next_ms"] > proof["statement_ms"] > 0
    assert proof["control"]["code"] in (2006, 2013, 4031)  # the stock backend fails
    lines = outcome.err.splitlines()
    assert len(lines) >= 2 and all("waiting for the server to close" in line for line in lines)
    assert not set(outcome.err) & {"\r", "\x1b", "\b"}
    # The report says it; the project's log may be on stdout, and may cause an alarm.
    assert [record.getMessage() for record in caplog.records] == []


def test_status_is_1_where_nothing_was_proved(make_connection: ConnectionFactory) -> None:
    stock = make_connection(STOCK).alias
    away = make_connection(PORT=free_port(), recycle={"connect_retries": 0}).alias
    for fail_on in ("warning", "never"):
        outcome = Outcome(stock, prove=True, fail_on=fail_on)
        assert (outcome.status, outcome.error) == (
            1,
            "nothing was proved: no alias is on this backend",
        )
        assert outcome.out.splitlines()[0] == f"ok, 1 note (1 alias); {outcome.error}"
    outcome = Outcome(away, prove=True, fail_on="never")
    assert (outcome.status, outcome.error) == (1, f"not proved: {away}")


def test_alias_with_a_pool_is_proved(make_connection: ConnectionFactory) -> None:
    outcome = Outcome(make_connection(options={"pool": True}).alias, json=True, prove=True)
    assert outcome.status == 0, outcome.out
    assert outcome.alias["proof"]["outcome"] == "proven"
    assert outcome.alias["proof"]["control"]["code"] in (2006, 2013, 4031)


def test_connection_that_was_not_closed_proves_nothing(make_connection: ConnectionFactory) -> None:
    # A second too short for the server.
    proof = prove(
        make_connection(), make_connection(STOCK), choose(), lambda *_: None, patience=-1.5
    )
    assert proof.outcome == "inconclusive"
    assert proof.closed is False
    assert proof.connection_id_after == proof.connection_id_before
    assert "still works after its wait_timeout" in proof.explanation


def test_connection_that_only_ours_replaced_proves_nothing(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    ours, stock = make_connection(), make_connection(STOCK)

    def kill_ours(waited: float, _at_most: float) -> None:
        if not waited or not killed:
            killed.append(1)
            admin.kill(ours.connection.thread_id())

    killed: list[int] = []
    proof = prove(ours, stock, choose(), kill_ours, patience=-1.5)
    assert proof.outcome == "inconclusive"
    assert "the connection of the stock backend still works" in proof.explanation


def test_proof_needs_a_witness(
    make_connection: ConnectionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "_look", None)  # no one sees a connection being closed
    ours, stock = make_connection(), make_connection(STOCK, PASSWORD="another")
    proof = prove(ours, stock, choose(), lambda *_: None, wait_timeout=1, patience=0.2)
    assert proof.closed is None
    assert proof.connection_id_after != proof.connection_id_before
    assert proof.outcome == "inconclusive"


def test_recycle_of_another_connection_is_not_taken_for_that_of_the_proof(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    ours, stock, third = make_connection(), make_connection(STOCK), make_connection()

    def meanwhile(waited: float, _at_most: float) -> None:
        if not waited < 0.3:
            kill(admin, third)
            run(third, "DO 0")

    proof = prove(ours, stock, choose(), meanwhile, patience=-1.5)
    assert proof.reason == ""


def test_interrupted_proof_is_an_error_with_the_status_of_ctrl_c(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    class Impatient(io.StringIO):
        def write(self, text: str) -> int:
            raise KeyboardInterrupt

    before = admin.connection_ids()
    alias = make_connection().alias
    with pytest.raises(CommandError, match="interrupted") as error:
        call_command(
            Command(), database=alias, prove=True, stdout=io.StringIO(), stderr=Impatient()
        )
    assert error.value.returncode == 130
    wait_until_closed(admin, before)


def test_proof_says_which_end_closed_first(
    make_connection: ConnectionFactory, haproxy: Callable[..., HAProxy]
) -> None:
    balancer = haproxy(client_timeout=1, server_timeout=1)
    ours, stock = make_connection(via=balancer), make_connection(STOCK, via=balancer)
    proof = prove(ours, stock, choose(), lambda *_: None)
    assert (proof.outcome, proof.closed) == ("proven", True)
    assert proof.waited < 1.9


def test_proof_that_fails_says_so(
    make_connection: ConnectionFactory, own_server: Callable[..., Server]
) -> None:
    server = own_server()

    class Saboteur(io.StringIO):
        def write(self, text: str) -> int:
            server.destroy()
            return len(text)

    alias = make_connection(server=server, recycle={"connect_retries": 0}).alias
    out = io.StringIO()
    with pytest.raises(CommandError, match=f"{alias}: 1 error") as error:
        call_command(
            Command(), database=alias, prove=True, json=True, stdout=out, stderr=Saboteur()
        )
    assert error.value.returncode == 1
    (reported,) = json.loads(out.getvalue())["aliases"]
    assert [found["id"] for found in reported["findings"]] == ["django_mysql_recycle.proof_failed"]
    assert reported["proof"]["outcome"] == "failed"
    assert "OperationalError" in reported["proof"]["explanation"]
    assert (reported["proof"]["connection_id_after"], reported["proof"]["next_ms"]) == (None, None)


def test_proof_works_with_autocommit_off_and_without_a_control_that_cannot_connect(
    make_connection: ConnectionFactory,
) -> None:
    ours = make_connection(AUTOCOMMIT=False)
    stock = make_connection(STOCK, PASSWORD="another")
    proof = prove(ours, stock, choose(), lambda *_: None, wait_timeout=1)
    assert (proof.outcome, proof.control) == ("proven", None)
    run(ours, "DO 0")  # closed, and may be used again
