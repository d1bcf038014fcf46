"""The system checks as `manage.py check --database` runs them, and what they take for granted."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import Error, OperationalError, connections, transaction
from django.db.backends.mysql.validation import DatabaseValidation

from django_mysql_recycle.checks import check_settings, settings_findings, takes_options
from django_mysql_recycle.checks.driver import unix_socket
from django_mysql_recycle.checks.entry import Entry
from django_mysql_recycle.checks.server import (
    ServerValidation,
    server_findings,
    with_server_checks,
)
from django_mysql_recycle.drivers import choose
from django_mysql_recycle.drivers.versions import is_connector_c
from servers import FaultProxy, Server
from servers.certificates import make_certificates

from .admin import Admin
from .connections import OURS, STOCK, Connection, ConnectionFactory
from .queries import connection_id, kill, run, value

ROOT = Path(__file__).parents[2]


def check(connection: Connection) -> list[CheckMessage]:
    """What `check --database` says of one alias."""
    messages = run_checks(databases=[connection.alias])
    return [message for message in messages if f"'{connection.alias}'" in str(message.msg)]


def ids(connection: Connection) -> list[str]:
    return [str(message.id).removeprefix("django_mysql_recycle.") for message in check(connection)]


@pytest.mark.core
def test_default_configuration_gives_no_message(
    connection: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(connection) == []
    assert connection.connection is None  # opened for the check, and closed after it
    call_command("check", databases=[connection.alias], fail_level="INFO")
    assert "no issues" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("timeout", "recycle", "settings", "found"),
    [
        (28800, {}, {"CONN_MAX_AGE": 3600}, []),
        (600, {}, {"CONN_MAX_AGE": 3600}, ["I101"]),
        (600, {}, {"CONN_MAX_AGE": None}, []),
        (3, {}, {}, []),
        (2, {}, {}, ["W101"]),
        (600, {"idle_limit": 240, "ping_after": 60}, {}, []),
        (600, {"idle_limit": 900}, {}, ["W102"]),
        (60, {"ping_after": 54}, {}, ["W103"]),
        (60, {"idle_limit": 20, "ping_after": 54}, {}, ["W001"]),
        (60, {"idle_limit": 900, "ping_after": 600}, {}, ["W102", "W103"]),
    ],
)
def test_what_the_servers_wait_timeout_makes_of_the_settings(
    make_connection: ConnectionFactory,
    timeout: int,
    recycle: dict[str, Any],
    settings: dict[str, Any],
    found: list[str],
) -> None:
    options = {"init_command": f"SET SESSION wait_timeout = {timeout}"}
    connection = make_connection(recycle=recycle, options=options, **settings)
    messages = check(connection)
    assert [str(message.id).partition(".")[2] for message in messages] == found
    assert all(message.hint for message in messages)


def test_read_only_server_is_reported_unless_it_is_one_on_purpose(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    admin.set_global("read_only", 1)
    assert ids(make_connection()) == ["W104"]
    assert ids(make_connection(recycle={"recycle_read_only": False})) == []


def test_transaction_timeouts_of_mariadb_are_reported(
    make_connection: ConnectionFactory, admin: Admin, vendor: str
) -> None:
    if vendor == "mariadb":
        admin.set_global("idle_write_transaction_timeout", 30)
        (message,) = check(make_connection())
        assert message.id == "django_mysql_recycle.I102"
        assert "idle_write_transaction_timeout = 30" in message.msg
    else:
        with pytest.raises(Exception, match="idle_write_transaction_timeout"):
            admin.rows("SET GLOBAL idle_write_transaction_timeout = 30")


def test_server_older_than_supported_is_reported(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is at hand is new enough: let the backend ask for more than that.
    oldest = {"mariadb": (99, 1), "mysql": (99, 1)}
    monkeypatch.setattr("django_mysql_recycle.checks.server.OLDEST", oldest)
    (message,) = check(connection)
    assert message.id == "django_mysql_recycle.W105" and "99.1 and later" in message.msg


def test_djangos_own_checks_work_and_say_it_once(make_connection: ConnectionFactory) -> None:
    lax = {"init_command": "SET SESSION sql_mode = '', wait_timeout = 2"}
    assert ids(make_connection(options=lax)) == ["mysql.W002", "W101"]
    assert ids(make_connection(STOCK, options=lax)) == ["mysql.W002"]


def test_server_that_cannot_be_reached_is_reported_as_by_the_stock_backend(
    make_connection: ConnectionFactory, proxy: Callable[..., FaultProxy]
) -> None:
    closed = proxy()
    aliases = [make_connection(engine, via=closed).alias for engine in (OURS, STOCK)]
    closed.close()  # no server listens there any more
    raised = []
    for alias in aliases:
        with pytest.raises(OperationalError) as caught:
            run_checks(databases=[alias])
        raised.append(caught.value.args)
    assert raised[0] == raised[1]


def test_connection_that_is_open_stays_open_and_as_it_was(connection: Connection) -> None:
    before = connection_id(connection)
    run(connection, "SET @mine = 5")
    assert check(connection) == []
    assert value(connection, "SELECT @mine") == 5
    assert connection_id(connection) == before


def test_check_inside_a_transaction_leaves_it_whole(connection: Connection) -> None:
    with transaction.atomic(using=connection.alias):
        run(connection, "INSERT INTO testapp_account (owner, balance) VALUES ('kept', 1)")
        assert check(connection) == []
    assert value(connection, "SELECT COUNT(*) FROM testapp_account") == 1


def test_connection_lost_inside_a_transaction_does_not_break_the_check_nor_is_it_replaced(
    connection: Connection, admin: Admin
) -> None:
    assert connection.sql_mode  # type: ignore[attr-defined]  # so that Django's check asks nothing
    with pytest.raises(Error), transaction.atomic(using=connection.alias):
        run(connection, "INSERT INTO testapp_account (owner, balance) VALUES ('lost', 1)")
        kill(admin, connection)
        assert check(connection) == []
        run(connection, "SELECT 1")
    assert value(connection, "SELECT COUNT(*) FROM testapp_account") == 0


class Demanding(DatabaseValidation):
    """A user's own."""

    def check(self, **kwargs: Any) -> list[Any]:
        return [*super().check(**kwargs), "theirs"]


def test_validation_class_of_the_user_keeps_working(
    make_connection: ConnectionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(make_connection())
    monkeypatch.setattr(kind, "validation_class", Demanding)
    options = {"init_command": "SET SESSION wait_timeout = 2"}
    connection = make_connection(options=options)
    assert isinstance(connection.validation, Demanding)
    assert isinstance(connection.validation, ServerValidation)
    found = [getattr(message, "id", message) for message in connection.validation.check()]
    assert found == ["theirs", "django_mysql_recycle.W101"]
    assert with_server_checks(type(connection.validation)) is type(connection.validation)


@pytest.mark.parametrize("engine", ["django_mysql_recycle.gis", "tests.backends.instrumented"])
def test_other_wrappers_have_the_checks(make_connection: ConnectionFactory, engine: str) -> None:
    connection = make_connection(engine, recycle={"idle_limit": 90000})
    assert isinstance(connection.validation, DatabaseValidation)
    messages = connection.validation.check()
    assert [message.id for message in messages] == ["django_mysql_recycle.W102"]


def test_settings_that_cannot_be_used_are_reported_once(make_connection: ConnectionFactory) -> None:
    connection = make_connection(recycle={})
    connection.ensure_connection()
    connection.settings_dict["OPTIONS"]["recycle"]["idle_limit"] = "5m"
    assert ids(connection) == ["E001"]


PROJECT = """
import sys
from django.conf import settings
settings.configure(
    DATABASES={{"default": {database}}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    SECRET_KEY="for tests only",
    USE_TZ=True,
)
from django.core.management import execute_from_command_line
for command in {commands}:
    sys.stderr.write("\\f")
    execute_from_command_line(["manage.py", *command])
"""


def test_manage_py_shows_them(make_connection: ConnectionFactory) -> None:
    connection = make_connection(
        recycle={"idle_limit": 5, "ping_after": 9},
        options={"init_command": "SET SESSION wait_timeout = 2"},
    )
    names = ("ENGINE", "HOST", "PORT", "USER", "PASSWORD", "NAME", "OPTIONS")
    database = {name: connection.settings_dict[name] for name in names}
    commands = [("check",), ("check", "--database", "default"), ("migrate", "--plan")]
    ran = subprocess.run(
        [sys.executable, "-c", PROJECT.format(database=database, commands=commands)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ran.returncode == 0, ran.stderr
    assert database["PASSWORD"] not in ran.stdout + ran.stderr
    _, *said = ran.stderr.split("\f")
    assert [text.count("(django_mysql_recycle.W001)") for text in said] == [1, 1, 1]
    assert [text.count("(django_mysql_recycle.W101)") for text in said] == [0, 1, 1]


# What the checks know about drivers, asked of the drivers.


def test_checks_know_the_driver(driver: str) -> None:
    cursors = import_module(f"{'MySQLdb' if driver == 'mysqlclient' else 'pymysql'}.cursors")

    def reported(**options: Any) -> list[str]:
        database = {"HOST": "127.0.0.1", "OPTIONS": options}
        found = settings_findings("default", database)
        return [str(message.id).partition(".")[2] for message in found]

    assert reported(cursorclass=cursors.SSCursor) == ["W010"]
    assert reported(cursorclass=cursors.DictCursor) == []
    of_mysqlclient = driver == "mysqlclient"
    assert reported(connect_timeout=0) == (["W011"] if of_mysqlclient else [])
    assert reported(ssl=True) == (["I001"] if of_mysqlclient and is_connector_c() else [])


MISPLACED = {
    "idle_limit": ({"idle_limit": 5}, "Move it to DATABASES[{alias!r}]['OPTIONS']['recycle']"),
    "RECYCLE": ({"RECYCLE": {"idle_limit": 5}}, "Did you mean DATABASES[{alias!r}]['OPTIONS']"),
    "recycel": ({"recycel": {}}, "Did you mean DATABASES[{alias!r}]['OPTIONS']['recycle']?"),
    "pingafter": ({"pingafter": 5}, "Did you mean DATABASES[{alias!r}]['OPTIONS']['recycle']"),
    "pool_recycle": ({"pool_recycle": 60}, "DATABASES[{alias!r}]['CONN_MAX_AGE'] limits"),
    "CONN_MAX_AGE": ({"CONN_MAX_AGE": 60}, "to DATABASES[{alias!r}]['CONN_MAX_AGE']."),
}


@pytest.mark.parametrize("name", MISPLACED)
def test_misplaced_setting_is_explained_by_connecting_and_by_the_check(
    make_connection: ConnectionFactory, name: str, driver: str
) -> None:
    options, hint = MISPLACED[name]
    with pytest.raises(TypeError, match=name):
        make_connection(STOCK, options=options).ensure_connection()
    connection = make_connection(options=options)
    with pytest.raises(ImproperlyConfigured) as caught:
        connection.ensure_connection()
    said = str(caught.value)
    assert said.startswith(
        f"DATABASES[{connection.alias!r}]['OPTIONS'][{name!r}]: {driver} has no such argument. "
    )
    assert hint.format(alias=connection.alias) in said
    (found,) = settings_findings(connection.alias, connection.settings_dict)
    assert found.id == "django_mysql_recycle.E002" and said.endswith(found.hint)


def test_argument_that_means_nothing_to_the_backend_is_left_to_the_driver(
    make_connection: ConnectionFactory,
) -> None:
    raised = []
    for engine in (STOCK, OURS):
        with pytest.raises(TypeError, match="application_name") as caught:
            make_connection(engine, options={"application_name": "x"}).ensure_connection()
        raised.append(str(caught.value))
    assert raised[0].rpartition("(")[2] == raised[1].rpartition("(")[2]


def test_argument_that_a_subclass_takes_for_itself_is_not_refused(
    make_connection: ConnectionFactory,
) -> None:
    connection = make_connection("tests.backends.subclassed", options={"pool_size": 5})
    taken = []

    class Taking(type(connection)):  # type: ignore[misc]
        def get_connection_params(self) -> dict[str, Any]:
            params: dict[str, Any] = super().get_connection_params()
            taken.append(params.pop("pool_size"))
            return params

    own = Taking(connection.settings_dict, connection.alias)
    assert value(own, "SELECT 1") == 1 and taken == [5]
    own.close()
    # The check cannot know which keys such a class takes.
    assert takes_options(own) and check_settings() == []
    plain = make_connection(options={"pool_size": 5})
    assert not takes_options(plain)
    assert [one.id for one in check_settings()] == ["django_mysql_recycle.E002"]


@pytest.mark.parametrize("name", ["keepalive", "pool_size"])
def test_argument_that_the_driver_has_reaches_it(
    make_connection: ConnectionFactory, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A later version of the driver may have an argument with such a name."""
    kind = choose()._connecting.__base__  # type: ignore[attr-defined]
    drivers, given = kind.__init__, []

    def later(
        self: Any, *args: Any, keepalive: Any = None, pool_size: Any = None, **rest: Any
    ) -> None:
        """:param int keepalive: as a driver would document it
        :param int pool_size: as well
        """
        given.append(keepalive or pool_size)
        drivers(self, *args, **rest)

    monkeypatch.setattr(kind, "__init__", later)
    connection = make_connection(options={name: 7})
    assert value(connection, "SELECT 1") == 1 and given == [7]
    assert settings_findings(connection.alias, connection.settings_dict) == []


def test_drivers_are_known_to_take_what_they_take(driver: str) -> None:
    names = ["host", "read_timeout", "write_timeout", "connect_timeout", "ssl", "cursorclass"]
    taken = [name for name in [*names, "recycle", "pool_size"] if choose().takes(name)]
    assert taken == names


def test_what_the_stock_backend_makes_of_our_settings(make_connection: ConnectionFactory) -> None:
    """What E003 says."""
    with pytest.raises(TypeError, match="recycle"):
        make_connection(STOCK, recycle={}).ensure_connection()


def test_connect_timeout_of_nothing_is_refused_by_pymysql(
    make_connection: ConnectionFactory, driver: str
) -> None:
    """Why W011 is for mysqlclient alone."""
    connection = make_connection(options={"connect_timeout": 0})
    if driver == "pymysql":
        with pytest.raises(ValueError, match="connect_timeout"):
            connection.ensure_connection()
    else:
        assert value(connection, "SELECT 1") == 1


def _host_info(connection: Connection) -> str:
    connection.ensure_connection()
    return str(connection.connection.get_host_info()).lower()


def test_transport_is_reported_as_the_driver_takes_it(
    make_connection: ConnectionFactory, server: Server, driver: str, tmp_path: Path
) -> None:
    file = tmp_path / "my.cnf"
    file.write_text(f"[client]\nsocket = {server.socket}\n")
    through_socket, through_tcp = {"unix_socket": server.socket}, {"host": server.host}
    cases: list[tuple[str, dict[str, Any]]] = [
        (server.host, {}),
        (server.socket, {}),
        (server.host, through_socket),
        ("localhost", through_socket),
        ("", through_socket),
        (server.host, {"read_default_file": str(file)}),
        ("", {"read_default_file": str(file)}),
        ("", through_tcp),
    ]
    for host, options in cases:
        connection = make_connection(HOST=host, options=options)
        reported = unix_socket(driver, Entry(connection.alias, connection.settings_dict))
        assert bool(reported) == ("unix" in _host_info(connection)), (host, options)


def test_localhost_is_a_unix_socket_for_mysqlclient_alone(
    make_connection: ConnectionFactory, driver: str
) -> None:
    connection = make_connection(HOST="localhost")
    reported = unix_socket(driver, Entry(connection.alias, connection.settings_dict))
    if driver == "mysqlclient":
        # Where the system's server would be; the tests' server listens elsewhere.
        with pytest.raises(OperationalError, match="socket"):
            connection.ensure_connection()
        assert "'localhost'" in reported
    else:
        assert "unix" not in _host_info(connection) and reported == ""


def _cipher(connection: Connection) -> str:
    return str(run(connection, "SHOW SESSION STATUS LIKE 'Ssl_cipher'")[0][1])


def test_naming_an_authority_makes_mysqlclient_verify(
    make_connection: ConnectionFactory,
    server: Server,
    driver: str,
    tmp_path: Path,
) -> None:
    """I001 recommends it: it must not verify less than before, and says that it verifies more."""
    if driver != "mysqlclient":
        return  # the check is for mysqlclient alone; for PyMySQL a context is kept (tls.py)
    other = str(make_certificates(tmp_path / "tls", server.host).ca)
    required = make_connection(options={"ssl_mode": "REQUIRED"})
    assert _cipher(required)  # self-signed, and taken all the same
    assert ids(required) == (["I001"] if is_connector_c() else [])
    for mode in ("REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"):
        right = {"ssl_mode": mode, "ssl": {"ca": str(server.ca)}}
        wrong = {"ssl_mode": mode, "ssl": {"ca": other}}
        connection = make_connection(options=right)
        assert _cipher(connection) and ids(connection) == []
        with pytest.raises(OperationalError) as caught:
            make_connection(options=wrong).ensure_connection()
        assert caught.value.args[0] == 2026


def test_naming_an_authority_spares_cpu(
    make_connection: ConnectionFactory, server: Server, driver: str
) -> None:
    if driver != "mysqlclient" or not is_connector_c():
        return  # as above

    def cpu(options: dict[str, Any]) -> float:
        """The least that one connect took, of some."""
        connection = make_connection(options={"ssl_mode": "REQUIRED", **options})
        spent = []
        for _ in range(5):
            start = time.process_time()
            connection.connect()
            spent.append(time.process_time() - start)
            connection.close()
        return min(spent)

    # Measured: 18 to 24 ms against 1.2 to 2.4 ms.
    assert cpu({}) > 3 * cpu({"ssl": {"ca": str(server.ca)}})


def test_what_is_plain_with_connector_c_loads_nothing(
    make_connection: ConnectionFactory, driver: str, tmp_path: Path
) -> None:
    if driver != "mysqlclient":
        return  # as above
    file = tmp_path / "my.cnf"
    file.write_text("[client]\nssl\nssl-mode = REQUIRED\n")
    for options in (
        {"ssl_mode": "PREFERRED"},
        {"ssl_mode": None, "ssl": {}},
        {"ssl_mode": None, "read_default_file": str(file)},
    ):
        kept = {name: given for name, given in options.items() if given is not None}
        connection = make_connection(options=kept)
        if "ssl_mode" not in kept:
            del connection.settings_dict["OPTIONS"]["ssl_mode"]
        assert _cipher(connection) == "" and ids(connection) == []


def test_findings_are_a_function_of_settings_and_facts(connection: Connection) -> None:
    from django_mysql_recycle import server_facts

    facts = server_facts.read(connection)
    assert server_findings("default", {}, facts) == []
    assert connections[connection.alias] is connection
