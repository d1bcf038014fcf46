"""The differences between mysqlclient and PyMySQL, and the choice between them."""

from __future__ import annotations

from .choice import ENVIRONMENT, choose, use_driver
from .interface import Driver, Origin

__all__ = ["ENVIRONMENT", "Driver", "Origin", "choose", "use_driver"]
