from __future__ import annotations

from django.db import models


class Visit(models.Model):
    """A visit of the index page, and the connection that stored it."""

    at = models.DateTimeField(auto_now_add=True)
    connection_id = models.PositiveBigIntegerField()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.at:%H:%M:%S} by connection {self.connection_id}"
