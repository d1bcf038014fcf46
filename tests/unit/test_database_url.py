"""Settings in the query of a URL, as two packages hand them over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dj_database_url
import environ  # type: ignore[import-untyped]
import pytest
from django.core.exceptions import ImproperlyConfigured

from django_mysql_recycle import options_from_url
from django_mysql_recycle.options import Options, PoolOptions, misplaced_hint

Parse = Callable[[str], dict[str, Any]]
ENGINE = "django_mysql_recycle"


@pytest.fixture
def registered() -> Iterator[None]:
    before = dict(dj_database_url.ENGINE_SCHEMES)
    # Its result is not used there.
    dj_database_url.register("mysql", ENGINE)(options_from_url)  # type: ignore[arg-type]
    yield
    dj_database_url.ENGINE_SCHEMES.update(before)


def by_engine(url: str) -> dict[str, Any]:
    return dict(options_from_url(dj_database_url.parse(url, engine=ENGINE)))


def by_scheme(url: str) -> dict[str, Any]:
    return dict(dj_database_url.parse(url))


def by_environ(url: str) -> dict[str, Any]:
    parsed: dict[str, Any] = environ.Env.db_url_config(url, engine=ENGINE)
    return options_from_url(parsed)


@pytest.fixture(params=[by_engine, by_scheme, by_environ])
def parse(request: pytest.FixtureRequest, registered: None) -> Parse:
    how: Parse = request.param
    return how


def test_settings_and_tls_come_from_the_query(parse: Parse) -> None:
    database = parse(
        "mysql://app:secret@db:3307/shop?recycle.idle_limit=240&recycle.ping_after=0.5"
        "&recycle.keepalive=none&recycle.liveness_check=false&ssl-ca=/etc/ca.pem&charset=utf8mb4"
    )
    assert database["ENGINE"] == ENGINE
    assert (database["HOST"], database["PORT"], database["NAME"]) == ("db", 3307, "shop")
    assert database["OPTIONS"] == {
        "recycle": {
            "idle_limit": 240,
            "ping_after": 0.5,
            "keepalive": None,
            "liveness_check": False,
        },
        "ssl": {"ca": "/etc/ca.pem"},
        "charset": "utf8mb4",
    }
    assert Options.of("default", database) == Options(
        idle_limit=240, ping_after=0.5, keepalive=None, liveness_check=False
    )


def test_settings_of_the_pool_come_from_the_query(parse: Parse) -> None:
    database = parse("mysql://db/shop?pool.max_size=4&pool.timeout=2.5")
    assert database["OPTIONS"] == {"pool": {"max_size": 4, "timeout": 2.5}}
    assert PoolOptions.of("default", database) == PoolOptions(max_size=4, timeout=2.5)
    for text, value in (("true", True), ("false", False)):
        assert parse(f"mysql://db/shop?pool={text}")["OPTIONS"] == {"pool": value}


def test_url_without_a_query_is_left_as_it_is(parse: Parse) -> None:
    assert parse("mysql://app:secret@db/shop").get("OPTIONS", {}) == {}


def test_setting_that_cannot_be_used_is_refused_with_its_path(parse: Parse) -> None:
    for query, said in [
        ("recycle.idle_limt=5", "unknown key 'idle_limt'; did you mean 'idle_limit'?"),
        ("recycle.idle_limit=5m", "['idle_limit']: expected seconds > 0, or None, got '5m'"),
        ("recycle=5", "expected a dict, got 5"),
    ]:
        with pytest.raises(ImproperlyConfigured) as caught:
            Options.of("default", parse(f"mysql://db/shop?{query}"))
        assert said in str(caught.value)


def test_certificate_of_the_client_joins_the_authority() -> None:
    options: dict[str, Any] = {"ssl-ca": "/ca", "ssl-cert": "/cert", "ssl-key": "/key"}
    options_from_url({"OPTIONS": options})
    assert options == {"ssl": {"ca": "/ca", "cert": "/cert", "key": "/key"}}


def test_forgotten_call_is_named() -> None:
    assert "options_from_url()" in str(misplaced_hint("default", "recycle.idle_limit"))
