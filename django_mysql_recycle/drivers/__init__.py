"""The differences between mysqlclient and PyMySQL, and the choice between them."""

from __future__ import annotations

from .choice import ENVIRONMENT, choose, use_driver
from .exchange import Exchange, Outcome, refuse
from .interface import Attempt, Driver, Origin

__all__ = [
    "ENVIRONMENT",
    "Attempt",
    "Driver",
    "Exchange",
    "Origin",
    "Outcome",
    "choose",
    "refuse",
    "use_driver",
]
