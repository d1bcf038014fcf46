from django.db import models


class Account(models.Model):
    owner = models.CharField(max_length=50, unique=True)
    balance = models.IntegerField(default=0)

    def __str__(self):
        return self.owner
