"""An account of a new connection."""

from __future__ import annotations

import pytest

from django_mysql_recycle.session_state import SessionState


@pytest.fixture
def state() -> SessionState:
    return SessionState()
