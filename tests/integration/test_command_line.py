"""`manage.py mysql_recycle` as a program: its exit status, its streams, Ctrl-C and terminals."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from servers import Server
from servers.machine import free_port

from .admin import Admin
from .connections import OURS, STOCK

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "django", "mysql_recycle"]

Project = Callable[..., dict[str, str]]


@pytest.fixture
def project(server: Server, driver: str) -> Project:
    """`project(alias={...}, ...)`: the environment of a project with these aliases."""
    plain = {"ssl_disabled": True} if driver == "pymysql" else {"ssl_mode": "DISABLED"}
    address = {
        "HOST": server.host,
        "PORT": server.port,
        "USER": server.user,
        "PASSWORD": server.password,
        "NAME": server.database,
        "OPTIONS": plain,
    }

    def environment(apps: list[str] | None = None, **aliases: dict[str, Any]) -> dict[str, str]:
        databases = {
            alias: {"ENGINE": OURS, **address, **given} for alias, given in aliases.items()
        }
        databases.setdefault("default", {"ENGINE": OURS, **address})
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return {
            **kept,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "tests.command_settings",
            "RECYCLE_TEST_DRIVER": driver,
            "RECYCLE_TEST_DATABASES": json.dumps(databases),
            "RECYCLE_TEST_APPS": json.dumps([OURS] if apps is None else apps),
        }

    return environment


def run(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=env, capture_output=True, text=True, timeout=30, check=False
    )


def test_status_0_and_only_json_on_stdout_where_all_is_well(project: Project) -> None:
    lite = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "OPTIONS": {}}
    result = run("--json", env=project(stock={"ENGINE": STOCK}, lite=lite))
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert [alias["alias"] for alias in document["aliases"]] == ["stock", "default"]
    assert document["ignored"] == [{"alias": "lite", "engine": "django.db.backends.sqlite3"}]
    assert result.stderr == ""


def test_status_1_where_something_is_wrong(project: Project) -> None:
    away = {"PORT": free_port(), "OPTIONS": {"recycle": {"connect_retries": 0}}}
    broken = {"OPTIONS": {"recycle": {"jitter": 2}}}
    result = run(env=project(away=away, broken=broken))
    assert result.returncode == 1
    assert result.stderr == "CommandError: away: 1 error; broken: 1 error\n"
    assert "django_mysql_recycle.unreachable" in result.stdout
    assert "django_mysql_recycle.E001" in result.stdout
    assert "\ndefault (django_mysql_recycle): ok\n  server" in result.stdout


def test_reader_that_leaves_early_is_no_error(project: Project) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as unread:
        for arguments in ([], ["--json"]):
            result = subprocess.run(
                [*COMMAND, *arguments],
                env=project(other={}),
                stdout=unread,
                stderr=subprocess.PIPE,
                text=True,
                timeout=30,
                check=False,
            )
            assert (result.returncode, result.stderr) == (0, "")


def test_letters_that_the_encoding_lacks_are_escaped(project: Project) -> None:
    env = {**project(größe={}), "PYTHONIOENCODING": "ascii"}
    result = run(env=env)
    assert result.returncode == 0, result.stderr
    assert "\ngr\\xf6\\xdfe (django_mysql_recycle): ok\n" in result.stdout


def test_traceback_is_given_where_it_is_asked_for(project: Project) -> None:
    result = run("--traceback", "--database", "nope", env=project())
    assert result.returncode == 1  # Python's own
    assert "Traceback" in result.stderr


def test_status_2_for_what_cannot_be_asked(project: Project) -> None:
    result = run("--database", "nope", env=project())
    assert result.returncode == 2
    assert (
        "--database: expected an alias of DATABASES on MySQL or MariaDB (one of default), got 'nope'"
        in result.stderr
    )
    assert result.stdout == ""


def test_explanation_and_schema_need_no_server_and_no_usable_settings(project: Project) -> None:
    env = project(default={"ENGINE": "nowhere"})
    received = run("--explain", "W012", env={**env, "COLUMNS": "60"})
    assert (received.returncode, received.stderr) == (0, "")
    assert received.stdout.startswith("W012\n\nWhat it says. ")
    assert max(map(len, received.stdout.splitlines())) <= 60
    asked = run("--schema", env=env)
    assert (asked.returncode, asked.stderr) == (0, "")
    assert json.loads(asked.stdout)["properties"]["schema"] == {"const": 1}
    unknown = run("--explain", "W999", env=env)
    assert unknown.returncode == 2 and "expected one of E001, " in unknown.stderr


@pytest.mark.parametrize("engine", [OURS, STOCK])
def test_check_ends_with_what_is_to_be_done_about_a_misspelt_setting(
    project: Project, engine: str
) -> None:
    """From Django 6.1 on its checks of models connect, before any check of the settings is shown."""
    apps = ["django.contrib.auth", "django.contrib.contenttypes"]
    wrong = {"ENGINE": engine, "OPTIONS": {"recycel": {"idle_limit": 5}}}
    checked = subprocess.run(
        [sys.executable, "-m", "django", "check"],
        env=project(apps=apps, default=wrong),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    hint = "Did you mean DATABASES['default']['OPTIONS']['recycle']?"
    assert (hint in checked.stderr) is (engine == OURS), checked.stderr
    assert "TypeError" not in checked.stderr or engine == STOCK


def test_project_that_does_not_list_the_app_has_no_such_command(project: Project) -> None:
    env = project(apps=[])
    result = run(env=env)
    assert (result.returncode, "Unknown command: 'mysql_recycle'" in result.stderr) == (1, True)
    checked = subprocess.run(
        [sys.executable, "-m", "django", "check", "--database", "default"],
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_interrupted_proof_leaves_cleanly_with_status_130(project: Project, admin: Admin) -> None:
    before = admin.connection_ids()
    process = subprocess.Popen(
        [*COMMAND, "--prove", "--json", "--skip-checks"],
        env=project(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line == "default: waiting for the server to close the connection, 0 s\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert (out, err.splitlines()[-1]) == ("", "CommandError: interrupted")
    assert "Traceback" not in err
    assert not set(err) & {"\r", "\x1b"}
    for number in admin.connection_ids() - before:
        admin.wait_until_closed(number)


def on_terminal(*arguments: str, env: dict[str, str]) -> tuple[int, str]:
    """Run the command on a pseudo-terminal: status, and everything that it wrote there."""
    terminal, other_end = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments], env=env, stdin=other_end, stdout=other_end, stderr=other_end
    )
    os.close(other_end)
    written = b""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            try:
                chunk = os.read(terminal, 65536)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            written += chunk
    os.close(terminal)
    return process.wait(timeout=10), written.decode()


def test_terminal_gets_colours_and_one_line_that_is_rewritten(
    project: Project, server: Server
) -> None:
    status, reported = on_terminal("--prove", env={**project(), "TERM": "xterm"})
    assert status == 0, reported
    assert "\x1b[" in reported
    waiting = [part for part in reported.split("\r") if "waiting for the server" in part]
    assert len(waiting) > 10
    assert "\n" not in "".join(waiting)
    assert re.search(r"\r +\r", reported), "the line is not cleared"
    assert "proven: " in reported
    assert server.password not in reported


@pytest.mark.parametrize(
    ("arguments", "more"), [(["--no-color"], {}), ([], {"NO_COLOR": "1"})], ids=["option", "env"]
)
def test_terminal_gets_no_colours_where_they_are_not_wanted(
    project: Project, arguments: list[str], more: dict[str, str]
) -> None:
    env = {**project(stock={"ENGINE": STOCK}), "TERM": "xterm", **more}
    status, reported = on_terminal(*arguments, env=env)
    assert status == 0, reported
    assert "django_mysql_recycle.stock_backend" in reported
    assert "\x1b" not in reported
