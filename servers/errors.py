"""The errors of obtaining and running a temporary server."""

from __future__ import annotations


class ServersError(Exception):
    """Base class of the errors of this package."""


class NotAvailable(ServersError):
    """A program is missing and could not be installed. The text says what to install."""


class StartFailed(ServersError):
    """A server ended or did not answer while it started. The text shows the end of its log."""


class BadSetting(ServersError):
    """An environment variable or an argument has a value that cannot be used."""
