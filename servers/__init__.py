"""Temporary MySQL and MariaDB servers, and faults between them and a client.

The tests, the demo and the example project use them. They are not part of the package that users
install. They need only the standard library, so that `python -m servers` runs before anything is
installed.
"""

from .endpoint import Endpoint
from .environment import from_environment
from .errors import BadSetting, NotAvailable, ServersError, StartFailed
from .faultproxy import FaultProxy
from .haproxy import HAProxy
from .installation import VENDORS, Installation, Vendor, check_vendor, obtain_installation
from .netns import Namespace
from .obtain import obtain
from .server import Server

__all__ = [
    "VENDORS",
    "BadSetting",
    "Endpoint",
    "FaultProxy",
    "HAProxy",
    "Installation",
    "Namespace",
    "NotAvailable",
    "Server",
    "ServersError",
    "StartFailed",
    "Vendor",
    "check_vendor",
    "from_environment",
    "obtain",
    "obtain_installation",
]
