"""Where the documents are on the web. Errors and hints end with one of these addresses.

The addresses are stable: docs/conf.py makes an anchor for each check and each error number, and
`scripts/docs_site.py` looks for every one of them in the site that it builds. The host is that of
pyproject.toml, which a test compares.
"""

from __future__ import annotations

__all__ = ["SESSION_STATE_LOST", "SITE", "TROUBLESHOOTING", "of_check", "of_error"]

SITE = "https://django-mysql-recycle.readthedocs.io/en/stable/"
TROUBLESHOOTING = f"{SITE}troubleshooting.html"
SESSION_STATE_LOST = f"{TROUBLESHOOTING}#sessionstatelost"


def of_check(identifier: str) -> str:
    """The address of a system check of this backend, such as ``django_mysql_recycle.W012``."""
    return f"{SITE}checks.html#{identifier.rpartition('.')[2].lower()}"


def of_error(number: int) -> str:
    """The address of an error number that has a heading in docs/troubleshooting.md."""
    return f"{TROUBLESHOOTING}#error-{number}"
