"""`manage.py mysql_recycle` on real servers, called from Django."""

from __future__ import annotations

import io
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.db.backends.signals import connection_created
from django.db.utils import ConnectionHandler, OperationalError

from django_mysql_recycle import counters, liveness, network_path
from django_mysql_recycle.diagnosis import findings
from django_mysql_recycle.diagnosis import path as diagnosis_path
from django_mysql_recycle.diagnosis.schema import schema
from django_mysql_recycle.drivers import choose
from django_mysql_recycle.management.commands.mysql_recycle import Command
from django_mysql_recycle.server_facts import read
from servers import FaultProxy, Server
from servers.certificates import make_certificates
from servers.machine import free_port

from .acts import receiving
from .admin import Admin
from .connections import OURS, STOCK, Connection, ConnectionFactory
from .queries import connection_id, kill, run, settle

PASSWORD = "Plainly-Visible-7319"
"""Nothing that is printed may contain it."""


class Outcome:
    """What one call of the command printed, and how it ended."""

    def __init__(self, *aliases: str, **options: Any) -> None:
        out, err = io.StringIO(), io.StringIO()
        self.status, self.error = 0, ""
        try:
            # By its class: the settings of the tests do not list the app.
            call_command(
                Command(), database=list(aliases) or None, stdout=out, stderr=err, **options
            )
        except CommandError as error:
            self.status, self.error = error.returncode, str(error)
        self.out, self.err = out.getvalue(), err.getvalue()

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.out)
        return document

    @property
    def alias(self) -> dict[str, Any]:
        (alias,) = self.document["aliases"]
        found: dict[str, Any] = alias
        return found

    @property
    def found(self) -> dict[str, dict[str, Any]]:
        return {found["id"].partition(".")[2]: found for found in self.alias["findings"]}


def wait_until_closed(admin: Admin, before: set[int]) -> None:
    """Return once the server has no other connections than those of `before`."""
    deadline = time.monotonic() + 5
    while admin.connection_ids() - before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def add_alias() -> Iterator[Callable[..., str]]:
    """`add_alias(ENGINE=..., ...)`: an entry in DATABASES that need not work."""
    added: list[str] = []

    def add(**database: Any) -> str:
        alias = f"added_{len(added)}"
        connections.settings[alias] = ConnectionHandler({"default": database}).settings["default"]
        added.append(alias)
        return alias

    yield add
    for alias in added:
        connections.settings.pop(alias, None)


# ##### What it reports #####


def test_report_is_that_of_the_server_and_of_the_socket(
    make_connection: ConnectionFactory,
    transport: Any,
    server: Server,
    driver: str,
    vendor: str,
    admin: Admin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(findings, "SLOW_TLS", 5000)  # a busy machine connects slowly
    recycle = {} if transport == "socket" else {"keepalive": 7, "network_timeout": 12}
    connection = make_connection(transport=transport, recycle=recycle, CONN_MAX_AGE=90)
    outcome = Outcome(connection.alias, json=True)
    reported = outcome.alias
    assert outcome.status == 0, outcome.out
    jsonschema.validate(outcome.document, schema())
    assert outcome.document["environment"]["driver"]["name"] == driver
    assert reported["server"]["vendor"] == vendor
    assert reported["server"]["version"] == admin.value("SELECT VERSION()")
    assert reported["server"]["wait_timeout"] == 28800
    assert reported["idle_limit"] == {
        "seconds": 28770,
        "shortest": 28770,
        "reason": "wait_timeout 28800 s less 30 s",
    }
    assert (reported["max_age"]["seconds"], reported["max_age"]["shortest"]) == (90, 85.5)
    # The same as of a connection that the application opens with these settings.
    connection.ensure_connection()
    descriptor = choose().descriptor(connection.connection)
    assert descriptor is not None
    kernel = {option["name"]: option["found"] for option in reported["kernel"]}
    options = network_path.options_of(descriptor)
    assert kernel == ({} if options is None else options._asdict())
    if transport == "socket":
        assert reported["transport"]["address"] == server.socket
    else:
        assert reported["transport"]["address"] == f"127.0.0.1:{server.port}"
        assert kernel["TCP_KEEPIDLE"] == 7
        assert kernel["TCP_USER_TIMEOUT"] == 12000
        assert all(option["asked"] == option["found"] for option in reported["kernel"])
    assert reported["tls"]["version"] == ("TLSv1.3" if transport == "tls" else "")
    if transport == "tls":
        assert reported["tls"]["verified"].startswith("certificate")
    assert 0 < reported["cost"]["liveness_check_us"] < reported["cost"]["ping_ms"] * 1000
    assert reported["findings"] == []


def test_table_says_the_same_within_its_width(make_connection: ConnectionFactory) -> None:
    outcome = Outcome(make_connection().alias)
    assert outcome.status == 0
    assert "\n  idle limit          28770 s (wait_timeout 28800 s less 30 s)\n" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 100
    assert "\x1b" not in outcome.out


def test_it_opens_its_own_connections_and_closes_them(connection: Connection, admin: Admin) -> None:
    with transaction.atomic(using=connection.alias):
        mine = connection_id(connection)
        before = counters()
        assert Outcome(connection.alias, json=True).alias["server"]["connection_id"] != mine
        assert connection_id(connection) == mine
        assert connection.in_atomic_block
    assert counters() == before
    wait_until_closed(admin, {mine})


def test_table_names_what_is_ignored(
    make_connection: ConnectionFactory,
    add_alias: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lite = add_alias(ENGINE="django.db.backends.sqlite3", NAME=":memory:")
    mine = make_connection().alias
    for alias in {*connections.settings} - {lite, mine}:
        monkeypatch.delitem(connections.settings, alias)
    ignored = f"\nNot on MySQL or MariaDB: {lite} (django.db.backends.sqlite3)\n"
    assert ignored in Outcome().out
    assert ignored not in Outcome(mine).out
    monkeypatch.delitem(connections.settings, mine)
    nothing = Outcome()
    assert (nothing.status, nothing.out.splitlines()[0]) == (0, "No alias is on MySQL or MariaDB.")


def test_alias_on_the_stock_backend_is_named_as_such(make_connection: ConnectionFactory) -> None:
    outcome = Outcome(make_connection(STOCK, options={"connect_timeout": 3}).alias, json=True)
    assert outcome.status == 0  # a note
    assert list(outcome.found) == ["stock_backend"]
    assert outcome.found["stock_backend"]["hint"] == "Set ENGINE to 'django_mysql_recycle'."
    assert outcome.alias["guarded"] is False
    assert all(option["asked"] is None for option in outcome.alias["kernel"])


@pytest.mark.parametrize("engine", ["proxied", "instrumented", "subclassed"])
def test_backend_that_is_made_from_ours_is_reported(
    make_connection: ConnectionFactory, engine: str
) -> None:
    outcome = Outcome(make_connection(f"tests.backends.{engine}").alias, json=True)
    assert outcome.alias["guarded"] is True
    assert outcome.alias["findings"] == []
    assert outcome.alias["kernel"] and outcome.alias["cost"]


def test_options_of_ours_on_the_stock_backend_are_reported(
    make_connection: ConnectionFactory,
) -> None:
    outcome = Outcome(make_connection(STOCK, recycle={"idle_limit": 5}).alias, json=True)
    assert {"E003", "unreachable"} <= outcome.found.keys()
    assert outcome.status == 1
    alone = Outcome(outcome.alias["alias"], json=True, skip_checks=True)
    assert alone.found.keys() == {"stock_backend", "unreachable"}


def test_aliases_on_other_databases_are_ignored(
    make_connection: ConnectionFactory, add_alias: Callable[..., str]
) -> None:
    lite = add_alias(ENGINE="django.db.backends.sqlite3", NAME=":memory:")
    strange = add_alias(ENGINE="nowhere")
    mine = make_connection().alias
    ignored = [
        {"alias": lite, "engine": "django.db.backends.sqlite3"},
        {"alias": strange, "engine": "nowhere"},
    ]
    assert Outcome(mine, json=True).document["ignored"] == ignored
    with pytest.raises(CommandError, match="whose ENGINE is django") as error:
        call_command(Command(), database=lite)
    assert error.value.returncode == 2
    with pytest.raises(CommandError, match=f"one of .*{mine}") as error:
        call_command(Command(), database=["nope"])
    assert error.value.returncode == 2


# ##### What it finds #####


def test_unreachable_alias_is_a_finding_and_the_others_are_reported(
    make_connection: ConnectionFactory, driver: str
) -> None:
    unreachable = make_connection(PORT=free_port(), recycle={"connect_retries": 0})
    outcome = Outcome(unreachable.alias, make_connection().alias, json=True)
    first, second = outcome.document["aliases"]
    (found,) = first["findings"]
    assert found["id"] == "django_mysql_recycle.unreachable"
    assert ("2002" if driver == "mysqlclient" else "2003") in found["message"]
    assert found["hint"].startswith("No answer from this address")
    assert (first["reachable"], second["reachable"]) == (False, True)
    assert (outcome.status, outcome.error) == (1, f"{unreachable.alias}: 1 error")


def test_host_that_does_not_answer_is_reported_as_such(
    make_connection: ConnectionFactory, engine: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:  # accepts and sends no greeting
        port = listening.getsockname()[1]
        alias = make_connection(
            engine, PORT=port, transport="tls", options={"connect_timeout": 2}
        ).alias
        outcome = Outcome(alias, skip_checks=True)
    assert (outcome.status, outcome.error) == (1, f"{alias}: 1 error")
    received = " ".join(outcome.out.split())
    assert f"127.0.0.1:{port} did not answer within 2 s: OperationalError: (" in received
    assert "(django_mysql_recycle.no_answer)" in received
    assert outcome.err == f"{alias}: no answer from 127.0.0.1:{port} yet\n"


def test_quiet_prints_what_makes_it_fail_and_nothing_else(
    make_connection: ConnectionFactory,
) -> None:
    well, stock = make_connection().alias, make_connection(STOCK).alias
    away = make_connection(PORT=free_port(), recycle={"connect_retries": 0, "jitter": 0.1}).alias
    assert Outcome(well, stock, quiet=True).out == ""
    outcome = Outcome(well, stock, away, quiet=True)
    assert outcome.out.startswith(
        f"{away} (django_mysql_recycle, not connected): 1 error, 1 warning"
    )
    assert "W006" in outcome.out and "stock_backend" not in outcome.out
    assert "driver" not in outcome.out.splitlines()[-1] and outcome.err == ""
    assert "W006" not in Outcome(away, quiet=True, fail_on="error").out


@pytest.mark.parametrize(
    ("level", "statuses"),
    [
        ("error", [0, 0, 1]),
        ("warning", [0, 1, 1]),
        ("note", [1, 1, 1]),
        ("never", [0, 0, 0]),
    ],
)
def test_least_level_that_makes_it_fail_can_be_chosen(
    make_connection: ConnectionFactory, level: str, statuses: list[int]
) -> None:
    noted = make_connection(STOCK)
    warned = make_connection(recycle={"jitter": 0.1})
    wrong = make_connection(recycle={"jitter": 2})
    found = [Outcome(one.alias, fail_on=level).status for one in (noted, warned, wrong)]
    assert found == statuses


def test_pool_is_shown_and_not_used(make_connection: ConnectionFactory, admin: Admin) -> None:
    alias = make_connection(options={"pool": {"max_size": 4}}).alias
    outcome = Outcome(alias, json=True)
    assert outcome.status == 0, outcome.out
    assert outcome.alias["pool"]["max_size"] == 4
    assert outcome.alias["max_age"]["seconds"] == 3600
    wait_until_closed(admin, set())  # nothing was left in a pool
    assert "4 connections at most" in Outcome(alias).out


def test_verdict_is_the_first_line(make_connection: ConnectionFactory) -> None:
    well, wrong = make_connection().alias, make_connection(recycle={"jitter": 2}).alias
    assert Outcome(well).out.splitlines()[0] == "ok (1 alias)"
    outcome = Outcome(well, wrong)
    assert outcome.out.splitlines()[0] == "1 error (2 aliases)"
    assert f"\n{well} (django_mysql_recycle): ok\n" in outcome.out


@pytest.mark.parametrize("options", [{}, {"json": True}])
def test_password_never_appears(
    make_connection: ConnectionFactory, admin: Admin, options: dict[str, Any]
) -> None:
    admin.rows("CREATE USER IF NOT EXISTS visible@'127.0.0.1' IDENTIFIED BY %s", PASSWORD)
    admin.rows("GRANT SELECT ON recycle.* TO visible@'127.0.0.1'")
    try:
        right = make_connection(transport="tls", USER="visible", PASSWORD=PASSWORD)
        wrong = make_connection(transport="tls", USER="visible", PASSWORD=PASSWORD + "!")
        outcome = Outcome(right.alias, wrong.alias, **options)
    finally:
        admin.rows("DROP USER visible@'127.0.0.1'")
    assert outcome.error == f"{wrong.alias}: 1 error"
    assert "Access denied for user 'visible'@" in " ".join(outcome.out.split())
    assert PASSWORD not in outcome.out + outcome.err + outcome.error


def test_user_without_privileges_gets_the_whole_report(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    admin.rows("CREATE USER IF NOT EXISTS bare@'127.0.0.1' IDENTIFIED BY 'bare'")
    try:
        connection = make_connection(transport="tls", USER="bare", PASSWORD="bare", NAME="")
        # Django asks for a NAME or an option file; the latter may name no database.
        connection.settings_dict["OPTIONS"]["read_default_group"] = "client"
        connection.settings_dict["NAME"] = "information_schema"
        outcome = Outcome(connection.alias, json=True)
    finally:
        admin.rows("DROP USER bare@'127.0.0.1'")
    assert outcome.status == 0, outcome.out
    assert outcome.alias["server"]["wait_timeout_global"] == 28800
    assert outcome.alias["server"]["client_port"] == outcome.alias["transport"]["local_port"]


@pytest.fixture
def tired(admin: Admin) -> Iterator[Callable[[int], dict[str, Any]]]:
    """`tired(50)`: the settings of an account that may ask so many questions."""

    def create(questions: int) -> dict[str, Any]:
        admin.rows("DROP USER IF EXISTS tired@'127.0.0.1'")
        admin.rows(
            "CREATE USER tired@'127.0.0.1' IDENTIFIED BY 'tired'"
            f" WITH MAX_QUERIES_PER_HOUR {questions}"
        )
        admin.rows("GRANT SELECT ON recycle.* TO tired@'127.0.0.1'")
        return {"transport": "tls", "USER": "tired", "PASSWORD": "tired"}

    yield create
    admin.rows("DROP USER IF EXISTS tired@'127.0.0.1'")


def test_connection_that_is_killed_at_once_is_an_error(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    def end(connection: Connection, **kwargs: Any) -> None:
        admin.kill(connection.connection.thread_id())
        settle()

    alias = make_connection(STOCK).alias
    with receiving(connection_created, end):
        outcome = Outcome(alias, json=True)
    assert outcome.found.keys() == {"stock_backend", "lost"}
    assert outcome.status == 1


@pytest.mark.parametrize("questions", [6, 14])
def test_server_that_refuses_to_answer_is_a_finding(
    make_connection: ConnectionFactory,
    tired: Callable[[int], dict[str, Any]],
    questions: int,
) -> None:
    outcome = Outcome(make_connection(**tired(questions)).alias, json=True)
    assert outcome.status == 1
    assert outcome.found.keys() == {"refused"} or questions == 6
    assert outcome.found["refused"]["level"] == "warning"
    assert "1226" in outcome.found["refused"]["message"]
    assert outcome.alias["reachable"] is True


def test_what_the_server_refuses_is_noted_and_its_greeting_still_names_it(
    make_connection: ConnectionFactory, tired: Callable[[int], dict[str, Any]], vendor: str
) -> None:
    connection = make_connection(STOCK, **tired(50))
    with pytest.raises(OperationalError, match="1226"):
        for _ in range(60):
            run(connection, "DO 0")
    facts = read(connection)
    assert facts.vendor == vendor
    assert facts.version
    assert [code for code, _text in facts.refusals] == [1226] * 6
    assert (facts.wait_timeout, facts.connection_id, facts.read_only) == (None, None, ())


def test_connection_that_is_lost_while_it_is_asked_is_no_refusal(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    stock = make_connection(STOCK)
    kill(admin, stock)
    with pytest.raises(OperationalError, match=r"20(06|13|26)"):
        read(stock)


def test_ping_that_is_not_answered_ends(
    connection: Connection, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.ensure_connection()
    server.pause()
    with pytest.raises(TimeoutError, match=r"no answer to a ping within 0\.1 s"):
        diagnosis_path.measure(choose(), connection.connection, 0.1)
    server.resume()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recycle": {"ping_afer": 3}}, "unknown key 'ping_afer'"),
        ({"recycle": {"idle_limit": True}}, "expected seconds > 0, or None, got True"),
    ],
)
def test_setting_that_cannot_be_used_is_reported_and_the_others_as_well(
    make_connection: ConnectionFactory, options: dict[str, Any], message: str
) -> None:
    broken, sound = make_connection(options=options), make_connection()
    outcome = Outcome(broken.alias, sound.alias, json=True, skip_checks=True)
    first, second = outcome.document["aliases"]
    assert [found["id"] for found in first["findings"]] == ["django_mysql_recycle.E001"]
    assert message in first["findings"][0]["message"]
    assert second["reachable"] is True


def test_max_age_that_json_cannot_hold_is_null(
    make_connection: ConnectionFactory,
) -> None:
    outcome = Outcome(make_connection(CONN_MAX_AGE=float("nan")).alias, json=True)
    (report,) = outcome.document["aliases"]
    assert report["conn_max_age"] is None
    assert [found["id"] for found in report["findings"]] == ["django_mysql_recycle.E001"]
    outcome = Outcome(make_connection(CONN_MAX_AGE=float("inf")).alias, json=True)
    (report,) = outcome.document["aliases"]
    assert (report["reachable"], report["conn_max_age"]) == (True, None)


def test_nonsense_in_the_settings_is_a_finding(
    make_connection: ConnectionFactory, add_alias: Callable[..., str]
) -> None:
    stranger = make_connection(options={"no_such_argument": 1})
    assert "no_such_argument" in Outcome(stranger.alias, json=True).found["unreachable"]["message"]
    lost = add_alias(ENGINE="django_mysql_recycle.nowhere")
    assert list(Outcome(lost, json=True).found) == ["not_loaded"]
    listed = add_alias(ENGINE=OURS, NAME="recycle", OPTIONS=["a list"])
    assert list(Outcome(listed, json=True).found) == ["E001"]


def test_socket_that_other_code_changes_is_a_finding(make_connection: ConnectionFactory) -> None:
    alias = make_connection().alias

    def meddle(connection: Connection, **kwargs: Any) -> None:
        descriptor = choose().descriptor(connection.connection)
        assert descriptor is not None
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 7200)

    with receiving(connection_created, meddle):
        outcome = Outcome(alias, json=True)
    assert outcome.found["kernel_differs"]["message"] == (
        "TCP_KEEPIDLE: the backend set 10, but the kernel reports 7200."
    )
    assert outcome.status == 1


def test_session_that_differs_is_a_note(make_connection: ConnectionFactory) -> None:
    connection = make_connection(options={"init_command": "SET SESSION wait_timeout = 77"})
    outcome = Outcome(connection.alias, json=True)
    assert outcome.status == 0
    assert (
        "77 s in this session and 28800 s globally" in outcome.found["session_differs"]["message"]
    )
    assert "OPTIONS['init_command']" in outcome.found["session_differs"]["message"]
    assert outcome.alias["idle_limit"]["seconds"] == 77 - 7.7


def test_proxy_on_the_way_is_a_note(
    make_connection: ConnectionFactory, proxy: Callable[..., FaultProxy]
) -> None:
    through = make_connection(via=proxy())
    outcome = Outcome(through.alias, json=True)
    assert outcome.status == 0
    assert "the server sees port" in outcome.found["proxy"]["message"]
    known = make_connection(via=proxy(), recycle={"idle_limit": 60})
    assert Outcome(known.alias, json=True).found == {}


def test_what_the_system_checks_say_is_among_the_findings(
    make_connection: ConnectionFactory, admin: Admin, settings: Any
) -> None:
    admin.set_global("read_only", 1)
    alias = make_connection(recycle={"jitter": 0.1}).alias  # CONN_MAX_AGE sets no limit on age
    outcome = Outcome(alias, json=True, skip_checks=False)
    assert outcome.alias["server"]["read_only"] == ["read_only"]
    assert {"W006", "W104"} <= outcome.found.keys()
    assert outcome.status == 1
    settings.SILENCED_SYSTEM_CHECKS = ["django_mysql_recycle.W006", "django_mysql_recycle.W104"]
    assert Outcome(alias, json=True).found == {}
    settings.SILENCED_SYSTEM_CHECKS = []
    assert Outcome(alias, json=True, skip_checks=True).found == {}


def test_tls_without_an_authority_is_reported_with_what_it_costs(
    make_connection: ConnectionFactory, driver: str
) -> None:
    tls: dict[str, Any] = {"ssl": {}} if driver == "pymysql" else {"ssl_mode": "REQUIRED"}
    connection = make_connection(transport="tls")
    connection.settings_dict["OPTIONS"] = tls
    outcome = Outcome(connection.alias, json=True, skip_checks=True)
    assert "tls_unverified" in outcome.found, outcome.out
    # Connector/C loads all authorities of the system for each connection. How long that takes
    # depends on OpenSSL: 3.0 needs more than SLOW_TLS, 3.5 does not.
    cost = outcome.alias["cost"]
    slow = cost["connect_ms"] - 6 * cost["ping_ms"] > findings.SLOW_TLS
    assert ("tls_connect_cost" in outcome.found) == slow, outcome.out
    assert outcome.status == 0


def test_authority_that_is_named_is_verified_against_as_the_report_says(
    make_connection: ConnectionFactory, driver: str, tmp_path: Path
) -> None:
    another = {"ssl": {"ca": str(make_certificates(tmp_path / "tls", "127.0.0.1").ca)}}
    if driver == "mysqlclient":
        another["ssl_mode"] = "REQUIRED"
    connection = make_connection(transport="tls", options=another)
    outcome = Outcome(connection.alias, json=True)
    assert "certificate" in outcome.found["unreachable"]["message"]


def test_certificates_that_are_loaded_each_time_are_reported_once(
    make_connection: ConnectionFactory,
) -> None:
    connection = make_connection(transport="tls")
    connection.settings_dict["OPTIONS"] = {"ssl_mode": "REQUIRED"}
    if choose().name == "mysqlclient":
        found = Outcome(connection.alias, json=True, skip_checks=False).found
        assert "I001" in found and "tls_connect_cost" not in found


def test_system_that_lacks_something_is_a_note(
    make_connection: ConnectionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(network_path._OPTIONS, "TCP_USER_TIMEOUT")
    monkeypatch.setattr(liveness, "_look", None)
    outcome = Outcome(make_connection().alias, json=True)
    assert outcome.status == 0
    assert outcome.found["platform_lacks"]["message"] == (
        "This system lacks poll, TCP_USER_TIMEOUT."
    )
    assert outcome.alias["cost"]["liveness_check_us"] is None
    assert outcome.document["environment"]["missing_guards"] == ["poll", "TCP_USER_TIMEOUT"]
