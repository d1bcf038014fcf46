"""Throwaway MySQL and MariaDB servers, and the faults that tests put between them and a client.

For the tests, the demonstration and the example project; no part of the package that users install.
Only the standard library is used, so that `python -m servers` runs before anything is installed.
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
