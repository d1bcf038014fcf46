"""docs/recipes/task-queues.md: workers of task queues whose tasks pause for longer than the server waits."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from servers.machine import find_program, locked
from servers.unpacked import UnpackedTree
from tests.docs.recipes.conftest import balances
from tests.docs.recipes.projects import OURS, STOCK, Project
from tests.integration.acts import wait_for
from tests.integration.admin import Admin

#: Reads, pauses for longer than wait_timeout, and writes.
WORK = """
from bank.models import Account
from elsewhere import convert


def send_statement(owner):
    account = Account.objects.get(owner=owner)
    convert(account)
    account.balance += 1
    account.save()
"""


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    project = make_project()
    project.write("bank/work.py", WORK)
    return project


def run_both(project: Project, bank: Admin, program: str, **options: str) -> tuple[str, str]:
    """Run a program with either ENGINE at the same time, ours for Ann and Django's own for Bob."""
    project.write("worker.py", f"import django\n\ndjango.setup()\n{program}")
    with ExitStack() as stack:
        ours, stock = (
            stack.enter_context(
                project.start(engine, "python", "worker.py", more={"OWNER": owner, **options})
            )
            for engine, owner in ((OURS, "ann"), (STOCK, "bob"))
        )
        said = ours.wait(), stock.wait()
    assert balances(bank) == {"ann": 1, "bob": 0}, said
    assert "OperationalError" in said[1] and "OperationalError" not in said[0]
    return said


def test_huey(project: Project, bank: Admin) -> None:
    settings = (
        "from mysite.settings import *\nimport os\nfrom huey import FileHuey\n"
        "INSTALLED_APPS += ['huey.contrib.djhuey']\n"
        "HUEY = FileHuey('bank', path=os.environ['OWNER'])\n"
    )
    project.write("mysite/with_huey.py", settings)
    project.write(
        "bank/tasks.py",
        "from huey.contrib.djhuey import db_task\n\nfrom bank import work\n\n\n"
        "@db_task()\ndef send_statement(owner):\n    work.send_statement(owner)\n",
    )
    with ExitStack() as stack:
        programs = []
        for engine, owner in ((OURS, "ann"), (STOCK, "bob")):
            more = {"OWNER": owner, "DJANGO_SETTINGS_MODULE": "mysite.with_huey"}
            send = f"from bank.tasks import *; send_statement({owner!r})"
            said = project.run(
                engine, *("python", "manage.py", "shell", "--no-imports", "-c", send), more=more
            )
            assert said.endswith("exit status 0"), said
            worker = project.start(engine, "python", "manage.py", "run_huey", more=more)
            programs.append(stack.enter_context(worker))
        ours, stock = programs
        assert "OperationalError" in stock.wait_for("Unhandled exception in task")
        ours.wait_for(" executed in ")
    assert balances(bank) == {"ann": 1, "bob": 0}


RQ = """
import os

from bank.models import Account
from bank.work import send_statement
from redis import Redis
from rq import Queue, SimpleWorker, Worker

redis = Redis(unix_socket_path=os.environ["REDIS"])
Account.objects.count()  # a child inherits this connection
Queue(os.environ["OWNER"], connection=redis).enqueue(send_statement, os.environ["OWNER"])
kind = {"fork": Worker, "simple": SimpleWorker}[os.environ["KIND"]]
kind([os.environ["OWNER"]], connection=redis).work(burst=True)
"""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """A Redis server: the path of its socket."""
    if program := find_program("redis-server"):
        command: tuple[str, ...] = (program,)
    else:
        tree = UnpackedTree("redis")
        with locked("redis"):
            if tree.command("usr/bin/redis-server") is None:
                tree.fill("redis-server")
        command = tree.command("usr/bin/redis-server") or ()
    path = tmp_path / "redis.sock"
    process = subprocess.Popen([*command, "--port", "0", "--save", "", "--unixsocket", str(path)])
    try:
        wait_for(path.exists, "Redis has a socket")
        yield str(path)
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("kind", ["fork", "simple"])
def test_rq(project: Project, bank: Admin, redis: str, kind: str) -> None:
    run_both(project, bank, RQ, KIND=kind, REDIS=redis)


DRAMATIQ = """
import os

import dramatiq
from bank import work
from django_dramatiq.middleware import DbConnectionsMiddleware
from dramatiq.brokers.stub import StubBroker

broker = StubBroker()
broker.add_middleware(DbConnectionsMiddleware())
dramatiq.set_broker(broker)
send_statement = dramatiq.actor(work.send_statement, max_retries=0)
send_statement.send(os.environ["OWNER"])
worker = dramatiq.Worker(broker, worker_timeout=100)
worker.start()
broker.join("default", fail_fast=False)
worker.join()
worker.stop()
"""


def test_dramatiq(project: Project, bank: Admin) -> None:
    run_both(project, bank, DRAMATIQ)


# Django's tasks, with the backend of django-tasks-db


@pytest.fixture
def without_new_tables(bank: Admin) -> Iterator[None]:
    """Drops what the migrations of other packages have made."""
    before = {name for (name,) in bank.rows("SHOW TABLES")}
    yield
    bank.rows("SET foreign_key_checks = 0")
    for (name,) in bank.rows("SHOW TABLES"):
        if name not in before:
            bank.rows(f"DROP TABLE `{name}`")


def test_djangos_tasks_in_the_database(
    project: Project, bank: Admin, without_new_tables: None
) -> None:
    project.write(
        "mysite/with_tasks.py",
        "from mysite.settings import *\nINSTALLED_APPS += ['django_tasks_db']\n"
        "TASKS = {'default': {'BACKEND': 'django_tasks_db.DatabaseBackend', 'QUEUES': []}}\n",
    )
    project.write(
        "bank/tasks.py",
        "from django.tasks import task\n\nfrom bank import work\n\n\n"
        "@task()\ndef send_statement(owner):\n    work.send_statement(owner)\n",
    )
    more = {"DJANGO_SETTINGS_MODULE": "mysite.with_tasks"}
    said = project.run(OURS, "python", "manage.py", "migrate", more=more)
    assert said.endswith("exit status 0"), said
    with ExitStack() as stack:
        programs = []
        for engine, owner in ((OURS, "ann"), (STOCK, "bob")):
            send = (
                "from bank.tasks import *;"
                f"send_statement.using(queue_name={owner!r}).enqueue({owner!r})"
            )
            said = project.run(
                engine, *("python", "manage.py", "shell", "--no-imports", "-c", send), more=more
            )
            assert said.endswith("exit status 0"), said
            worker = ("python", "manage.py", "db_worker", "--batch", "--queue-name", owner)
            programs.append(stack.enter_context(project.start(engine, *worker, more=more)))
        ours, stock = (program.wait() for program in programs)
    assert balances(bank) == {"ann": 1, "bob": 0}, ours + stock
    assert "OperationalError" in stock and "OperationalError" not in ours


# Celery beat


def test_celery_beat_reads_its_schedule_after_an_idle_time(
    project: Project, bank: Admin, without_new_tables: None
) -> None:
    project.write(
        "mysite/with_beat.py",
        "from mysite.settings import *\nINSTALLED_APPS += ['django_celery_beat']\n",
    )
    project.write(
        "mysite/celery.py",
        'from celery import Celery\n\napp = Celery("mysite", broker="memory://")\n',
    )
    # Otherwise close_old_connections() closes the connection before each look.
    options = {
        "more": {"DJANGO_SETTINGS_MODULE": "mysite.with_beat"},
        "database": {"CONN_MAX_AGE": None},
    }
    said = project.run(OURS, "python", "manage.py", "migrate", **options)
    assert said.endswith("exit status 0"), said
    scheduler = "django_celery_beat.schedulers:DatabaseScheduler"
    # It looks at the tables, and then again after each pause.
    command = ("celery", "-A", "mysite", "beat", "--scheduler", scheduler, "--max-interval", "3")
    with ExitStack() as stack:
        ours = stack.enter_context(project.start(OURS, *command, "--pidfile=", **options))
        stock = stack.enter_context(project.start(STOCK, *command, "--pidfile=", **options))
        stock.wait_for("Database gave error: OperationalError(")
        ours.wait_for("recycled the connection of 'default'")
        assert "Database gave error" not in ours.output
