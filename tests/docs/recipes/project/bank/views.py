import os

from django.db import connection
from django.http import JsonResponse


def connection_id():
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        return cursor.fetchone()[0]


def who(request):
    return JsonResponse({"pid": os.getpid(), "connection": connection_id()})


def echo(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s + SLEEP(0.005)", [os.getpid()])
        return JsonResponse({"asked": os.getpid(), "answered": int(cursor.fetchone()[0])})
