"""docs/recipes/gevent.md: greenlets instead of threads, with PyMySQL."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from servers.machine import free_port
from tests.integration.admin import Admin

from . import pages
from .conftest import PAUSE, balances
from .projects import OURS, STOCK, Program, Project, get
from .test_celery import CONFIG, QUIET

PLAIN = {"ssl_disabled": True}  # a handshake takes longer than these statements may
IMPORT_USES_DATABASE = """
from bank.models import Account

Account.objects.count()
"""


def serve(project: Project, stack: ExitStack, engine: str, *more: str) -> tuple[str, Program]:
    address = f"127.0.0.1:{free_port()}"
    command = pages.command("gevent", "gunicorn")
    command[command.index("--bind") + 1] = address
    return f"http://{address}", stack.enter_context(
        project.start(engine, *command, *more, driver="pymysql")
    )


def test_requests_take_turns_and_go_on_after_a_pause_and_after_a_time_limit(
    make_project: Callable[[str], Project], bank: Admin
) -> None:
    project = make_project("gevent")
    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        (ours, running), (stock, control) = (serve(project, stack, e) for e in (OURS, STOCK))
        assert get(f"{ours}/hurried/", running) == {"answer": "the right one"}
        assert get(f"{stock}/hurried/", control) == {"status": 500}
        began = time.monotonic()
        slow = [pool.submit(get, f"{ours}/slow/", running) for _ in range(5)]
        failing = pool.submit(get, f"{stock}/slow/", control)
        pairs = [one.result()["connections"] for one in slow]
        assert time.monotonic() - began < 2 * PAUSE  # together and not one after the other
        assert failing.result() == {"status": 500}
        assert len({number for pair in pairs for number in pair}) == 10


def test_preloaded_application_needs_the_patch_first(
    make_project: Callable[[str], Project], bank: Admin
) -> None:
    project = make_project("gevent")
    wsgi = project.directory / "mysite" / "wsgi.py"
    wsgi.write_text(wsgi.read_text() + IMPORT_USES_DATABASE)
    with ExitStack() as stack, ThreadPoolExecutor(4) as pool:
        url, program = serve(project, stack, OURS, "--preload")
        slow = [pool.submit(get, f"{url}/slow/", program) for _ in range(4)]
        numbers = [number for one in slow for number in one.result()["connections"]]
        assert len(set(numbers)) == 8
    late = ("--preload", "--config", "/dev/null")  # the control: without the page's file
    with ExitStack() as stack:
        url, program = serve(project, stack, STOCK, *late)
        assert get(f"{url}/hurried/", program) == {"status": 500}
        assert "created in a thread can only be used in that same thread" in program.output


def test_answer_is_never_that_of_a_statement_cut_short(
    make_project: Callable[[str], Project], bank: Admin
) -> None:
    project = make_project("gevent")
    project.write("hurry.py", Path(__file__).with_name("hurry.py").read_text())
    seen = {}
    for engine in (OURS, STOCK):
        before = balances(bank)["ann"]
        output = project.run(
            engine, "python", "hurry.py", driver="pymysql", database={"OPTIONS": PLAIN}
        )
        found = [line for line in output.splitlines() if line.startswith("{")]
        assert found, output
        seen[engine] = Counter(json.loads(found[0]))
        # A COMMIT that was cut short may have been done.
        done = balances(bank)["ann"] - before
        committed = seen[engine]["committed"]
        assert committed <= done <= committed + seen[engine]["cut short"]
    assert seen[OURS]["wrong"] == seen[OURS]["errors"] == 0
    assert seen[OURS]["cut short"] > 10 and seen[OURS]["right"] > 10
    assert seen[STOCK]["errors"] > 0


def test_tasks_go_on_after_a_pause(make_project: Callable[[str], Project], bank: Admin) -> None:
    project = make_project("gevent")
    project.write("mysite/celeryconfig.py", 'import os\nexec(os.environ["RECIPE_CELERY"])\n')
    command = pages.command("gevent", "celery")
    send = "import mysite.celery; from bank.tasks import *; send_statement.delay('{}')"
    with ExitStack() as stack:
        workers = []
        for engine, owner in ((OURS, "ann"), (STOCK, "bob")):
            config = {"RECIPE_CELERY": CONFIG.format(name=engine)}
            shell = ("python", "manage.py", "shell", "--no-imports", "-c", send.format(owner))
            stack.enter_context(project.start(engine, *shell, driver="pymysql", more=config))
            workers.append(
                stack.enter_context(
                    project.start(engine, *command, *QUIET, driver="pymysql", more=config)
                )
            )
        ours, stock = workers
        ours.wait_for("succeeded in")
        assert "OperationalError" in stock.wait_for("raised unexpected")
        assert balances(bank) == {"ann": 1, "bob": 0}
        for one in workers:
            one.kill()
