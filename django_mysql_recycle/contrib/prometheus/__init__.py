"""Metrics for prometheus_client: what the backend has counted, by alias and reason.

Add ``"django_mysql_recycle.contrib.prometheus"`` to INSTALLED_APPS, or call `register()` once.
Needs ``pip install django-mysql-recycle[prometheus]``. docs/monitoring.md describes the metrics.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from weakref import WeakSet

from prometheus_client import REGISTRY, CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ... import events

__all__ = ["METRICS", "RecycleCollector", "register"]

#: The metric of each event, and its help text. Prometheus appends ``_total`` to the names.
METRICS = {
    event: (f"django_mysql_recycle_{event}", about) for event, about in events.DESCRIPTIONS.items()
}

_LABELS = ("alias", "reason")

#: The statistics of a pool that are amounts of now, and those that only grow.
_POOL_GAUGES = ("pool_min", "pool_max", "pool_size", "pool_available", "requests_waiting")
_POOL_COUNTERS = (
    *("usage_ms", "requests_num", "requests_queued", "requests_wait_ms", "requests_errors"),
    *("returns_bad", "connections_num", "connections_ms", "connections_errors"),
    *("connections_lost", "called_in"),
)

_registered: WeakSet[CollectorRegistry] = WeakSet()


class RecycleCollector(Collector):
    """Reads the counters of this process when it is scraped."""

    def describe(self) -> Iterator[CounterMetricFamily]:
        for name, about in METRICS.values():
            yield CounterMetricFamily(name, about, labels=_LABELS)

    def collect(self) -> Iterator[Metric]:
        counted = events.counters()
        for event, (name, about) in METRICS.items():
            family = CounterMetricFamily(name, about, labels=_LABELS)
            for alias, counts in counted.items():
                for reason, count in counts.get(event, {}).items():
                    family.add_metric([alias, reason], count)
            yield family
        yield from _pool_families()


def _pool_families() -> Iterator[Metric]:
    pooling = sys.modules.get("django_mysql_recycle.pooling")  # it needs a driver
    pools = {} if pooling is None else pooling.all_statistics()
    for name in _POOL_GAUGES + _POOL_COUNTERS:
        kind = GaugeMetricFamily if name in _POOL_GAUGES else CounterMetricFamily
        full = f"django_mysql_recycle_{name if name.startswith('pool_') else f'pool_{name}'}"
        family = kind(full, f"{name} of the connection pool: docs/pool.md", labels=("alias",))
        for alias, statistics in pools.items():
            family.add_metric([alias], statistics[name])
        if pools:
            yield family


def register(registry: CollectorRegistry = REGISTRY) -> None:
    """Add the metrics to a registry. A second call for the same registry does nothing.

    In prometheus_client's multi-process mode (``PROMETHEUS_MULTIPROC_DIR``) collectors are not
    asked, so that there are no numbers of the pool. The events are counted by prometheus_client's
    own counters from now on, whose files the processes share. Raises what prometheus_client raises
    if the names are taken.
    """
    if registry in _registered:
        return
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        own = {
            event: Counter(name, about, _LABELS, registry=registry)
            for event, (name, about) in METRICS.items()
        }
        events.listeners.append(lambda alias, event, reason: own[event].labels(alias, reason).inc())
    else:
        registry.register(RecycleCollector())
    _registered.add(registry)
