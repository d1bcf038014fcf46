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
import yaml

from django_mysql_recycle import events, signals
from django_mysql_recycle.documents import SITE
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
settings.configure(
    DATABASES={{"default": {database!r}}},
    INSTALLED_APPS=[{app!r}],
    ROOT_URLCONF="urls",
    ALLOWED_HOSTS=["*"],
    USE_TZ=True,
)
import sys, types
import django
{before}
django.setup()
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
    time.sleep(0.05)  # longer than the millisecond after a statement in which the socket is not checked

def work():
    kill()
    assert ask("SELECT 1") == (1,)
    assert ask("SELECT GET_LOCK('leader', 0)") == (1,)
    kill()
    try:
        ask("SELECT 1")
    except SessionStateLost:
        pass
    else:
        raise AssertionError("the lock was lost without an error")

{then}
"""

PROMETHEUS = "django_mysql_recycle.contrib.prometheus"
OPENTELEMETRY = "django_mysql_recycle.contrib.opentelemetry"

#: Requests the address of the page's URLconf, and prints what it answers.
SCRAPE = f"""
urls = types.ModuleType("urls")
exec({recipe("view")!r}, urls.__dict__)
sys.modules["urls"] = urls
from django.test import Client
print(Client().get("/metrics").content.decode())
"""


def run(
    server: Server, driver: str, app: str, then: str, *, before: str = "", **environment: str
) -> str:
    database: dict[str, Any] = {"ENGINE": "django_mysql_recycle", "OPTIONS": {}}
    point(database, server)
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            WORKER.format(database=database, app=app, then=then, before=before),
        ],
        cwd=ROOT,
        env={**os.environ, "DJANGO_MYSQL_RECYCLE_DRIVER": driver, **environment},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ran.returncode == 0, ran.stderr
    assert "failed" not in ran.stderr
    return ran.stdout


def ours(scrape: str) -> str:
    """The lines of the backend. prometheus_client also describes Python and the process."""
    lines = [line for line in scrape.splitlines() if "django_mysql_recycle" in line]
    return "\n".join(line for line in lines if "_created" not in line) + "\n"


def test_apps_of_the_page_are_those_that_exist() -> None:
    assert PROMETHEUS in recipe("app")
    assert OPENTELEMETRY in PAGE


def test_scrape_is_what_the_page_shows(server: Server, driver: str) -> None:
    scrape = run(server, driver, PROMETHEUS, f"work()\n{SCRAPE}")
    assert ours(scrape) == recipe("scrape")


def test_scrape_of_a_process_to_which_nothing_has_happened_names_the_metrics(
    server: Server, driver: str
) -> None:
    scrape = ours(run(server, driver, PROMETHEUS, SCRAPE))
    assert len(scrape.splitlines()) == 2 * len(events.DESCRIPTIONS)  # HELP and TYPE of each


def test_multi_process_mode_sums_up_the_processes(
    server: Server, driver: str, tmp_path: Path
) -> None:
    folder = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    run(server, driver, PROMETHEUS, "work()", **folder)
    scrape = run(server, driver, PROMETHEUS, f"work()\n{SCRAPE}", **folder)
    assert {
        'django_mysql_recycle_recycled_total{alias="default",reason="closed"} 2.0',
        'django_mysql_recycle_state_lost_total{alias="default",reason="closed"} 2.0',
    } <= set(ours(scrape).splitlines())


def test_forked_worker_counts_what_happens_to_itself(server: Server, driver: str) -> None:
    """Its parent's replacements are not counted twice."""
    then = f"""
work()
import os
number = os.fork()
if number == 0:
    assert ask("SELECT 1") == (1,)
    kill()
    assert ask("SELECT 1") == (1,)
    {"    ".join(SCRAPE.strip().splitlines(keepends=True))}
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(number, 0)[1] == 0
"""
    lines = ours(run(server, driver, PROMETHEUS, then)).splitlines()
    assert 'django_mysql_recycle_recycled_total{alias="default",reason="closed"} 1.0' in lines
    assert not [line for line in lines if line.startswith("django_mysql_recycle_state_lost_total{")]


#: Sets the SDK up, and prints what it has collected.
SDK = """
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
trace.set_tracer_provider(TracerProvider())
"""
COLLECT = """
with trace.get_tracer("application").start_as_current_span("a request") as span:
    work()
for event in span.events:
    print("event", event.name, event.attributes["reason"], event.attributes.get("state"))
for resource in reader.get_metrics_data().resource_metrics:
    for scope in resource.scope_metrics:
        for metric in scope.metrics:
            for point in metric.data.data_points:
                print("metric", metric.name, dict(point.attributes), point.value)
"""


def test_opentelemetry_has_the_counters_and_the_span_has_the_events(
    server: Server, driver: str
) -> None:
    seen = run(server, driver, OPENTELEMETRY, COLLECT, before=SDK).splitlines()
    attributes = {"alias": "default", "reason": "closed"}
    assert seen == [
        "event django_mysql_recycle.connection_recycled closed None",
        "event django_mysql_recycle.session_state_lost closed ('named lock',)",
        f"metric django_mysql_recycle.recycled {attributes} 1",
        f"metric django_mysql_recycle.state_lost {attributes} 1",
    ]
    for line in seen:
        assert line.split()[1] in PAGE or "session_state_lost" in line


RULES = yaml.safe_load((ROOT / "docs" / "alerts" / "prometheus.yml").read_text())["groups"][0]


def test_alert_rules_name_metrics_labels_and_reasons_that_exist() -> None:
    from django_mysql_recycle.contrib.prometheus import METRICS

    names = {f"{name}_total" for name, _ in METRICS.values()}
    for rule in RULES["rules"]:
        found = re.findall(r"(django_mysql_recycle_\w+)(?:\{(\w+)=~?\"([^\"]*)\"\})?", rule["expr"])
        assert found, rule["alert"]
        for name, label, values in found:
            assert name in names
            if label:
                assert label == "reason"
                assert set(values.split("|")) <= set(events.LEVELS)
        assert rule["annotations"]["runbook_url"].startswith(SITE)


def test_alerts_of_the_page_are_those_of_the_file() -> None:
    assert _first_column("Alerts") == [rule["alert"] for rule in RULES["rules"]]


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
    cells = [line.strip("| ").split(" | ") for line in table.splitlines() if line[:1] == "|"][2:]
    named = [re.findall(r"`(\w+)`", " ".join(row[2:])) for row in cells]
    assert {row[0] for row in named if len(row) == 2} == set(signals.__all__)
    assert {row[-1] for row in named if row} == set(events.DESCRIPTIONS)
    assert set(events.EVENTS) <= set(events.DESCRIPTIONS)


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
