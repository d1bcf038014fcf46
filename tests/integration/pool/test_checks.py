"""The system checks of the pool's settings."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_mysql_recycle.checks import settings_findings

from ..admin import Admin
from ..connections import ConnectionFactory


def found(connection: Any) -> list[str]:
    messages = connection.validation.check(databases=[connection.alias])
    return [message.id.rpartition(".")[2] for message in messages]


def test_a_pool_that_is_larger_than_the_server_is_reported(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    most = int(admin.value("SELECT @@max_connections"))
    large = make_connection(options={"pool": {"max_size": most + 1}})
    fitting: Any = make_connection(options={"pool": {"max_size": most}})
    assert (found(large), found(fitting)) == (["W106"], [])
    fitting.close_pool()


def test_time_in_the_pool_beyond_the_idle_limit_is_reported() -> None:
    options: dict[str, Any] = {"recycle": {"idle_limit": 60}, "pool": {"max_idle": 61}}
    settings = {"ENGINE": "django_mysql_recycle", "OPTIONS": options}
    assert [one.id[-4:] for one in settings_findings("default", settings)] == ["W015"]
    options["pool"] = {"max_size": 3}
    assert settings_findings("default", settings) == []


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ("yes", r"\['pool'\]: expected True, False or a dict, got str"),
        (3, r"\['pool'\]: expected True, False or a dict, got 3"),
        ({"max_size": 0}, r"\['max_size'\]: expected a whole number >= 1, got 0"),
        ({"max_size": True}, r"\['max_size'\]: expected a whole number >= 1, got True"),
        ({"max_size": 2.0}, r"\['max_size'\]: expected a whole number >= 1, got 2.0"),
        ({"min_size": -1}, r"\['min_size'\]: expected a whole number >= 0, got -1"),
        ({"min_size": 11}, r"\['min_size'\]: expected at most max_size \(10\), got 11"),
        ({"timeout": 0}, r"\['timeout'\]: expected seconds > 0, got 0"),
        ({"timeout": None}, r"\['timeout'\]: expected seconds > 0, got None"),
        ({"max_idle": float("nan")}, r"\['max_idle'\]: expected seconds > 0, got nan"),
        ({"num_workers": 3}, r"\['num_workers'\]: this pool starts no threads"),
        ({"maxsize": 3}, r"\['maxsize'\]: unknown key"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(
    make_connection: ConnectionFactory, pool: Any, message: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=message):
        make_connection(options={"pool": pool}).ensure_connection()


@pytest.mark.parametrize("pool", [None, False, {"min_size": 0, "max_waiting": 0}, {}])
def test_settings_that_mean_what_they_say(make_connection: ConnectionFactory, pool: Any) -> None:
    connection: Any = make_connection(options={"pool": pool})
    connection.ensure_connection()
    # As in Django's backend for PostgreSQL, an empty dict is no pool.
    assert bool(connection.pool_stats()) is bool(pool)
    connection.close_pool()
