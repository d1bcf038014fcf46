"""System checks that need no server: each with what sets it off and what does not."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.core.checks.registry import registry
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.utils import ConnectionHandler
from django.test.utils import override_settings
from MySQLdb.cursors import DictCursor, SSCursor

import django_mysql_recycle
from django_mysql_recycle.apps import MySQLRecycleConfig
from django_mysql_recycle.checks import check_settings, settings_findings
from django_mysql_recycle.checks import driver as driver_checks
from django_mysql_recycle.checks.finding import Finding
from django_mysql_recycle.checks.server import server_findings
from django_mysql_recycle.diagnosis import survey
from django_mysql_recycle.drivers import choose
from django_mysql_recycle.drivers import versions as driver_versions
from django_mysql_recycle.options import MaxAge
from django_mysql_recycle.server_facts import ServerFacts

from .rows import each

ROOT = Path(__file__).parents[2]
Check = Callable[..., list[CheckMessage]]


def plain_checks() -> list[CheckMessage]:
    # From Django 6.1 on its model checks ask the server even in plain `check`; [] is 'no server'.
    return run_checks(databases=[])


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Iterator[Check]:
    """Run all of Django's checks over one more alias, and return what they say of it.

    With mysqlclient's ways, also where PyMySQL alone is installed: tests/integration/test_checks.py
    has those of the driver that is used.
    """
    chosen = SimpleNamespace(name="mysqlclient", unbuffered=choose().unbuffered)
    monkeypatch.setattr(driver_checks, "choose", lambda: chosen)

    def run(
        recycle: Any = None, engine: str = "django_mysql_recycle", **settings: Any
    ) -> list[CheckMessage]:
        database = {"ENGINE": engine, "HOST": "127.0.0.1", **settings}
        database["OPTIONS"] = dict(settings.get("OPTIONS", {}))
        if recycle is not None:
            database["OPTIONS"]["recycle"] = recycle
        forget()
        handler = ConnectionHandler({"default": database})
        connections.settings["checked"] = handler.settings["default"]
        return [message for message in plain_checks() if "'checked'" in str(message.msg)]

    def forget() -> None:
        if connections.settings.pop("checked", None):
            with suppress(AttributeError):  # the backend could not be loaded
                del connections["checked"]

    yield run
    forget()


def ids(messages: Sequence[CheckMessage | Finding]) -> list[str]:
    return [str(message.id).removeprefix("django_mysql_recycle.") for message in messages]


def test_the_defaults_contradict_nothing(check: Check) -> None:
    assert check() == []
    assert check({}) == []
    assert [m for m in plain_checks() if str(m.id).startswith("django_mysql_recycle")] == []


@pytest.mark.parametrize(
    ("recycle", "settings", "found"),
    [
        ({"idle_limit": 5, "ping_after": 5}, {}, ["W001"]),
        ({"idle_limit": 5, "ping_after": 4}, {}, []),
        ({"idle_limit": 5, "ping_after": None}, {}, []),
        ({"idle_limit": 5}, {}, []),
        ({"liveness_check": False, "ping_after": None}, {}, ["W002"]),
        ({"liveness_check": False, "ping_after": None, "idle_limit": 50}, {}, []),
        ({"ping_timeout": 4}, {"OPTIONS": {"read_timeout": 3}}, ["W003"]),
        ({"ping_timeout": None}, {"OPTIONS": {"read_timeout": 3}}, []),
        ({}, {"OPTIONS": {"read_timeout": 3}}, []),  # the shorter one counts
        ({"ping_timeout": 3}, {"OPTIONS": {"read_timeout": 3}}, []),
        ({}, {"OPTIONS": {"read_timeout": "3", "write_timeout": 1}}, []),
        ({}, {"OPTIONS": {"read_timeout": 10**400}}, []),
        ({"ping_timeout": None, "network_timeout": None}, {}, ["W004"]),
        ({"ping_timeout": None}, {}, []),
        ({"keepalive": 30, "network_timeout": 9}, {"HOST": "/s"}, ["W005", "W005"]),
        ({"keepalive": 30}, {"HOST": ""}, ["W005"]),  # mysqlclient's way
        ({"keepalive": 30}, {"HOST": "localhost", "PORT": 3306}, ["W005"]),
        ({"keepalive": 30}, {"HOST": "localhost", "OPTIONS": {"unix_socket": "/s"}}, ["W005"]),
        ({"keepalive": 9}, {"HOST": "127.0.0.1", "OPTIONS": {"unix_socket": "/s"}}, []),
        ({"keepalive": 9}, {"HOST": "", "OPTIONS": {"host": "db"}}, []),
        ({"keepalive": 9}, {"HOST": "", "OPTIONS": {"read_default_group": "mine"}}, []),
        ({"keepalive": None}, {"HOST": "/s"}, []),
        ({}, {"HOST": "/s", "CONN_MAX_AGE": None}, []),
        ({"jitter": 0.1}, {"CONN_MAX_AGE": 0}, ["W006"]),
        ({"jitter": 0.1}, {"CONN_MAX_AGE": 60}, []),
        ({"jitter": 0}, {"CONN_MAX_AGE": None}, []),
        ({"connect_retries": 2}, {"OPTIONS": {"connect_timeout": 1}}, ["W007"]),
        ({"connect_retries": 2}, {"OPTIONS": {"connect_timeout": 5}}, []),
        ({"connect_retries": 2}, {"OPTIONS": {"connect_timeout": "1"}}, []),
        ({}, {"OPTIONS": {"cursorclass": SSCursor}}, ["W010"]),
        ({}, {"OPTIONS": {"cursorclass": DictCursor}}, []),
        ({}, {"OPTIONS": {"connect_timeout": 0}}, ["W011"]),
        ({}, {"OPTIONS": {"connect_timeout": None}}, []),
        ({"ping_timeout": 5000, "network_timeout": 30000}, {}, ["W012", "W012"]),
        ({"keepalive": 60000}, {}, ["W012"]),
        ({"ping_timeout": 900, "network_timeout": 900, "keepalive": 600}, {}, []),
        ({"keepalive": 60}, {}, ["W014"]),
        ({"keepalive": 15}, {}, []),
        ({"keepalive": 7200, "network_timeout": 900}, {}, ["W014"]),
        ({"keepalive": 7200, "network_timeout": None}, {}, []),
        ({"keepalive": None}, {}, ["W014"]),
        ({"keepalive": None, "network_timeout": None}, {}, []),
        ({"network_timeout": 9}, {}, []),  # the default of keepalive is shortened
        ({"network_timeout": 2}, {}, ["W014"]),
        ({"network_timeout": 2, "keepalive": 60}, {}, ["W014"]),
        ({"network_timeout": 2, "keepalive": None}, {"HOST": "/s"}, ["W005"]),
        ({"network_timeout": 3}, {}, []),
        ({}, {"RECYCLE": {"idle_limit": 5}}, ["W013"]),
        ({}, {"IDLE_LIMIT": 5, "POOL_OPTIONS": {"POOL_SIZE": 5}}, ["W013", "W013"]),
        ({}, {"AUTOCOMMIT": False}, ["I002"]),
        ({"ping_afer": 3}, {}, ["E001"]),
        ([1], {}, ["E001"]),
        ({}, {"CONN_MAX_AGE": "60"}, ["E001"]),
        ({}, {"OPTIONS": {"idle_limit": 5}}, ["E002"]),
        ({}, {"OPTIONS": {"pool_size": 5, "pool_recycle": 3600}}, ["E002", "E002"]),
        ({}, {"OPTIONS": {"pool": True}}, []),
        ({"ping_afer": 3}, {"OPTIONS": {"idle_limit": 5}}, ["E002", "E001"]),
        ({}, {"OPTIONS": {"RECYCLE": {}, "pingafter": 5}}, ["E002", "E002"]),
        ({}, {"OPTIONS": {"application_name": "x"}}, []),
        ({}, {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True, "ATOMIC_REQUESTS": True}, []),
    ],
)
def test_what_sets_a_check_off_and_what_does_not(
    check: Check, recycle: Any, settings: dict[str, Any], found: list[str]
) -> None:
    messages = check(recycle, **settings)
    assert ids(messages) == found
    for message in messages:
        assert str(message.hint).endswith(f"/checks.html#{str(message.id)[-4:].lower()}")


@pytest.mark.parametrize("seconds", [0.0, 600.0])
def test_checks_name_the_setting_that_the_max_age_comes_from(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    limit = MaxAge(seconds, seconds or None, "another setting")
    monkeypatch.setattr("django_mysql_recycle.checks.entry.max_age_of", lambda *_: limit)
    settings = {"OPTIONS": {"recycle": {"jitter": 0.1}}}
    facts = ServerFacts("mysql", "9.7", wait_timeout=60)
    found = [*settings_findings("x", settings), *server_findings("x", settings, facts)]
    (said,) = (one.message + one.hint for one in found if one.id[-4:] in ("W006", "I101"))
    assert "another setting" in said and "CONN_MAX_AGE" not in said


@each([None, [], "passwd=secret", 5])
def test_options_that_are_no_dict_are_reported_by_the_check_and_by_connecting(given: Any) -> None:
    handler = ConnectionHandler({"default": {"ENGINE": "django_mysql_recycle", "OPTIONS": given}})
    connection = handler["default"]
    with pytest.raises(ImproperlyConfigured, match=r"\['OPTIONS'\]: expected a dict, got \w+$"):
        connection.get_connection_params()
    messages = settings_findings("default", connection.settings_dict)
    assert ids(messages) == ["E001"]
    assert "secret" not in str(messages)


PACKAGES: dict[str, list[dict[str, Any]]] = {
    "dbbackup": [
        {"DBBACKUP_CONNECTOR_MAPPING": {"django_mysql_recycle": "their.Connector"}},
        {"DBBACKUP_CONNECTORS": {"checked": {"CONNECTOR": "their.Connector"}}},
    ],
    "cachalot": [
        {"CACHALOT_ADDITIONAL_SUPPORTED_DATABASES": {"django_mysql_recycle"}},
        {"CACHALOT_USE_UNSUPPORTED_DATABASE": True},
        {"CACHALOT_DATABASES": {"default"}},
    ],
    "django_extensions": [{"DJANGO_EXTENSIONS_RESET_DB_MYSQL_ENGINES": ["django_mysql_recycle"]}],
}


@pytest.mark.parametrize("app", PACKAGES)
def test_package_that_does_not_know_the_engine_is_reported(
    check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, app: str
) -> None:
    (tmp_path / f"{app}.py").touch()  # tests/packages has the real ones
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, app, raising=False)
    assert check() == []
    with override_settings(INSTALLED_APPS=["tests.testapp", app]):
        assert ids(check()) == ["W016"]
        assert check(engine="django.db.backends.mysql") == []
        for setting in PACKAGES[app]:
            with override_settings(**setting):
                assert check() == []


def test_settings_of_ours_on_the_stock_backend_are_reported(check: Check) -> None:
    stock = "django.db.backends.mysql"
    assert ids(check({"idle_limit": 5}, engine=stock)) == ["E003"]
    assert ids(check({}, engine="django.db.backends.sqlite3")) == ["E003"]
    assert check({"of": "somebody else"}, engine=stock) == []
    assert check(engine=stock) == []


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("[client]\nsocket = /run/s\n", ["W005"]),
        ("[client]\nhost = db\nsocket = /run/s\n", []),
        ("[mysqld]\nsocket = /run/s\n[client]\nhost=db\n", []),
        ("[client]\nhost = 'localhost'\n", ["W005"]),
        (None, ["W005"]),
    ],
)
def test_transport_named_by_an_option_file(
    check: Check, tmp_path: Path, lines: str | None, found: list[str]
) -> None:
    file = tmp_path / "my.cnf"
    if lines is not None:
        file.write_text(lines)
    options = {"read_default_file": str(file)}
    assert ids(check({"keepalive": 9}, HOST="", OPTIONS=options)) == found


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"ssl_mode": "REQUIRED"}, ["I001"]),
        ({"ssl_mode": "VERIFY_IDENTITY"}, ["I001"]),
        ({"ssl": {"cert": "c.pem", "key": "k.pem"}}, ["I001"]),
        ({"ssl": {"ca": None, "cipher": "AES256-SHA"}}, ["I001"]),
        ({"ssl": True}, ["I001"]),
        ({"ssl_mode": "REQUIRED", "ssl": {"ca": "ca.pem"}}, []),
        ({"ssl_mode": "REQUIRED", "ssl": {"capath": "/etc/ssl/certs"}}, []),
        ({"ssl_mode": "PREFERRED"}, []),
        ({"ssl_mode": "DISABLED"}, []),
        ({"ssl": {}}, []),
    ],
)
def test_tls_without_an_authority_is_reported(
    check: Check, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], found: list[str]
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    assert ids(check(OPTIONS=options)) == (found if driver_versions.is_connector_c() else [])


def test_authority_named_elsewhere_is_found(
    check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "my.cnf"
    file.write_text("[client]\nssl_ca = /etc/ca.pem\n")
    assert check(OPTIONS={"ssl_mode": "REQUIRED", "read_default_file": str(file)}) == []
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert check(OPTIONS={"ssl_mode": "REQUIRED"}) == []
    found = ["I001"] if driver_versions.is_connector_c() else []
    for path in ("/nowhere/ca.pem", str(tmp_path / "bundle.pem")):
        (tmp_path / "bundle.pem").write_text("x" * 200_000)
        monkeypatch.setenv("SSL_CERT_FILE", path)
        assert ids(check(OPTIONS={"ssl_mode": "REQUIRED"})) == found


def pretend_installed(folder: Path, package: str, version: str) -> None:
    metadata = folder / f"{package}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")


@pytest.mark.parametrize(
    ("version", "found"), [("2.2.0", ["W008"]), ("2.2.1rc1", []), ("2.10", []), ("1.4.6", ["W008"])]
)
def test_driver_older_than_supported_is_reported(
    check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, found: list[str]
) -> None:
    pretend_installed(tmp_path, "mysqlclient", version)
    monkeypatch.syspath_prepend(tmp_path)  # importlib.metadata takes the first it finds
    assert ids(check()) == found


def test_driver_without_a_distribution_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(driver_versions.PACKAGES, "pymysql", "nowhere-to-be-found")
    assert driver_versions.installed("pymysql") is None
    assert driver_versions.numbers("unknown") == ()


def test_claim_that_django_6_would_refuse_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    import pymysql

    monkeypatch.setattr(pymysql, "version_info", (1, 4, 6, "final", 0))
    from django_mysql_recycle.checks.driver import _check_version

    (message,) = _check_version("default", "pymysql")
    assert message.id == "django_mysql_recycle.W009"
    monkeypatch.undo()
    assert list(_check_version("default", "pymysql")) == []


def test_refusal_of_djangos_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import pymysql

    refusal = ImproperlyConfigured("mysqlclient 2.2.1 or newer is required; you have 1.4.6.")
    monkeypatch.setattr(pymysql, "version_info", (1, 4, 6, "final", 0))
    assert "remove that line" in str(driver_versions.explained("pymysql", refusal))
    pretend_installed(tmp_path, "PyMySQL", "1.1.1")
    monkeypatch.syspath_prepend(tmp_path)
    assert "PyMySQL 1.2 and later" in str(driver_versions.explained("pymysql", refusal))


def test_app_registers_what_the_backend_registers() -> None:
    before: set[Any] = set(registry.registered_checks)
    MySQLRecycleConfig("django_mysql_recycle", django_mysql_recycle).ready()
    assert registry.registered_checks == before
    assert check_settings in before


@each([ServerFacts("mysql", ""), ServerFacts("mysql", "9.7", "", 1)])
def test_what_the_server_does_not_report_is_not_judged(facts: ServerFacts) -> None:
    settings = {
        "CONN_MAX_AGE": 9e9,
        "OPTIONS": {"recycle": {"idle_limit": 9e9, "ping_after": 9e8}},
    }
    assert server_findings("default", settings, facts) == []


def test_another_refusal_of_djangos_stays_as_it_is() -> None:
    error = ImproperlyConfigured("something else")
    assert driver_versions.explained("mysqlclient", error) is error


def test_backend_of_another_alias_that_cannot_be_loaded_does_not_stop_the_checks(
    check: Check,
) -> None:
    assert check(engine="nowhere") == []
    with pytest.raises(ImproperlyConfigured):
        connections["checked"]


def test_backend_of_another_alias_that_is_broken_stops_neither_the_checks_nor_the_command(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("broken", "broken.base"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    assert check(engine="broken") == []
    with pytest.raises(AttributeError):
        connections["checked"]
    assert survey()[1]["checked"] == "broken"


def test_findings_never_raise_and_never_show_the_password() -> None:
    for options in (
        {},
        {"recycle": 7},
        {"recycle": {"keepalive": 9}, "ssl": True},
        {"recycle": {"keepalive": 9}, "read_default_file": 5},
        {"recycle": {"keepalive": 9}, "read_default_file": "\0"},
    ):
        for message in settings_findings("x", {"PASSWORD": "geheim", "OPTIONS": options}):
            assert "geheim" not in f"{message.message}{message.hint}"


def test_every_check_is_documented_and_every_documented_one_exists() -> None:
    package = ROOT / "django_mysql_recycle"
    pattern = r"\bcheck\(\s*\"([EIW]\d{3})\""
    modules = package.glob("checks/*.py")
    coded = {found for module in modules for found in re.findall(pattern, module.read_text())}
    page = (ROOT / "docs" / "checks.md").read_text()
    headings = re.findall(r"^### `django_mysql_recycle\.([EIW]\d{3})`$", page, re.MULTILINE)
    assert len(headings) == len(set(headings))
    assert set(headings) == coded
    for section in page.split("\n### ")[1:]:
        assert "**What it says.**" in section and "**What to do.**" in section, section[:60]


def test_silenced_check_reports_nothing(check: Check, settings: Any) -> None:
    settings.SILENCED_SYSTEM_CHECKS = ["django_mysql_recycle.W001"]
    (message,) = check({"idle_limit": 5, "ping_after": 5})
    assert message.is_silenced()
