"""The JSON schema of the document that ``manage.py mysql_recycle --json`` prints."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from .report import SCHEMA, AliasReport, Environment

__all__ = ["schema"]

_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", NoneType: "null"}


def schema() -> dict[str, Any]:
    """The schema, made of the dataclasses of the report."""
    ignored = {"alias": _of(str), "engine": _of(str)}
    parts = {
        "schema": {"const": SCHEMA},
        "ok": _of(bool),
        "environment": _of(Environment),
        "aliases": {"type": "array", "items": _of(AliasReport)},
        "ignored": {"type": "array", "items": _object(ignored)},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "manage.py mysql_recycle --json",
        **_object(parts),
    }


def _object(parts: dict[str, Any]) -> dict[str, Any]:
    # Keys may be added without another number of SCHEMA.
    return {"type": "object", "properties": parts, "required": [*parts]}


def _of(kind: Any) -> dict[str, Any]:
    """The schema of a type, as the fields of the dataclasses have them."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return _object({field.name: _of(hints[field.name]) for field in fields(kind)})
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return {"anyOf": [_of(argument) for argument in arguments]}
    if origin is tuple and arguments[-1] is Ellipsis:
        return {"type": "array", "items": _of(arguments[0])}
    if origin is tuple:
        return {"type": "array", "prefixItems": [_of(argument) for argument in arguments]}
    if origin is dict:
        return {"type": "object"}
    return {"type": _TYPES[kind]}
