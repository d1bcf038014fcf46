"""contrib/: what is counted becomes metrics, and nothing of it can make a statement fail."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry

from django_mysql_recycle import events
from django_mysql_recycle.contrib import opentelemetry, prometheus


class Wrapper:
    """A wrapper, as far as events look at it."""

    alias = "default"


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    listeners = events.listeners[:]
    events.reset_counters()
    yield
    events.reset_counters()
    events.listeners[:] = listeners


def happen() -> None:
    events.repeated(Wrapper(), reason="lost", age=5.0, idle=5.0)
    for _ in range(2):
        events.kept("other", age=20.0, max_age=10.0, state=("named lock",))


def samples(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name.startswith("django_mysql_recycle") and sample.name.endswith("_total")
    }


EXPECTED = {
    ("django_mysql_recycle_repeated_total", "default", "lost"): 1,
    ("django_mysql_recycle_kept_total", "other", "named lock"): 2,
}


def test_collector_has_what_was_counted_before_and_after_it_was_registered() -> None:
    registry = CollectorRegistry()
    happen()
    prometheus.register(registry)
    prometheus.register(registry)  # the app and the project may both do it
    assert samples(registry) == EXPECTED
    events.reset_counters()
    assert samples(registry) == {}


def test_multi_process_mode_counts_with_counters_of_prometheus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    registry = CollectorRegistry()
    prometheus.register(registry)
    happen()
    assert samples(registry) == EXPECTED


def test_metrics_of_opentelemetry_have_what_was_counted() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    opentelemetry.instrument(provider)
    opentelemetry.instrument(provider)
    happen()
    data: Any = reader.get_metrics_data()
    found = {
        (metric.name, *point.attributes.values()): point.value
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    assert found == {
        ("django_mysql_recycle.repeated", "default", "lost"): 1,
        ("django_mysql_recycle.kept", "other", "named lock"): 2,
    }


def test_listener_that_fails_is_logged_and_the_others_are_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    received: list[tuple[str, str, str]] = []

    def fail(*_: str) -> None:
        raise RuntimeError("no space left")

    events.listeners += [fail, lambda *reported: received.append(reported)]
    with caplog.at_level(logging.ERROR, "django_mysql_recycle"):
        happen()
    assert len(received) == 3
    assert "no space left" in caplog.text


def test_each_event_that_is_counted_has_a_metric() -> None:
    source = Path(events.__file__).read_text(encoding="utf-8")
    counted = set(re.findall(r'\b_count\([^,]+, "(\w+)"', source))
    assert counted == set(events.DESCRIPTIONS)
    assert set(events.EVENTS) <= counted
