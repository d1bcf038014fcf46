"""Celery's tasks on the site's database; `python -m tests.pool.tasks 40` sends forty of them.

No broker has to run: messages are files in the folder POOL_SITE_MESSAGES.
"""

from __future__ import annotations

import os
import sys
import time

from celery import Celery, shared_task

folder = os.environ["POOL_SITE_MESSAGES"]
app = Celery("pool", broker="filesystem://")
app.conf.broker_transport_options = {
    "control_folder": os.path.join(folder, "control"),  # noqa: PTH118
    "data_folder_in": folder,
    "data_folder_out": folder,
}
app.conf.broker_connection_retry_on_startup = True
app.conf.worker_prefetch_multiplier = 1


@shared_task
def work(number: int) -> None:
    """Write two rows with the number, and rest in between. Every fourth task rests for long."""
    from tests.testapp.models import Item

    from .site import ask

    Item.objects.create(name=f"task {ask(number)}")
    time.sleep(1.5 if number % 4 == 0 else 0.02)
    Item.objects.create(name=f"task {ask(number)}")


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        app.send_task("tests.pool.tasks.work", [number])
