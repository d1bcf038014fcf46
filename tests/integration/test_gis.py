"""GeoDjango through `ENGINE = "django_mysql_recycle.gis"`."""

from __future__ import annotations

from collections.abc import Iterator
from ctypes.util import find_library
from typing import Any

import pytest
from django.test.utils import isolate_apps

from .admin import Admin
from .connections import Connection, ConnectionFactory
from .queries import connection_id, kill


@pytest.fixture(autouse=True)
def _gdal() -> None:
    for library in ("gdal", "geos_c"):
        if find_library(library) is None:
            pytest.fail(
                f"GeoDjango needs the library {library}:"
                " apt-get install --no-install-recommends gdal-bin",
                pytrace=False,
            )


@pytest.fixture
def gis(make_connection: ConnectionFactory) -> Connection:
    return make_connection("django_mysql_recycle.gis", CONN_MAX_AGE=None)


@pytest.fixture
def places(gis: Connection) -> Iterator[Any]:
    """The manager of a model with a point, whose table is there."""
    from django.contrib.gis.db import models

    with isolate_apps("tests.testapp"):

        class Place(models.Model):
            name: Any = models.CharField(max_length=50)
            location: Any = models.PointField()

            class Meta:
                app_label = "testapp"

            def __str__(self) -> str:
                return str(self.name)

        with gis.schema_editor() as editor:
            editor.create_model(Place)
        yield Place._default_manager.using(gis.alias)
        with gis.schema_editor() as editor:
            editor.delete_model(Place)


@pytest.mark.core
def test_geometries_go_over_a_replaced_connection(
    gis: Connection, places: Any, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    from django.contrib.gis.geos import Point, Polygon

    first = connection_id(gis)
    places.create(name="before", location=Point(1, 1))
    kill(admin, gis)
    places.create(name="after", location=Point(2, 2))
    assert connection_id(gis) != first
    kill(admin, gis)
    inside = places.filter(location__within=Polygon.from_bbox((0, 0, 1.5, 1.5)))
    assert [(place.name, place.location.coords) for place in inside] == [("before", (1.0, 1.0))]
    assert [reported["reason"] for reported in recycles] == ["closed"] * 2


def test_engine_is_geodjangos_and_ours(gis: Connection) -> None:
    from django.contrib.gis.db.backends.mysql.base import DatabaseWrapper

    from django_mysql_recycle.base import RecycleMixin

    assert isinstance(gis, RecycleMixin) and isinstance(gis, DatabaseWrapper)
    assert gis.features.gis_enabled
