"""What the example shows about its connection. It asks only the driver and runs no statement."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any


def connection_id(connection: Any) -> int | None:
    """The server's id of the connection, or None while it is closed."""
    if connection.connection is None:
        return None
    return int(connection.connection.thread_id())


def server_name(connection: Any) -> str:
    """Product and version, such as 'MariaDB 10.11.19'. The connection must be open."""
    text = str(connection.connection.get_server_info())
    # MariaDB before 11 puts a version in front that old replicas understood.
    number = re.match(r"(?:5\.5\.5-)?([0-9.]+)", text)
    product = "MariaDB" if "mariadb" in text.lower() else "MySQL"
    return f"{product} {number[1]}" if number else product


def driver_name(connection: Any) -> str:
    """The driver in use and its version, such as 'mysqlclient 2.3.1'."""
    name = connection.Database.__name__.partition(".")[0]
    distribution = "PyMySQL" if name == "pymysql" else "mysqlclient"
    return f"{distribution} {version(distribution)}"
