"""docs/monitoring.md: its recipes are run as they stand there, its tables are those of the code."""

from __future__ import annotations

import logging
import logging.config
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from django_mysql_recycle import events, signals
from servers import Server
from tests.integration.connections import point

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "monitoring.md").read_text()


def recipe(name: str) -> str:
    """The block of the page that is marked with this name."""
    found = re.search(
        rf"^<!-- recipe: {name} -->\n(?:<!-- [^\n]* -->\n)?```\w+\n(.*?)^```$", PAGE, re.M | re.S
    )
    assert found is not None, name
    return found[1]


#: A process of an application: loses two connections, the second with a lock, and goes on.
WORKER = """
from django.conf import settings
settings.configure(DATABASES={{"default": {database!r}}}, USE_TZ=True)
import django
django.setup()
{recipes}
import time
from django.db import connection, connections
from django_mysql_recycle import SessionStateLost

def ask(sql, using=connection):
    with using.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()

def kill():
    (number,) = ask("SELECT CONNECTION_ID()")
    ask(f"KILL {{number}}", connections["default"].copy("killer"))
    time.sleep(0.05)  # longer than the millisecond after a statement in which nobody looks

kill()
assert ask("SELECT 1") == (1,)
assert ask("SELECT GET_LOCK('leader', 0)") == (1,)
kill()
try:
    ask("SELECT 1")
except SessionStateLost:
    pass
else:
    raise AssertionError("the lock was lost in silence")
{end}
"""


def work(server: Server, driver: str, *names: str, end: str = "", **environment: str) -> str:
    database: dict[str, Any] = {"ENGINE": "django_mysql_recycle", "OPTIONS": {}}
    point(database, server)
    recipes = "\n".join(map(recipe, names))
    ran = subprocess.run(
        [sys.executable, "-c", WORKER.format(database=database, recipes=recipes, end=end)],
        cwd=ROOT,
        env={**os.environ, "DJANGO_MYSQL_RECYCLE_DRIVER": driver, **environment},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def ours(scrape: str) -> str:
    """The lines of the backend's own; prometheus_client tells of Python and the process, too."""
    lines = [line for line in scrape.splitlines() if "django_mysql_recycle" in line]
    return "\n".join(line for line in lines if "_created" not in line) + "\n"


def test_scrape_is_what_the_page_shows(server: Server, driver: str) -> None:
    scrape = work(server, driver, "collector", "view", end="print(metrics(None).content.decode())")
    assert ours(scrape) == recipe("scrape")


def test_collector_says_zero_things_of_a_process_to_which_nothing_has_happened() -> None:
    program = f"{recipe('collector')}\n{recipe('view')}\nprint(generate_latest().decode())"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=50
    )
    assert ran.returncode == 0, ran.stderr
    assert len(ours(ran.stdout).splitlines()) == 6  # HELP and TYPE of each


def test_multi_process_mode_sums_up_the_processes(
    server: Server, driver: str, tmp_path: Path
) -> None:
    folder = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    work(server, driver, "signals", **folder)
    scrape = work(
        server,
        driver,
        "signals",
        "multiprocess view",
        end="print(metrics_of_all(None).content.decode())",
        **folder,
    )
    told = set(ours(scrape).splitlines())
    assert {
        'django_mysql_recycle_recycled_total{alias="default",reason="closed"} 2.0',
        'django_mysql_recycle_state_lost_total{alias="default",reason="closed"} 2.0',
    } <= told


def test_collector_of_ones_own_does_not_work_in_multi_process_mode(
    server: Server, driver: str, tmp_path: Path
) -> None:
    """Why the page has two recipes. If this ever works, one is enough."""
    scrape = work(
        server,
        driver,
        "collector",
        "multiprocess view",
        end="print(metrics_of_all(None).content.decode())",
        PROMETHEUS_MULTIPROC_DIR=str(tmp_path),
    )
    assert "django_mysql_recycle" not in scrape


def _first_column(heading: str) -> list[str]:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    return [row[0].strip("`") for row in rows[2:]]


def test_reasons_of_the_page_are_those_of_the_code() -> None:
    assert _first_column("Reasons") == list(events.LEVELS)
    for reason, level in events.LEVELS.items():
        (line,) = (line for line in PAGE.splitlines() if line.startswith(f"| `{reason}` |"))
        assert line.endswith(f"| {logging.getLevelName(level)} |")


def test_signals_and_events_of_the_page_are_those_of_the_code() -> None:
    table = PAGE.partition("\n## ")[0]
    assert re.findall(r"^\|.*?\|.*?\| `(\w+)` \| `\w+` \|$", table, re.M) == [
        "connection_recycled",
        "statement_repeated",
        "session_state_lost",
    ]
    assert set(re.findall(r"\| `(\w+)` \| `\w+` \|$", table, re.M)) == set(signals.__all__)
    assert tuple(re.findall(r"\| `\w+` \| `(\w+)` \|$", table, re.M)) == events.EVENTS


def test_logging_of_the_page_writes_the_line_of_the_page(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names: dict[str, Any] = {}
    (block,) = re.findall(r"^```python\n(LOGGING = .*?)^```$", PAGE, re.M | re.S)
    exec(block, names)
    logger = logging.getLogger("django_mysql_recycle")
    was = logger.level, logger.handlers[:]
    try:
        logging.config.dictConfig({**names["LOGGING"], "incremental": False})

        class Wrapper:
            alias = "default"

        events.recycled(
            Wrapper(), reason="closed", age=5.0, idle=5.0, idle_limit=None, max_age=None
        )
        assert capsys.readouterr().err in PAGE
    finally:
        logger.setLevel(was[0])
        logger.handlers[:] = was[1]
