"""Greenlets share a pool, and some of their statements are cut short by a timeout.

A program: `python -m tests.pool.greenlets SECONDS`. It prints what became of the statements as JSON.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections import Counter  # noqa: E402

import django  # noqa: E402
import gevent  # noqa: E402

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.pool.settings"
django.setup()

from django.db import Error, connection, transaction  # noqa: E402

from .site import ask, value  # noqa: E402

GREENLETS = 16
LIMITS = (0.0005, 0.001, 0.002, 0.004, 0.01, 0.1)


def work(number: int, seen: Counter[str]) -> None:
    """A short life: some statements, and an end without closing, in half of the lives by force."""
    chance = random.Random(number)
    question = number * 100
    try:
        for _ in range(5):
            question += 1
            with gevent.Timeout(chance.choice(LIMITS)):
                with transaction.atomic():
                    seen["right" if ask(question) == question else "wrong"] += 1
                    value("UPDATE testapp_account SET balance = balance + 1 WHERE owner = 'ann'")
                seen["committed"] += 1
                gevent.sleep(chance.random() * 0.002)
                seen["right" if ask(question) == question else "wrong"] += 1
    except gevent.Timeout:
        seen["cut short"] += 1
    except Error as error:
        seen[f"{type(error).__name__} {error}"] += 1
    if chance.random() < 0.3:
        connection.close()


def main(seconds: float) -> None:
    seen: Counter[str] = Counter()
    end = time.monotonic() + seconds
    number = 0
    alive: set[gevent.Greenlet] = set()
    while time.monotonic() < end:
        while len(alive) < GREENLETS:
            number += 1
            alive.add(gevent.spawn(work, number, seen))
        if number % 5 == 0:
            # Its statement, its wait for a connection, or its pause is interrupted.
            random.choice(list(alive)).kill(block=False)
        gevent.wait(alive, count=1, timeout=5)
        alive = {one for one in alive if not one.ready()}
    gevent.joinall(alive, timeout=20)
    seen["greenlets"] = number
    # Every connection of the pool can be borrowed at the same time.
    sessions: set[int] = set()

    def hold() -> None:
        with transaction.atomic():
            sessions.add(value("SELECT CONNECTION_ID()"))
            gevent.sleep(0.3)
        connection.close()

    gevent.joinall([gevent.spawn(hold) for _ in range(int(os.environ["POOL_SITE_SIZE"]))])
    seen["sessions"] = len(sessions)
    print(json.dumps(seen))  # noqa: T201


if __name__ == "__main__":
    main(float(sys.argv[1]))
