"""What the application does with the driver's own objects, past Django's cursors.

Methods of the driver's connection that change the session, and the statements of cursors that the
application has made with it, are reported to the connection wrapper. They are watched by subclasses
of the driver's classes, so that nothing refers back to a connection and keeps it open.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import Any

__all__ = ["unwatch_commits", "watch_commits", "watched_connection", "watched_cursors"]

_ENDS = ("commit", "rollback")
#: What may commit without a statement.
_COMMITS = ("commit", "autocommit")


@lru_cache(maxsize=64)
def watched_cursor(kind: Any) -> Any:
    """A cursor like `kind` that reports what it has run."""
    if not isinstance(kind, type):
        return kind

    class Watched(kind):  # type: ignore[misc]
        def execute(self, query: Any, args: Any = None) -> Any:
            connection = self.connection
            result = super().execute(query, args)
            _report(connection, query, args, self)
            return result

        def callproc(self, procname: Any, args: Any = ()) -> Any:
            connection = self.connection
            result = super().callproc(procname, args)
            _report(connection, "CALL p()", None, self)
            return result

    return _named_like(Watched, kind)


def watched_cursors(reference: Callable[[], Any], exchange: Any) -> Callable[..., Any]:
    """What stands in the place of the connection's ``cursor()``."""

    def make(cursorclass: Any = None, cursor: Any = None) -> Any:  # the drivers' names for it
        connection = reference()
        kind = cursorclass or cursor or connection.cursorclass
        if exchange.ours:
            exchange.ours = False
            return kind(connection)
        return watched_cursor(kind)(connection)

    return make


@lru_cache(maxsize=64)
def watched_connection(kind: Any) -> Any:
    """A class of connections like `kind`, whose objects report what changes their session."""

    class Watched(kind):  # type: ignore[misc]
        __slots__ = ()

        def select_db(self, db: Any) -> Any:
            result = super().select_db(db)
            name = db.decode("utf-8", "surrogateescape") if isinstance(db, bytes) else str(db)
            quoted = name.replace("`", "``")
            _report(self, f"USE `{quoted}`")
            return result

        def begin(self) -> Any:
            result = super().begin()
            _report(self, "BEGIN")
            return result

        def set_character_set(self, *args: Any, **named: Any) -> Any:
            result = super().set_character_set(*args, **named)
            _report(self, "SET NAMES utf8mb4")
            return result

        def set_charset(self, *args: Any, **named: Any) -> Any:
            result = super().set_charset(*args, **named)
            _report(self, "SET NAMES utf8mb4")
            return result

        def set_sql_mode(self, sql_mode: Any) -> Any:
            result = super().set_sql_mode(sql_mode)
            _report(self, "SET SESSION sql_mode = ''")
            return result

        def ping(self, *args: Any, **named: Any) -> Any:
            result = super().ping(*args, **named)
            if any((*args, *named.values())):
                super().ping(False)  # mysqlclient would reconnect by itself from now on
                _reconnected(self)
            return result

        def connect(self, *args: Any, **named: Any) -> Any:
            exchange = getattr(self.query, "exchange", None)
            if exchange is None:
                return super().connect(*args, **named)
            # What the driver sends in it is none of the application's statements.
            wrapper, exchange.wrapper = exchange.wrapper, None
            try:
                result = super().connect(*args, **named)
            finally:
                exchange.wrapper = wrapper
            _reconnected(self)
            return result

        def change_user(self, *args: Any, **named: Any) -> Any:
            result = super().change_user(*args, **named)
            exchange, wrapper = _watchers(self)
            if wrapper is not None:
                wrapper.guard.hold_directly(exchange, "change_user()")
            return result

        def send_query(self, *args: Any, **named: Any) -> Any:
            exchange, wrapper = _watchers(self)
            if wrapper is not None and exchange.under_way is not True:
                wrapper.guard.mark_directly(exchange)  # its answer may never be read
            return super().send_query(*args, **named)

        def set_server_option(self, *args: Any, **named: Any) -> Any:
            exchange, wrapper = _watchers(self)
            if wrapper is not None:
                wrapper.guard.mark_directly(exchange)
            return super().set_server_option(*args, **named)

    methods = ("set_character_set", "set_charset", "set_sql_mode", "connect", "change_user")
    for name in (*methods, "send_query", "set_server_option"):
        if not hasattr(kind, name):
            delattr(Watched, name)
    return _named_like(Watched, kind)


def watch_commits(connection: Any, note: Callable[[], None]) -> bool:
    """Have `note` called before the application commits by methods of the driver's connection.

    Returns False for an object that cannot be watched.
    """
    exchange = getattr(getattr(connection, "query", None), "exchange", None)
    methods = (hasattr(type(connection), name) for name in _COMMITS)
    if exchange is None or not exchange.watched or not all(methods):
        return False
    reference = weakref.ref(connection)

    def watched(name: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            connection = reference()
            if exchange.under_way is not True:  # the backend's own calls have set it
                note()
            return getattr(type(connection), name)(connection, *args)

        return call

    for name in _COMMITS:
        setattr(connection, name, watched(name))
    return True


def unwatch_commits(connection: Any) -> None:
    """End what `watch_commits` has begun."""
    attributes = getattr(connection, "__dict__", {})
    for name in _COMMITS:
        attributes.pop(name, None)


def _watchers(connection: Any) -> tuple[Any, Any]:
    """The exchange that watches a driver's connection, and the connection wrapper; else None."""
    exchange = getattr(connection.query, "exchange", None)
    return exchange, exchange and exchange.wrapper and exchange.wrapper()


def _named_like(watched: Any, kind: Any) -> Any:
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(watched, name, getattr(kind, name))
    return watched


def _report(connection: Any, sql: Any, args: Any = None, cursor: Any = None) -> None:
    exchange, wrapper = _watchers(connection)
    if wrapper is not None and wrapper.guard.ran_directly(exchange, sql, args, cursor):
        for name in _ENDS:
            setattr(connection, name, _watched_end(weakref.ref(connection), name))


def _reconnected(connection: Any) -> None:
    """The driver may have opened another session beneath its object."""
    exchange, wrapper = _watchers(connection)
    if wrapper is not None:
        wrapper.guard.reconnected_directly(exchange)


def _watched_end(reference: Callable[[], Any], name: str) -> Callable[[], Any]:
    """Report the end of a transaction that the application has begun with the driver's objects.

    Watched only while there is one: Django calls these methods, too.
    """

    def end() -> Any:
        connection = reference()
        for each in _ENDS:
            connection.__dict__.pop(each, None)
        result = getattr(connection, name)()
        _report(connection, name.upper())
        return result

    return end
