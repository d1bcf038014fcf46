"""docs/recipes/gevent.md: greenlets instead of threads, with PyMySQL."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from servers.machine import free_port
from tests.integration.admin import Admin

from . import pages
from .conftest import PAUSE, balances
from .projects import OURS, STOCK, Program, Project, get
from .test_celery import CONFIG, QUIET

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
