"""Tests that are tables: one test for all rows, because a test of its own costs a millisecond."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def each(rows: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Call the test with each row, a tuple of its arguments or the only one. Names all that fail."""
    rows = list(rows)

    def decorate(test: Callable[..., None]) -> Callable[[], None]:
        def test_of_all_rows() -> None:
            assert rows
            failures = []
            for row in rows:
                try:
                    test(*row if isinstance(row, tuple) else (row,))
                except Exception as error:
                    failures.append(f"{row!r}\n{type(error).__name__}: {error}")
            if failures:
                raise AssertionError("\n\n".join(failures))

        test_of_all_rows.__name__ = test.__name__
        test_of_all_rows.__doc__ = test.__doc__
        return test_of_all_rows

    return decorate
