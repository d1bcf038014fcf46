"""What can go wrong while a throwaway server is obtained or run."""

from __future__ import annotations


class ServersError(Exception):
    """Base of every error that this package raises on purpose."""


class NotAvailable(ServersError):
    """A program is not on this machine and could not be obtained; the text says what to install."""


class StartFailed(ServersError):
    """A server ended, or never answered, before it was ready; the text shows the tail of its log."""


class BadSetting(ServersError):
    """An environment variable or an argument has a value that cannot be used."""
