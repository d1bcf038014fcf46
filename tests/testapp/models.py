from __future__ import annotations

from datetime import datetime

from django.db import models


class Account(models.Model):
    owner: models.CharField[str, str] = models.CharField(max_length=50, unique=True)
    balance: models.IntegerField[int, int] = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.owner


class Item(models.Model):
    name: models.CharField[str, str] = models.CharField(max_length=50)
    account: models.ForeignKey[Account | None, Account | None] = models.ForeignKey(
        Account, on_delete=models.CASCADE, null=True
    )
    created: models.DateTimeField[datetime, datetime] = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name
