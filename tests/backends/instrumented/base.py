"""Ours in front of an instrumented backend."""

from django_mysql_recycle.base import RecycleMixin

from ..tracing import InstrumentedWrapper


class DatabaseWrapper(RecycleMixin, InstrumentedWrapper):
    pass
