"""The differences between mysqlclient and PyMySQL, and the choice between them."""

from __future__ import annotations

from .choice import ENVIRONMENT, choose, use_driver
from .exchange import ANSWERED, Exchange, Outcome, refuse
from .interface import Attempt, Driver, DriverConnection, Origin, only_value

__all__ = [
    "ANSWERED",
    "ENVIRONMENT",
    "Attempt",
    "Driver",
    "DriverConnection",
    "Exchange",
    "Origin",
    "Outcome",
    "choose",
    "only_value",
    "refuse",
    "use_driver",
]
