"""TLS that the settings ask for and the server does not offer: reported, and never taken for granted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import OperationalError, connections

from servers import FaultProxy, Server

from .connections import OURS, STOCK, ConnectionFactory
from .test_command import Outcome
from .test_tls import WITHOUT_TLS, cipher

ASKING: dict[str, dict[str, Any]] = {
    "REQUIRED": {"ssl_mode": "REQUIRED"},
    "ca": {"ssl": {"ca": "{ca}"}},
    "REQUIRED and ca": {"ssl_mode": "REQUIRED", "ssl": {"ca": "{ca}"}},
    "True": {"ssl": True},
    "cipher": {"ssl": {"cipher": "AES256-SHA"}},
    "file, ca": {"read_default_file": "ssl-ca={ca}"},
    "file, enforce": {"read_default_file": "ssl-enforce=1"},
}
NOT_ASKING: dict[str, dict[str, Any]] = {
    "nothing": {},
    "PREFERRED": {"ssl_mode": "PREFERRED"},
    "PREFERRED and ca": {"ssl_mode": "PREFERRED", "ssl": {"ca": "{ca}"}},
    "DISABLED": {"ssl_mode": "DISABLED"},
    "empty": {"ssl": {}},
    "file, nothing": {"read_default_file": "ssl-ca="},
}


@pytest.fixture
def server_without_tls(
    own_server: Callable[..., Server], make_connection: ConnectionFactory, vendor: str
) -> Server:
    server = own_server(**WITHOUT_TLS[vendor])
    # With TLS asked for, Connector/C cannot log in to MySQL in the clear unless the server knows
    # the password already.
    connection = make_connection(server=server)
    connection.ensure_connection()
    connection.close()
    return server


@pytest.fixture
def alias(make_connection: ConnectionFactory, tmp_path: Path, driver: str) -> Callable[..., Any]:
    def make(given: dict[str, Any], server: Server, **more: Any) -> Any:
        """A connection with exactly these options."""
        connection = make_connection(server=server, **more)
        options = dict(given)
        if tls := options.get("ssl"):
            if isinstance(tls, dict):
                options["ssl"] = {key: _filled(part, server) for key, part in tls.items()}
        if "read_default_file" in options:
            path = tmp_path / "my.cnf"
            path.write_text(f"[client]\n{_filled(options['read_default_file'], server)}\n")
            options["read_default_file"] = str(path)
        for settings in (connection.settings_dict, connections.settings[connection.alias]):
            settings["OPTIONS"] = options
        return connection

    return make


def _filled(text: str, server: Server) -> str:
    return text.replace("{ca}", str(server.ca))


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.ERROR and "not encrypted" in record.getMessage()
    ]


def check_ids(alias: str) -> list[str]:
    messages = run_checks(databases=[alias])
    found = [message for message in messages if f"'{alias}'" in str(message.msg)]
    return [str(message.id).partition(".")[2] for message in found]


@pytest.fixture
def only_mysqlclient(driver: str) -> None:
    if driver != "mysqlclient":
        pytest.skip("PyMySQL refuses to go on without the TLS that it was asked for")


@pytest.mark.usefixtures("only_mysqlclient")
def test_connection_in_the_clear_that_was_to_be_encrypted_is_an_error_everywhere(
    alias: Callable[..., Any], server_without_tls: Server, caplog: pytest.LogCaptureFixture
) -> None:
    for name, given in ASKING.items():
        connection = alias(given, server_without_tls)
        caplog.clear()
        for _ in range(2):
            connection.ensure_connection()  # as on the stock backend
            assert cipher(connection) == "", name
            connection.close()
        (message,) = said(caplog)
        assert connection.alias in message
        assert check_ids(connection.alias) == ["E101"], name
        outcome = Outcome(connection.alias, json=True)
        assert (outcome.status, outcome.found.keys()) == (1, {"tls_missing"}), name
        assert outcome.found["tls_missing"]["level"] == "error"
        assert outcome.alias["tls"]["version"] == ""
        alone = Outcome(connection.alias, json=True, skip_checks=True)
        assert alone.found.keys() == {"tls_missing"}


@pytest.mark.usefixtures("only_mysqlclient")
def test_settings_that_do_not_insist_on_tls_are_no_finding(
    alias: Callable[..., Any], server_without_tls: Server, caplog: pytest.LogCaptureFixture
) -> None:
    for name, given in NOT_ASKING.items():
        connection = alias(given, server_without_tls)
        connection.ensure_connection()
        connection.close()
        assert said(caplog) == [], name
        assert check_ids(connection.alias) == [], name
        assert Outcome(connection.alias, json=True).found == {}, name


@pytest.mark.usefixtures("only_mysqlclient")
def test_encrypted_connection_is_no_finding_but_for_its_cost(
    alias: Callable[..., Any], server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    connection = alias(ASKING["ca"], server)
    connection.ensure_connection()
    assert cipher(connection)
    assert said(caplog) == []
    assert check_ids(connection.alias) == []
    bare = alias(ASKING["REQUIRED"], server)
    assert check_ids(bare.alias) == ["I001"]
    found = Outcome(bare.alias, json=True).found
    assert "I001" in found and "tls_missing" not in found


@pytest.mark.usefixtures("only_mysqlclient")
def test_part_of_ssl_that_the_library_does_not_know_is_found_on_a_server_with_tls(
    alias: Callable[..., Any], server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    connection = alias({"ssl": {"check_hostname": "1"}}, server)
    connection.ensure_connection()
    assert cipher(connection) == ""
    assert len(said(caplog)) == 1
    assert check_ids(connection.alias) == ["E101"]


@pytest.mark.usefixtures("only_mysqlclient")
def test_unix_socket_needs_no_encryption(
    alias: Callable[..., Any], server_without_tls: Server, caplog: pytest.LogCaptureFixture
) -> None:
    connection = alias(ASKING["REQUIRED"], server_without_tls, transport="socket")
    connection.ensure_connection()
    assert said(caplog) == []
    assert check_ids(connection.alias) == []
    assert Outcome(connection.alias, json=True).found == {}


@pytest.mark.usefixtures("only_mysqlclient")
def test_stock_alias_without_the_tls_that_it_asks_for_is_an_error_of_the_command(
    alias: Callable[..., Any], server_without_tls: Server
) -> None:
    connection = alias(ASKING["REQUIRED"], server_without_tls, engine=STOCK)
    outcome = Outcome(connection.alias, json=True)
    assert outcome.found.keys() == {"stock_backend", "tls_missing"}
    assert outcome.status == 1


@pytest.mark.usefixtures("only_mysqlclient")
def test_asking_whether_it_is_encrypted_costs_no_round_trip(
    alias: Callable[..., Any], server_without_tls: Server, make_connection: ConnectionFactory
) -> None:
    asked = []
    proxy = FaultProxy(server_without_tls.host, server_without_tls.port)
    for given in (ASKING["REQUIRED"], {}):
        connection = alias(given, server_without_tls, via=proxy)
        connection.ensure_connection()
        asked.append(proxy.connections[-1].queries())
    for connection in connections.all(initialized_only=True):
        connection.close()
    proxy.close()
    assert asked[0] == asked[1]


@pytest.mark.parametrize("engine_", [OURS, STOCK])
def test_pymysql_refuses_to_go_on_without_the_tls_that_it_was_asked_for(
    alias: Callable[..., Any], server_without_tls: Server, driver: str, engine_: str
) -> None:
    if driver != "pymysql":
        pytest.skip("mysqlclient goes on")
    for given in ({"ssl": {"ca": "{ca}"}}, {"ssl_ca": str(server_without_tls.ca)}):
        connection = alias(given, server_without_tls, engine=engine_)
        with pytest.raises(OperationalError, match="SSL is required"):
            connection.ensure_connection()
    plain = alias({}, server_without_tls)
    plain.ensure_connection()
    assert check_ids(plain.alias) == []
    assert Outcome(plain.alias, json=True).found == {}
