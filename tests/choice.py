"""The driver and the server of this run: both are chosen once per process, by the environment.

RECYCLE_TEST_DRIVER is mysqlclient or pymysql (unset: mysqlclient where it is installed),
RECYCLE_TEST_SERVER is mariadb (the default) or mysql.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

from servers import BadSetting, check_vendor

_MODULES = {"mysqlclient": "MySQLdb", "pymysql": "pymysql"}


def _driver() -> str:
    wanted = os.environ.get("RECYCLE_TEST_DRIVER")
    if not wanted:
        return "mysqlclient" if find_spec("MySQLdb") is not None else "pymysql"
    if wanted not in _MODULES:
        raise BadSetting(f"RECYCLE_TEST_DRIVER: expected mysqlclient or pymysql, got {wanted!r}")
    if find_spec(_MODULES[wanted]) is None:
        raise BadSetting(
            f"RECYCLE_TEST_DRIVER is {wanted}, which is not installed: pip install {wanted}"
        )
    return wanted


DRIVER = _driver()
VENDOR = check_vendor(os.environ.get("RECYCLE_TEST_SERVER") or "mariadb")
