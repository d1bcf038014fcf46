"""Exceptions that come out of nowhere: soft time limits, Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from ..acts import (
    alarm,
)
from ..connections import Connection


class SoftTimeLimit(Exception):
    """What a worker's time limit raises."""


INTERRUPTIONS = pytest.mark.parametrize("kind", [SoftTimeLimit, KeyboardInterrupt])


ONE_KIND = pytest.mark.parametrize("kind", [SoftTimeLimit])


def destructors_may_complain(test: Any) -> Any:
    """PyMySQL's destructors complain of what an interruption left of their objects."""
    unraisable = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    return unraisable(pytest.mark.filterwarnings("ignore::ResourceWarning")(test))


#: The answer arrives after the alarm; it is not the answer to anything asked later.
SLOW = "SELECT SLEEP(0.3) + 99"


def interrupted(kind: type[BaseException], act: Callable[[], Any], after: float = 0.1) -> None:
    with pytest.raises(kind), alarm(after, kind):
        act()


def enter(connection: Connection) -> None:
    with transaction.atomic(using=connection.alias):
        pass
