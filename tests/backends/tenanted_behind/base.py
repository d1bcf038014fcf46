"""Ours in front of a backend that sets up each connection."""

from django_mysql_recycle.base import RecycleMixin
from django_mysql_recycle.stock import DatabaseWrapper as MySQLDatabaseWrapper

from ..tenants import TenantMixin


class TenantWrapper(TenantMixin, MySQLDatabaseWrapper):
    pass


class DatabaseWrapper(RecycleMixin, TenantWrapper):
    pass
