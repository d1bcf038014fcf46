"""What the system checks and the command ``mysql_recycle`` find: one kind of object for both."""

from __future__ import annotations

from dataclasses import dataclass

from django.core import checks

from .. import documents

__all__ = ["ERROR", "NOTE", "WARNING", "Finding", "check"]

ERROR, WARNING, NOTE = "error", "warning", "note"

_LEVELS = {"E": ERROR, "W": WARNING, "I": NOTE}
_MESSAGES = {ERROR: checks.Error, WARNING: checks.Warning, NOTE: checks.Info}


@dataclass(frozen=True, slots=True)
class Finding:
    id: str  #: as Django's checks have it; SILENCED_SYSTEM_CHECKS silences by it
    level: str  #: ``error``, ``warning`` or ``note``
    message: str
    hint: str

    @classmethod
    def of(cls, message: checks.CheckMessage) -> Finding:
        """What another system check says."""
        level = NOTE if message.level < checks.WARNING else WARNING
        level = level if message.level < checks.ERROR else ERROR
        return cls(str(message.id or ""), level, message.msg, message.hint or "")

    def as_check(self) -> checks.CheckMessage:
        hint = f"{self.hint} {documents.of_check(self.id)}".lstrip()
        return _MESSAGES[self.level](self.message, hint=hint, id=self.id)


def check(code: str, message: str, hint: str = "") -> Finding:
    """A finding of the system checks. The first letter of its code is its level."""
    return Finding(f"django_mysql_recycle.{code}", _LEVELS[code[0]], message, hint)
