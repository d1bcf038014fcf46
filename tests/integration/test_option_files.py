"""Connector/C's own reconnect, which an option file can switch on: the backend switches it off."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.utils import Error, OperationalError

from django_mysql_recycle.option_files import reconnecting
from servers import FaultProxy

from .acts import assert_works, insert, owners, session_id, wait_until_hung_up
from .admin import Admin
from .connections import OURS, STOCK, Connection, ConnectionFactory, Proxied
from .queries import run, value

pytestmark = pytest.mark.usefixtures("only_mysqlclient")


@pytest.fixture
def only_mysqlclient(driver: str) -> None:
    """PyMySQL never reconnects by itself, whatever an option file says."""
    if driver != "mysqlclient":
        pytest.skip("about MariaDB Connector/C")


@pytest.fixture
def option_file(tmp_path: Path) -> Any:
    def write(text: str = "[client]\nreconnect=1\n", name: str = "my.cnf") -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


def reconnects(connection: Connection, admin: Admin) -> bool:
    """Whether the library replaces a lost connection beneath the driver's own object."""
    connection.ensure_connection()
    raw: Any = connection.connection
    before = session_id(connection)
    admin.kill(before)
    wait_until_hung_up(connection)
    for _ in range(3):  # the first statement learns of the loss
        try:
            cursor = raw.cursor()
            cursor.execute("SELECT CONNECTION_ID()")
            (now,) = cursor.fetchone()
        except raw.Error:
            continue
        return bool(now != before)
    return False


WAYS = {
    "client": "[client]\nreconnect=1\n",
    "client-server": "[client-server]\nreconnect = '1'\n",
    "client-mariadb": "[mysql]\nx=1\n[client-mariadb]\n  reconnect= 5 # yes\n",
    "group": "[mine]\nreconnect=1\n",
    "connection string": "[client]\nconnection=reconnect=1\n",
    "include": "!include {folder}/more.cnf\n",
    "includedir": "!includedir {folder}/conf.d\n",
    "home": None,
    "empty name": None,
    "host": None,
}


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_reconnect_of_the_library_is_switched_off_wherever_it_was_switched_on(
    make_connection: ConnectionFactory,
    admin: Admin,
    option_file: Any,
    tmp_path: Path,
    monkeypatch: Any,
    way: str,
    transport: Any,
) -> None:
    options: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    if way in ("home", "empty name"):
        option_file(name=".my.cnf")
        monkeypatch.setenv("HOME", str(tmp_path))
        given = {"read_default_group": "mine"} if way == "home" else {"read_default_file": ""}
        options.update(given)
    elif way == "host":
        settings["HOST"] = f"host={make_connection().settings_dict['HOST']};reconnect=1"
    else:
        option_file(name="more.cnf")
        option_file(name="conf.d/my.cnf")
        options["read_default_file"] = option_file(str(WAYS[way]).format(folder=tmp_path))
    if way == "group":
        options["read_default_group"] = "mine"
    control = make_connection(STOCK, transport=transport, options=options, **settings)
    assert reconnects(control, admin), "the library was not asked"
    ours = make_connection(transport=transport, options=options, **settings)
    assert not reconnects(ours, admin)
    ours.close()
    assert_works(ours, admin)


def test_block_that_swallows_the_loss_commits_nothing(
    make_connection: ConnectionFactory, admin: Admin, option_file: Any
) -> None:
    left = {}
    for engine in (OURS, STOCK):
        connection = make_connection(engine, options={"read_default_file": option_file()})
        with pytest.raises(Error) if engine == OURS else warnings.catch_warnings():
            with transaction.atomic(using=connection.alias):
                insert(connection, "first half")
                admin.kill(session_id(connection))
                wait_until_hung_up(connection)
                for name in ("lost", "second half"):
                    connection.needs_rollback = False
                    try:
                        insert(connection, name)
                    except OperationalError:
                        continue
        left[engine] = owners(admin)
        admin.rows("DELETE FROM testapp_account")
    assert left == {OURS: [], STOCK: ["second half"]}


def test_it_is_reported_once_for_each_alias_and_warns_of_nothing_else(
    make_connection: ConnectionFactory,
    admin: Admin,
    option_file: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = option_file()
    connection = make_connection(options={"read_default_file": path})
    with caplog.at_level(logging.WARNING), warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            connection.ensure_connection()
            connection.close()
    (record,) = [record for record in caplog.records if "reconnect" in record.getMessage()]
    assert record.levelno == logging.WARNING
    assert path in record.getMessage() and connection.alias in record.getMessage()


def test_connection_without_the_option_is_asked_nothing_more(
    make_connection: ConnectionFactory, option_file: Any, proxy: Any
) -> None:
    between: FaultProxy = proxy()
    asked = []
    for text in ("[client]\n", "[client]\nreconnect=0\n", "[mysql]\nreconnect=1\n"):
        path = option_file(text)
        connection = make_connection(via=between, options={"read_default_file": path})
        connection.ensure_connection()
        asked.append([one.name for one in between.connections[-1].commands])
        queries = between.connections[-1].queries()
        assert "SELECT 1" not in queries
    assert all("PING" not in names for names in asked)


def test_lost_in_the_middle_of_it_the_connection_is_opened_anew(
    proxied: Proxied, admin: Admin, option_file: Any
) -> None:
    connection, between = proxied(options={"read_default_file": option_file(), "sql_mode": "ANSI"})
    fault = between.cut_at(b"SELECT 1")
    connection.ensure_connection()
    assert fault.fired
    assert "ANSI" in value(connection, "SELECT @@sql_mode")
    assert len(between.connections) == 2
    assert not reconnects(connection, admin)


def test_driver_that_cannot_switch_it_off_is_an_error_that_names_the_file(
    make_connection: ConnectionFactory, option_file: Any, monkeypatch: Any
) -> None:
    from django_mysql_recycle.drivers import connecting_mysqlclient

    def without_the_parameter(_connection: Any, _reconnect: bool) -> None:
        raise TypeError("ping() takes no arguments (1 given)")

    monkeypatch.setattr(connecting_mysqlclient, "_ping", without_the_parameter)
    path = option_file()
    connection = make_connection(options={"read_default_file": path})
    with pytest.raises(ImproperlyConfigured, match="reconnect") as caught:
        connection.ensure_connection()
    assert path in str(caught.value)
    assert connection.connection is None


@pytest.mark.parametrize("engine_", ["tests.backends.proxied", "tests.backends.instrumented"])
def test_it_is_switched_off_beneath_other_backends(
    make_connection: ConnectionFactory, admin: Admin, option_file: Any, engine_: str
) -> None:
    connection = make_connection(engine_, options={"read_default_file": option_file()})
    run(connection, "SELECT 1")
    assert not reconnects(connection, admin)


def test_what_says_it_is_found_by_the_rules_of_the_library(
    option_file: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    path = option_file("[client]\nreconnect=1\n[other]\nreconnect=0\n[client]\nreconnect=0\n")
    assert reconnecting({"read_default_file": path}) == ""
    path = option_file("# reconnect=1\n[client]\n;reconnect=1\n[mysqld]\nreconnect=1\n")
    assert reconnecting({"read_default_file": path}) == ""
    path = option_file("!include " + str(tmp_path / "my.cnf") + "\n[client]\nreconnect=1\n")
    assert reconnecting({"read_default_file": path}) == path  # it includes itself
    assert reconnecting({"read_default_file": str(tmp_path / "missing.cnf")}) == ""
    assert reconnecting({"host": "db", "unix_socket": "/s"}) == ""
