"""Settings of this backend from the query of a database URL.

dj-database-url and django-environ put every part of the query into OPTIONS, as text and without
nesting.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeVar

from .options import KEYS

__all__ = ["options_from_url"]

#: A dict, or a TypedDict of the package that has read the URL.
_Entry = TypeVar("_Entry", bound=Mapping[str, Any])

_WORDS = {"true": True, "false": False, "none": None}

#: What a URL for MySQL calls the parts of OPTIONS["ssl"].
_TLS = {"ssl-ca": "ca", "ssl-cert": "cert", "ssl-key": "key"}


def options_from_url(database: _Entry) -> _Entry:
    """Give an entry of DATABASES that was made of a URL the options in the form that is expected.

    In OPTIONS, ``recycle.idle_limit`` becomes ``["recycle"]["idle_limit"]``, and text in these
    settings becomes the number, True, False or None that it spells. ``ssl-ca``, ``ssl-cert`` and
    ``ssl-key`` go to ``["ssl"]``. Everything else stays as it is.

    Changes the entry and returns it, so that it can be called with the result of
    ``dj_database_url.config()`` or ``env.db()``, and given to ``dj_database_url.register()``.
    Raises nothing: connecting refuses settings that cannot be used.
    """
    options = database.get("OPTIONS")
    if not isinstance(options, dict):
        return database
    for name, value in list(options.items()):
        key, dot, setting = str(name).partition(".")
        if name in _TLS:
            _put(options, "ssl", _TLS[name], options.pop(name))
        elif key in KEYS and dot:
            _put(options, key, setting, _value(options.pop(name)))
        elif key in KEYS:
            options[name] = _value(value)
    return database


def _put(options: dict[str, Any], key: str, setting: str, value: Any) -> None:
    nested = options.setdefault(key, {})
    if isinstance(nested, dict):
        nested[setting] = value


def _value(given: Any) -> Any:
    """What a text spells; anything else as it is."""
    if not isinstance(given, str):
        return given
    if given.lower() in _WORDS:
        return _WORDS[given.lower()]
    for kind in (int, float):
        with suppress(ValueError):
            return kind(given)
    return given
