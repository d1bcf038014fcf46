"""Django's creation of test databases, which leaves no idle connection of a pool behind."""

from __future__ import annotations

from functools import cache
from typing import Any

__all__ = ["with_closed_pool"]


class ClosesPool:
    """Closes the pool before a test database is made, cloned or destroyed.

    A connection that the pool has kept for it would have no database any more, or an old one.
    """

    connection: Any

    def _create_test_db(self, *args: Any, **named: Any) -> Any:
        self.connection.close_pool()
        return super()._create_test_db(*args, **named)  # type: ignore[misc]

    def _clone_test_db(self, *args: Any, **named: Any) -> Any:
        self.connection.close_pool()
        return super()._clone_test_db(*args, **named)  # type: ignore[misc]

    def _destroy_test_db(self, *args: Any, **named: Any) -> Any:
        self.connection.close_pool()
        return super()._destroy_test_db(*args, **named)  # type: ignore[misc]


@cache
def with_closed_pool(theirs: type[Any]) -> type[Any]:
    """The creation class of the wrapper below RecycleMixin, with this backend's in front."""
    if issubclass(theirs, ClosesPool):
        return theirs
    return type(theirs.__name__, (ClosesPool, theirs), {"__module__": __name__})
