"""One entry of DATABASES, as the checks look at it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from .. import option_files
from ..options import MaxAge, Options, is_number, max_age_of, path_of

__all__ = ["Entry"]


class Entry:
    """What is written in the entry, and what the backend makes of it."""

    def __init__(self, alias: str, settings: Mapping[str, Any]) -> None:
        self.alias = alias
        self.settings = settings
        #: OPTIONS. Empty where it is no dict, which `options` refuses.
        self.params = _mapping(settings.get("OPTIONS"))
        #: OPTIONS['recycle'] as written, without the defaults.
        self.given = _mapping(self.params.get("recycle"))
        #: OPTIONS['pool'] as written, without the defaults.
        self.pool = _mapping(self.params.get("pool"))

    @cached_property
    def options(self) -> Options:
        """Raises ImproperlyConfigured."""
        return Options.of(self.alias, self.settings)

    @cached_property
    def max_age(self) -> MaxAge:
        """Raises ImproperlyConfigured."""
        return max_age_of(self.alias, self.settings)

    @cached_property
    def file(self) -> Mapping[str, option_files.Option]:
        """What the option files say that the driver reads."""
        return option_files.options(self.params)

    def path(self, *keys: str) -> str:
        """The path of a key in the entry, as the settings module has it."""
        return f"DATABASES[{self.alias!r}]" + "".join(f"[{key!r}]" for key in keys)

    def own(self, key: str | None = None) -> str:
        """The path of a setting of this backend."""
        return path_of(self.alias, key)

    def seconds(self, name: str) -> float | None:
        """A timeout of the driver's, if it is a number. Only the driver judges other values."""
        value = self.params.get(name)
        return value if is_number(value) else None

    def in_file(self, name: str) -> str:
        """The value of an option in the option files. Empty where there is none."""
        found = self.file.get(name)
        return "" if found is None else found.value or ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
