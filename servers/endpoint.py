"""What a client needs to know to connect to a server."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class Endpoint:
    """A server that was not started here. It is described, and never stopped.

    Subclasses run a server themselves and end it in `destroy()`.
    """

    host: str
    port: int
    socket: str
    user: str
    password: str
    database: str
    vendor: str
    version: str
    ca: Path | None

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 3306,
        socket: str = "",
        user: str = "root",
        password: str = "",
        database: str = "recycle",
        vendor: str = "",
        version: str = "",
        ca: Path | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.socket = socket
        self.user = user
        self.password = password
        self.database = database
        self.vendor = vendor
        self.version = version
        self.ca = ca

    def __repr__(self) -> str:
        where = self.socket or f"{self.host}:{self.port}"
        return f"<{type(self).__name__} {self.vendor} {self.version} at {where}>"

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables that describe this server to `from_environment`."""
        values = {
            "MYSQL_HOST": self.host,
            "MYSQL_PORT": str(self.port),
            "MYSQL_USER": self.user,
            "MYSQL_PASSWORD": self.password,
            "MYSQL_DATABASE": self.database,
            "MYSQL_SOCKET": self.socket,
        }
        return {name: value for name, value in values.items() if value}

    def destroy(self) -> None:
        """End the server if this process started it. Here, do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.destroy()
