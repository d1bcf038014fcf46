"""What a user could use, each set up as its documentation says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

STOCK = "django.db.backends.mysql"


@dataclass(frozen=True)
class Contender:
    """One way to deal with lost connections."""

    title: str
    engine: str = STOCK
    settings: dict[str, Any] = field(default_factory=dict)
    apps: tuple[str, ...] = ()
    distribution: str = ""
    #: Calls close_old_connections() before each piece of work, as users do in loops.
    sprinkles: bool = False


CONTENDERS: dict[str, Contender] = {
    "age_0": Contender("stock, `CONN_MAX_AGE = 0`", settings={"CONN_MAX_AGE": 0}),
    "persistent": Contender("stock, persistent", settings={"CONN_MAX_AGE": None}),
    "health_checks": Contender(
        "stock, `CONN_HEALTH_CHECKS`",
        settings={"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True},
    ),
    "sprinkled": Contender(
        "the same, with `close_old_connections()`",
        settings={"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True},
        sprinkles=True,
    ),
    "dbconn_retry": Contender(
        "django-dbconn-retry",
        settings={"CONN_MAX_AGE": None},
        apps=("django_dbconn_retry",),
        distribution="django-dbconn-retry",
    ),
    "has_gone": Contender(
        "mysql_server_has_gone",
        engine="mysql_server_has_gone_away",
        settings={"CONN_MAX_AGE": None},
        distribution="mysql_server_has_gone",
    ),
    "pool": Contender(
        "dj_db_conn_pool",
        engine="dj_db_conn_pool.backends.mysql",
        distribution="django-db-connection-pool",
    ),
    "ours": Contender(
        "this backend", engine="django_mysql_recycle", settings={"CONN_MAX_AGE": None}
    ),
}


def before_each_piece(contender: Contender) -> Callable[[], None]:
    """What the code of the user does before each piece of work."""
    if not contender.sprinkles:
        return lambda: None
    from django.db import close_old_connections

    return close_old_connections
