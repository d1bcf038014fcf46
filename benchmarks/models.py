"""The one table that the measures read and write."""

from __future__ import annotations

from django.db import models


class Item(models.Model):
    name: models.CharField[str, str] = models.CharField(max_length=50)
    value: models.IntegerField[int, int] = models.IntegerField(default=0)
