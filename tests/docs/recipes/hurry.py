"""Greenlets whose statements are cut short at any moment: prints what became of them, as JSON.

A program, run by test_gevent.py in the recipes' project.
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import random  # noqa: E402
import time  # noqa: E402
from collections import Counter  # noqa: E402

import django  # noqa: E402
import gevent  # noqa: E402

django.setup()

from django.db import Error, connection, transaction  # noqa: E402

SECONDS = 2
LIMITS = (0.0002, 0.0005, 0.001, 0.002, 0.004, 0.01)


def value(sql: str, *parameters: object) -> int | None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone()[0] if cursor.description else None


def work(number: int, seen: Counter[str], end: float) -> None:
    chance = random.Random(number)
    question = number * 1_000_000
    while time.monotonic() < end:
        question += 1
        try:
            with gevent.Timeout(chance.choice(LIMITS)):
                with transaction.atomic():
                    answer = value("SELECT %s", question)
                    seen["right" if answer == question else "wrong"] += 1
                    value("UPDATE bank_account SET balance = balance + 1 WHERE owner = 'ann'")
                seen["committed"] += 1
                answer = value("SELECT %s", question)
                seen["right" if answer == question else "wrong"] += 1
        except gevent.Timeout:
            seen["cut short"] += 1
        except Error:
            seen["errors"] += 1
            gevent.sleep(0.001)


if __name__ == "__main__":
    seen: Counter[str] = Counter()
    end = time.monotonic() + SECONDS
    greenlets = [gevent.spawn(work, number, seen, end) for number in range(1, 5)]
    gevent.joinall(greenlets, raise_error=True)
    print(json.dumps(seen))  # noqa: T201
