"""The pool's statistics as metrics of prometheus_client."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry

from django_mysql_recycle.contrib import prometheus

from ..connections import ConnectionFactory
from ..queries import connection_id


def test_prometheus_has_the_statistics_of_each_pool(make_connection: ConnectionFactory) -> None:
    connection: Any = make_connection(options={"pool": {"max_size": 7}})
    for _ in range(2):
        connection_id(connection)
        connection.close()
    registry = CollectorRegistry()
    prometheus.register(registry)

    def sample(name: str) -> float | None:
        return registry.get_sample_value(
            f"django_mysql_recycle_pool_{name}", {"alias": connection.alias}
        )

    found = {name: sample(name) for name in ("max", "size", "available", "requests_waiting")}
    assert found == {"max": 7, "size": 1, "available": 1, "requests_waiting": 0}
    assert (sample("requests_num_total"), sample("connections_num_total")) == (2, 1)
    assert set(connection.pool_stats()) == {
        *prometheus._POOL_GAUGES,
        *prometheus._POOL_COUNTERS,
    }
    connection.close_pool()
