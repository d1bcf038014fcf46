"""What backends for several tenants do: set up each connection that they see, once."""

from __future__ import annotations

from typing import Any

_Wrapper: Any = object


class TenantMixin(_Wrapper):  # type: ignore[misc]
    """Selects the tenant's database on each driver connection, when a cursor is made."""

    tenant = ""
    known: Any = None

    def _cursor(self, name: str | None = None) -> Any:
        cursor = super()._cursor(name)
        if self.tenant and self.connection is not self.known:
            self.known = self.connection
            cursor.execute(f"USE {self.tenant}")
            cursor.execute("SET @tenant = %s", [self.tenant])
        return cursor
