"""A subclass of ours that sets up each connection."""

from django_mysql_recycle.base import DatabaseWrapper as RecyclingWrapper

from ..tenants import TenantMixin


class DatabaseWrapper(TenantMixin, RecyclingWrapper):
    pass
