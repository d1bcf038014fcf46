"""What the backend uses of Django's connection wrapper, for the type checker.

No stubs describe the private names among these.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .guard import Guard

__all__ = ["Wrapper"]


class Wrapper(Protocol):
    """Django's connection wrapper with RecycleMixin in front of it."""

    alias: str
    settings_dict: dict[str, Any]
    guard: Guard
    #: Django's ``connection.connection``: the driver's connection object.
    connection: Any
    autocommit: bool
    #: By Django's clock, when CONN_MAX_AGE is over.
    close_at: float | None
    in_atomic_block: bool
    atomic_blocks: list[Any]
    needs_rollback: bool
    savepoint_ids: list[str]
    health_check_enabled: bool
    rollback_exc: BaseException | None
    closed_in_transaction: bool
    errors_occurred: bool
    health_check_done: bool
    run_on_commit: list[Any]
    run_commit_hooks_on_set_autocommit_on: bool

    @property
    def queries_logged(self) -> bool: ...
    @property
    def wrap_database_errors(self) -> AbstractContextManager[None]: ...

    _thread_sharing_count: int
    _thread_ident: int
    #: The base backend may run statements of its own where transactions begin and end.
    foreign_transactions: bool
    #: No subclass does something of its own where a connection is borrowed or returned.
    plain_connecting: bool
    #: A subclass or the base backend computes the driver's parameters.
    foreign_params: bool

    def create_inner_cursor(self, name: str | None) -> Any: ...
    def finish_opening(self) -> None: ...
    def make_unlogged_cursor(self, cursor: Any) -> Any: ...

    def connect(self) -> None: ...
    def get_connection_params(self) -> dict[str, Any]: ...
    def init_connection_state(self) -> None: ...
    def ensure_connection(self) -> None: ...
    def set_autocommit(
        self, autocommit: bool, force_begin_transaction_with_broken_autocommit: bool = False
    ) -> None: ...
    def rollback(self) -> None: ...
    def run_and_clear_commit_hooks(self) -> None: ...
    def validate_thread_sharing(self) -> None: ...
    def _set_autocommit(self, autocommit: bool) -> None: ...
