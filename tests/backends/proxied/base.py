"""Ours in front of a backend whose connections are proxy objects."""

from django_mysql_recycle.base import RecycleMixin

from ..tracing import ProxiedWrapper


class DatabaseWrapper(RecycleMixin, ProxiedWrapper):
    pass
