"""The public calls as a user writes them: mypy reads this file, nothing runs it."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.db.utils import OperationalError

import django_mysql_recycle
from django_mysql_recycle import (
    PoolOptions,
    RecycleOptions,
    SessionStateLost,
    counters,
    inspect_connection,
    may_have_run,
    options_from_url,
    pinned,
    retry_transaction,
    run_transaction,
    use_driver,
)
from django_mysql_recycle.base import DatabaseWrapper, RecycleMixin
from django_mysql_recycle.signals import (
    connection_recycled,
    session_state_lost,
    statement_repeated,
)

use_driver("pymysql")
django_mysql_recycle.use_driver("mysqlclient")

with pinned():
    pass
with pinned("replica", reason="a procedure holds a lock"):
    pass
with pinned(connection):
    pass

try:
    pass
except SessionStateLost as error:
    as_django_knows_it: OperationalError = error


@retry_transaction
def plain(amount: int) -> str:
    return str(amount)


@retry_transaction(using="default", attempts=2)
def adjusted(amount: int) -> str:
    return str(amount)


returned: str = plain(1) + adjusted(amount=2) + run_transaction(lambda: "3", attempts=4)
ran: bool | None = may_have_run(ValueError())
recycle: RecycleOptions = {"idle_limit": 240, "liveness_check": True}
pool: PoolOptions = {"max_size": 4, "timeout": 2.5}
options = {"recycle": recycle, "pool": pool}
entry = options_from_url({"ENGINE": "django_mysql_recycle", "OPTIONS": options})
engine: object = entry["ENGINE"]

info = inspect_connection("default")
if info is not None and info.idle_limit is not None:
    left: float = info.idle_limit - (info.idle or 0)

total: int = counters()["default"]["recycled"]["closed"]


def receiver(sender: type[Any], alias: str, reason: str, idle: float, **kwargs: Any) -> None:
    """What the signals carry."""


connection_recycled.connect(receiver)
statement_repeated.connect(receiver)
session_state_lost.connect(receiver)


class Instrumented(RecycleMixin):
    pass


class Mine(DatabaseWrapper):
    pass
