"""docs/recipes/instrumentation.md: packages that watch statements or connections, and a lost connection."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from servers import Server
from tests.choice import DRIVER
from tests.docs.recipes.projects import OURS, STOCK, Project
from tests.integration.admin import Admin

#: What every program begins with: `ask()` runs a statement, `lose()` has the connection killed.
BEGINNING = """
import json
import select

import django

{before}
django.setup()

from django.db import Error, connection, connections


def ask(text="mine"):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT '{{text}}', CONNECTION_ID()")
        return cursor.fetchone()[1]


def lose():
    number = ask("lost")
    raw = connection.connection
    socket = getattr(raw, "_sock", None) or raw.fileno()
    other = connections.create_connection("default")
    with other.cursor() as cursor:
        cursor.execute(f"KILL {{number}}")
    other.close()
    assert select.select([socket], [], [], 10)[0]


def work():
    ask()
    lose()
    try:
        ask("after")
    except Error as error:
        return f"{{type(error).__name__}} {{error.args[0]}}"
    return "works"
"""


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project()


def run(project: Project, engine: str, program: str, before: str = "", **options: Any) -> Any:
    """Run a program and return what it prints in its last line, as JSON."""
    project.write("program.py", BEGINNING.format(before=before) + program)
    said = project.run(engine, "python", "program.py", **options)
    *lines, status = filter(None, said.splitlines())
    assert status == "exit status 0", said
    return json.loads(lines[-1])


def goes_on(answer: Any) -> bool:
    """Whether the statement after the loss worked; the control must fail with a driver's error."""
    assert answer == "works" or answer.startswith("OperationalError 20"), answer
    return bool(answer == "works")


SENTRY = """
import sentry_sdk
from sentry_sdk.transport import Transport

sent = []


class Kept(Transport):
    def capture_envelope(self, envelope):
        sent.extend(item.payload.json for item in envelope.items)


sentry_sdk.init(dsn="http://key@127.0.0.1:1/1", transport=Kept(), traces_sample_rate=1.0)
"""


@pytest.mark.parametrize("engine", [OURS, STOCK])
def test_sentry(project: Project, bank: Admin, engine: str) -> None:
    program = """
with sentry_sdk.start_transaction(name="work"):
    answer = work()
sentry_sdk.flush()
spans = [span for event in sent for span in event.get("spans", ()) if span["op"] == "db"]
texts = [span["description"] for span in spans]
print(json.dumps([answer, [text for text in texts if "'mine'" in text or "'after'" in text]]))
"""
    answer, spans = run(project, engine, program, SENTRY)
    assert goes_on(answer) is (engine == OURS)
    # Each statement of the application has one span, also that which needed a new connection.
    assert spans == ["SELECT 'mine', CONNECTION_ID()", "SELECT 'after', CONNECTION_ID()"]


OPENTELEMETRY = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
"""
INSTRUMENTOR = {
    "mysqlclient": "from opentelemetry.instrumentation.mysqlclient import MySQLClientInstrumentor as One",
    "pymysql": "from opentelemetry.instrumentation.pymysql import PyMySQLInstrumentor as One",
}


@pytest.mark.parametrize("engine", [OURS, STOCK])
@pytest.mark.parametrize("when", ["before", "after"])
def test_opentelemetry(project: Project, bank: Admin, engine: str, when: str) -> None:
    """The driver is instrumented before Django is set up, as opentelemetry-instrument does it, or
    after it."""
    instrument = f"{INSTRUMENTOR[DRIVER]}\nOne().instrument()\n"
    before = OPENTELEMETRY + (instrument if when == "before" else "")
    program = (
        ("" if when == "before" else instrument)
        + """
answer = work()
texts = [span.attributes.get("db.statement") or span.attributes.get("db.query.text")
         for span in exporter.get_finished_spans()]
print(json.dumps([answer, [t for t in texts if t and ("'mine'" in t or "'after'" in t)]]))
"""
    )
    answer, spans = run(project, engine, program, before)
    assert goes_on(answer) is (engine == OURS)
    assert spans == ["SELECT 'mine', CONNECTION_ID()", "SELECT 'after', CONNECTION_ID()"]


OPENTELEMETRY_OF_DJANGO = """
import os

os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.with_view"
from opentelemetry.instrumentation.django import DjangoInstrumentor

DjangoInstrumentor().instrument(is_sql_commentor_enabled=True)
"""


@pytest.mark.parametrize("engine", [OURS, STOCK])
def test_opentelemetry_of_django_with_comments_in_the_statements(
    project: Project, bank: Admin, engine: str
) -> None:
    project.write(
        "mysite/with_view.py",
        "from mysite.settings import *\n\nROOT_URLCONF = 'mysite.with_view_urls'\n",
    )
    project.write(
        "mysite/with_view_urls.py",
        "from django.http import HttpResponse\nfrom django.urls import path\n\n\n"
        "def view(request):\n    import __main__\n\n    return HttpResponse(__main__.work())\n\n\n"
        "urlpatterns = [path('', view)]\n",
    )
    instrument = f"{INSTRUMENTOR[DRIVER]}\nOne().instrument()\n"
    before = OPENTELEMETRY + OPENTELEMETRY_OF_DJANGO + instrument
    program = """
from django.test import Client

answer = Client().get("/").content.decode()
spans = exporter.get_finished_spans()
texts = [span.attributes.get("db.statement") or "" for span in spans]
mine = [text for text in texts if "'mine'" in text or "'after'" in text]
print(json.dumps([answer, mine, [span.name for span in spans]]))
"""
    answer, mine, names = run(project, engine, program, before)
    assert goes_on(answer) is (engine == OURS)
    assert len(mine) == 2 and all(f"db_driver='{engine}'" in text for text in mine)
    assert names[-1] == "GET"


PROMETHEUS = """
from django_mysql_recycle.base import RecycleMixin
from django_prometheus.db.backends.mysql.base import DatabaseWrapper as PrometheusWrapper


class DatabaseWrapper(RecycleMixin, PrometheusWrapper):
    pass
"""


def test_django_prometheus_below_the_mixin(project: Project, bank: Admin) -> None:
    project.write("mysite/database/base.py", PROMETHEUS)
    program = """
from prometheus_client import REGISTRY

def counted(name):
    return REGISTRY.get_sample_value(name, {"alias": "default", "vendor": "mysql"})

answer = work()
print(json.dumps([answer, counted("django_db_execute_total"), counted("django_db_new_connections_total")]))
"""
    answer, executed, connected = run(project, "mysite.database", program)
    assert answer == "works"
    # KILL, and what Django sends with a new connection, are counted as well.
    assert executed >= 4 and connected == 3
    theirs, *_ = run(project, "django_prometheus.db.backends.mysql", program)
    assert not goes_on(theirs)


IAM = """
from django_iam_dbauth.aws.mysql.base import DatabaseWrapper as IAMWrapper
from django_mysql_recycle.base import RecycleMixin


class DatabaseWrapper(RecycleMixin, IAMWrapper):
    pass
"""
#: Stands for AWS: each token is good for one login, and the next one is another.
TOKENS = """
import os
import secrets

import boto3
import pymysql


class Tokens:
    made = 0

    def client(self, **arguments):
        return self

    def generate_db_auth_token(self, **arguments):
        Tokens.made += 1
        token = secrets.token_hex(20)
        admin = pymysql.connect(
            host=os.environ["MYSQL_HOST"],
            port=int(os.environ["MYSQL_PORT"]),
            user=os.environ["MYSQL_USER"],
            password=os.environ["MYSQL_PASSWORD"],
        )
        admin.cursor().execute(f"ALTER USER iam@'127.0.0.1' IDENTIFIED BY '{token}'")
        admin.close()
        return token


boto3.session.Session = Tokens
"""


def test_django_iam_dbauth_has_a_new_password_for_each_connection(
    project: Project, bank: Admin, server: Server
) -> None:
    project.write("mysite/database/base.py", IAM)
    bank.rows("DROP USER IF EXISTS iam@'127.0.0.1'")
    bank.rows("CREATE USER iam@'127.0.0.1' IDENTIFIED BY 'never used'")
    bank.rows(f"GRANT ALL ON {server.database}.* TO iam@'127.0.0.1'")
    database = {
        "USER": "iam",
        "PASSWORD": "",
        "OPTIONS": {
            "use_iam_auth": True,
            "region_name": "eu-west-1",
            "resolve_cname_enabled": False,
        },
    }
    program = "print(json.dumps([work(), Tokens.made]))\n"
    try:
        answer, made = run(project, "mysite.database", program, TOKENS, database=database)
        assert (answer, made) == ("works", 3)
        stock = "django_iam_dbauth.aws.mysql"
        theirs, made = run(project, stock, program, TOKENS, database=database)
        assert not goes_on(theirs) and made == 2
    finally:
        bank.rows("DROP USER iam@'127.0.0.1'")


TOOLBAR = """
import os

os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.with_toolbar"
"""
TOOLBAR_SETTINGS = """
from mysite.settings import *

DEBUG = True
INSTALLED_APPS += ["django.contrib.staticfiles", "debug_toolbar"]
MIDDLEWARE = ["debug_toolbar.middleware.DebugToolbarMiddleware"]
DEBUG_TOOLBAR_CONFIG = {"SHOW_TOOLBAR_CALLBACK": lambda request: True}
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
ROOT_URLCONF = "mysite.with_toolbar_urls"
"""
TOOLBAR_URLS = """
from debug_toolbar.toolbar import debug_toolbar_urls
from django.http import HttpResponse
from django.urls import path


def view(request):
    import __main__

    return HttpResponse(f"<html><body>answer: [{__main__.work()}]</body></html>")


urlpatterns = [path("", view), *debug_toolbar_urls()]
"""


@pytest.mark.parametrize("engine", [OURS, STOCK])
def test_debug_toolbar(project: Project, bank: Admin, engine: str) -> None:
    project.write("mysite/with_toolbar.py", TOOLBAR_SETTINGS)
    project.write("mysite/with_toolbar_urls.py", TOOLBAR_URLS)
    program = """
from debug_toolbar.panels.sql import SQLPanel
from django.test import Client

shown = []
generate = SQLPanel.generate_stats

def keep(self, request, response):
    shown.extend(query["sql"] for query in self._queries)
    return generate(self, request, response)

SQLPanel.generate_stats = keep
page = Client().get("/").content.decode()
print(json.dumps([page.partition("answer: [")[2].partition("]")[0], "djDebug" in page, shown]))
"""
    answer, has_toolbar, shown = run(project, engine, program, TOOLBAR)
    assert goes_on(answer) is (engine == OURS)
    mine = [sql for sql in shown if "'mine'" in sql or "'after'" in sql]
    assert has_toolbar
    if engine == OURS:  # the toolbar leaves out what has failed on a connection that is lost
        assert len(mine) == 2
