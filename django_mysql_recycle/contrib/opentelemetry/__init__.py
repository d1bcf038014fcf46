"""OpenTelemetry: counters as metrics, and an event on the span in which something happened.

Add ``"django_mysql_recycle.contrib.opentelemetry"`` to INSTALLED_APPS, or call `instrument()` once.
Needs ``pip install django-mysql-recycle[opentelemetry]``, and a set-up SDK in the project.
docs/monitoring.md describes metrics and events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from ... import events, signals

__all__ = ["instrument"]

_NAME = "django_mysql_recycle"

#: The arguments of the signals that become attributes of an event.
_ATTRIBUTES = ("alias", "reason", "age", "idle", "state", "attempt")

_instrumented: set[int] = set()


def instrument(meter_provider: MeterProvider | None = None) -> None:
    """Report what the backend does to OpenTelemetry. A second call does nothing.

    `meter_provider`: the global one unless it is given. Span events go to whatever span is the
    current one of the thread.
    """
    provider = meter_provider or metrics.get_meter_provider()
    if id(provider) in _instrumented:
        return
    _instrumented.add(id(provider))
    meter = metrics.get_meter(_NAME, meter_provider=provider)
    for event, about in events.DESCRIPTIONS.items():
        meter.create_observable_counter(
            f"{_NAME}.{event}", callbacks=[_observer(event)], unit="{event}", description=about
        )
    for name in signals.__all__:
        signal = getattr(signals, name)
        signal.connect(_receiver(name), weak=False, dispatch_uid=f"{__name__}.{name}")


def _observer(event: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(count, {"alias": alias, "reason": reason})
            for alias, counts in events.counters().items()
            for reason, count in counts.get(event, {}).items()
        ]

    return observe


def _receiver(name: str) -> Callable[..., None]:
    def receive(**facts: Any) -> None:
        attributes = {key: facts[key] for key in _ATTRIBUTES if key in facts}
        trace.get_current_span().add_event(f"{_NAME}.{name}", attributes)

    return receive
