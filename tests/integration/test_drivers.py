"""The choice of the driver, which happens once per process, and what of OPTIONS reaches it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from django_mysql_recycle import use_driver
from servers import Server

from .connections import OURS, STOCK, ConnectionFactory
from .queries import run

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "_cffi_backend",
    "asgiref",
    "cffi",
    "cryptography",
    "django",
    "sqlparse",
    "typing_extensions",
)
MODULES = {"mysqlclient": "MySQLdb", "pymysql": "pymysql"}

SETTINGS = """\
import os, sys
import django
from django.conf import settings
settings.configure(DATABASES={"default": {
    "ENGINE": os.environ.get("ENGINE", "django_mysql_recycle"),
    "HOST": os.environ["HOST"],
    "PORT": os.environ["PORT"],
    "USER": os.environ["USER"],
    "PASSWORD": os.environ["PASSWORD"],
    "NAME": os.environ["NAME"],
}})
"""
CONNECT = """\
django.setup()
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SELECT CONNECTION_ID()")
    print(type(connection.connection).__module__.partition(".")[0])
connection.close()
"""

Script = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def script(server: Server, tmp_path: Path) -> Script:
    """`script(code, *drivers)` runs code in a process that can import these drivers and no other."""

    def start(code: str, *drivers: str, **environ: str) -> subprocess.CompletedProcess[str]:
        importable = tmp_path / "importable"
        importable.mkdir()
        for module in (*PACKAGES, *(MODULES[driver] for driver in drivers)):
            spec = PathFinder.find_spec(module)  # past PyMySQL, which answers to MySQLdb here
            if spec is None or spec.origin is None:
                # Only some versions of the others require these.
                assert module in ("_cffi_backend", "cffi", "typing_extensions"), module
                continue
            origin = Path(spec.origin)
            place = origin.parent if origin.name == "__init__.py" else origin
            (importable / place.name).symlink_to(place)
        kept = {key: value for key, value in os.environ.items() if "RECYCLE" not in key}
        return subprocess.run(
            [sys.executable, "-S", "-W", "error", "-c", code],  # -S: nothing else is importable
            env={
                **kept,
                "PYTHONPATH": f"{importable}{os.pathsep}{ROOT}",
                "HOST": server.host,
                "PORT": str(server.port),
                "USER": server.user,
                "PASSWORD": server.password,
                "NAME": server.database,
                **environ,
            },
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    return start


def output(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.core
def test_driver_alone_is_used_without_a_word_in_the_users_code(script: Script, driver: str) -> None:
    assert output(script(SETTINGS + CONNECT, driver)) == MODULES[driver]


def test_pymysql_alone_does_not_serve_the_stock_backend(script: Script) -> None:
    result = script(SETTINGS + CONNECT, "pymysql", ENGINE=STOCK)
    assert result.returncode != 0
    assert "Error loading MySQLdb module" in result.stderr


def test_without_a_driver_the_error_says_what_to_install(script: Script) -> None:
    result = script(SETTINGS + CONNECT)
    assert result.returncode != 0
    assert "ImproperlyConfigured" in result.stderr
    assert "pip install mysqlclient" in result.stderr and "pip install PyMySQL" in result.stderr


def test_there_is_one_copy_of_pymysqls_errors(script: Script) -> None:
    check = """\
django.setup()
from django.db import connection
from django_mysql_recycle.base import DatabaseWrapper
import pymysql, pymysql.err, MySQLdb
assert DatabaseWrapper.Database is pymysql is MySQLdb
assert pymysql.err.OperationalError is pymysql.OperationalError
assert connection.Database.OperationalError is pymysql.err.OperationalError
import MySQLdb.constants.ER, MySQLdb.cursors, MySQLdb.converters
assert MySQLdb.cursors is pymysql.cursors and MySQLdb.converters is pymysql.converters
with connection.cursor() as cursor:
    try:
        cursor.cursor.execute("SELECT * FROM no_such_table")
    except pymysql.err.ProgrammingError:
        print("caught")
connection.close()
copies = {module.__file__ for name, module in sys.modules.items() if name.endswith(".err")}
assert len(copies) == 1
assert len({id(m) for n, m in sys.modules.items() if n.endswith(("pymysql.err", "MySQLdb.err"))}) == 1
"""
    assert output(script(SETTINGS + check, "pymysql")) == "caught"


@pytest.fixture
def both(driver: str) -> tuple[str, str]:
    """Both drivers; where mysqlclient cannot be built there is no choice to be tested."""
    if PathFinder.find_spec("MySQLdb") is None:
        pytest.skip("mysqlclient is not installed: no choice between drivers")
    return ("mysqlclient", "pymysql")


def test_mysqlclient_is_preferred(script: Script, both: tuple[str, str]) -> None:
    assert output(script(SETTINGS + CONNECT, *both)) == "MySQLdb"


@pytest.mark.parametrize("name", MODULES)
def test_environment_names_the_driver(script: Script, both: tuple[str, str], name: str) -> None:
    result = script(SETTINGS + CONNECT, *both, DJANGO_MYSQL_RECYCLE_DRIVER=name)
    assert output(result) == MODULES[name]


def test_package_is_imported_without_a_driver(script: Script, both: tuple[str, str]) -> None:
    """The settings import it to choose the driver."""
    names = "'MySQLdb', 'pymysql', 'django.db.backends.mysql.base'"
    imported = f"import sys, django_mysql_recycle\nprint(sys.modules.keys() & {{{names}}})\n"
    assert output(script(imported, *both)) == "set()"


@pytest.mark.parametrize("name", MODULES)
def test_use_driver_in_the_settings_names_the_driver(
    script: Script, both: tuple[str, str], name: str
) -> None:
    choice = f"import django_mysql_recycle\ndjango_mysql_recycle.use_driver({name!r})\n"
    assert output(script(choice + SETTINGS + CONNECT, *both)) == MODULES[name]


def test_use_driver_comes_before_the_environment(script: Script, both: tuple[str, str]) -> None:
    choice = "import django_mysql_recycle\ndjango_mysql_recycle.use_driver('pymysql')\n"
    result = script(choice + SETTINGS + CONNECT, *both, DJANGO_MYSQL_RECYCLE_DRIVER="mysqlclient")
    assert output(result) == "pymysql"


def test_install_as_mysqldb_of_the_users_is_respected(
    script: Script, both: tuple[str, str]
) -> None:
    choice = "import pymysql\npymysql.install_as_MySQLdb()\n"
    assert output(script(choice + SETTINGS + CONNECT, *both)) == "pymysql"


def test_unknown_driver_in_the_environment_is_refused(script: Script, driver: str) -> None:
    result = script(SETTINGS + CONNECT, driver, DJANGO_MYSQL_RECYCLE_DRIVER="mysqldb")
    assert result.returncode != 0
    assert (
        "DJANGO_MYSQL_RECYCLE_DRIVER: expected one of mysqlclient, pymysql, got 'mysqldb'"
        in result.stderr
    )


def test_driver_that_is_not_installed_is_refused(script: Script) -> None:
    result = script(SETTINGS + CONNECT, "pymysql", DJANGO_MYSQL_RECYCLE_DRIVER="mysqlclient")
    assert result.returncode != 0
    assert "ImproperlyConfigured" in result.stderr and "pip install mysqlclient" in result.stderr


def test_importing_the_package_imports_no_driver(script: Script, driver: str) -> None:
    check = "import sys, django_mysql_recycle\nprint({'MySQLdb', 'pymysql'} & set(sys.modules))"
    assert output(script(check, driver)) == "set()"


def test_another_driver_after_the_backend_was_imported_is_refused(driver: str) -> None:
    connections["default"]
    (other,) = set(MODULES) - {driver}
    with pytest.raises(ImproperlyConfigured, match="already been imported"):
        use_driver(other)
    use_driver(driver)  # the one in use may be named again


def test_name_of_no_driver_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="expected one of mysqlclient, pymysql, got 'x'"):
        use_driver("x")


@pytest.mark.core
def test_settings_of_ours_never_reach_the_driver(
    make_connection: ConnectionFactory, driver: str
) -> None:
    recycle = {"idle_limit": 30, "ping_after": None}
    connection = make_connection(recycle=recycle)
    run(connection, "DO 1")
    assert connection.settings_dict["OPTIONS"]["recycle"] == recycle  # left as it was
    with pytest.raises(TypeError, match="recycle"):
        run(make_connection(STOCK, options={"recycle": recycle}), "DO 1")


@pytest.mark.core
@pytest.mark.parametrize(
    ("recycle", "path", "given"),
    [
        ({"ping_afer": 3}, "", "unknown key 'ping_afer'"),
        ({"ping_after": "5m"}, "['ping_after']", "got '5m'"),
        ({"ping_after": True}, "['ping_after']", "got True"),
        ({"idle_limit": float("nan")}, "['idle_limit']", "got nan"),
        ({"idle_limit": -1}, "['idle_limit']", "got -1"),
        ({"jitter": 2}, "['jitter']", "got 2"),
        ({"liveness_check": 1}, "['liveness_check']", "got 1"),
        ({"connect_retries": 1.5}, "['connect_retries']", "got 1.5"),
        ({"keepalive": "60"}, "['keepalive']", "got '60'"),
        ({"network_timeout": []}, "['network_timeout']", "got []"),
        ({"pin_session_state": None}, "['pin_session_state']", "got None"),
        ({"recycle_read_only": "yes"}, "['recycle_read_only']", "got 'yes'"),
        ({"ping_timeout": False}, "['ping_timeout']", "got False"),
    ],
)
def test_bad_setting_is_refused_while_connecting(
    make_connection: ConnectionFactory, recycle: dict[str, Any], path: str, given: str
) -> None:
    connection = make_connection(recycle=recycle)
    with pytest.raises(ImproperlyConfigured) as caught:
        connection.ensure_connection()
    text = str(caught.value)
    assert text.startswith(f"DATABASES[{connection.alias!r}]['OPTIONS']['recycle']{path}: ")
    assert given in text
    assert connection.connection is None


def test_recycle_that_is_no_dict_is_refused(make_connection: ConnectionFactory) -> None:
    connection = make_connection(options={"recycle": True})
    with pytest.raises(ImproperlyConfigured, match="expected a dict, got True"):
        connection.ensure_connection()


def test_max_age_that_is_no_number_is_refused(make_connection: ConnectionFactory) -> None:
    connection = make_connection(CONN_MAX_AGE="60")
    with pytest.raises(ImproperlyConfigured, match=r"CONN_MAX_AGE.*'60'"):
        connection.ensure_connection()


def test_own_connect_timeout_of_the_user_stays(
    make_connection: ConnectionFactory, server: Server
) -> None:
    assert make_connection().get_connection_params()["connect_timeout"] == 10
    own = make_connection(options={"connect_timeout": 3})
    assert own.get_connection_params()["connect_timeout"] == 3
    assert "connect_timeout" not in make_connection(STOCK).get_connection_params()


@pytest.mark.parametrize("given", ["soon", -1, [5]])
def test_connect_timeout_that_is_none_is_refused_by_whom_the_stock_backend_leaves_it_to(
    make_connection: ConnectionFactory, given: Any
) -> None:
    outcomes = []
    for backend in (OURS, STOCK):
        try:
            make_connection(backend, options={"connect_timeout": given}).ensure_connection()
        except Exception as error:
            outcomes.append((type(error), str(error)))
        else:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1]
