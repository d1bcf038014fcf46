"""pooling.py stands in for these functions of Django's; a change of theirs has to be followed."""

from __future__ import annotations

import pytest

from ..connections import Connection
from ..test_in_place_of_django import lines


@pytest.mark.core
def test_django_connects_as_a_borrowing_in_place_stands_in_for_it() -> None:
    assert lines(Connection.connect) == [
        "@async_unsafe",
        "def connect(self):",
        "self.check_settings()",
        "self.in_atomic_block = False",
        "self.savepoint_ids = []",
        "self.atomic_blocks = []",
        "self.needs_rollback = False",
        'self.health_check_enabled = self.settings_dict["CONN_HEALTH_CHECKS"]',
        'max_age = self.settings_dict["CONN_MAX_AGE"]',
        "self.close_at = None if max_age is None else time.monotonic() + max_age",
        "self.closed_in_transaction = False",
        "self.errors_occurred = False",
        "self.health_check_done = True",
        "conn_params = self.get_connection_params()",
        "self.connection = self.get_new_connection(conn_params)",
        'self.set_autocommit(self.settings_dict["AUTOCOMMIT"])',
        "self.init_connection_state()",
        "connection_created.send(sender=self.__class__, connection=self)",
        "self.run_on_commit = []",
    ]


@pytest.mark.core
def test_django_closes_as_a_return_in_place_stands_in_for_it() -> None:
    assert lines(Connection.close) == [
        "@async_unsafe",
        "def close(self):",
        "self.validate_thread_sharing()",
        "self.run_on_commit = []",
        "if self.closed_in_transaction or self.connection is None:",
        "return",
        "try:",
        "self._close()",
        "finally:",
        "if self.in_atomic_block:",
        "self.closed_in_transaction = True",
        "self.needs_rollback = True",
        "else:",
        "self.connection = None",
    ]
