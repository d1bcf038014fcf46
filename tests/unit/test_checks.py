"""System checks that need no server: each with what sets it off and what does not."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.utils import ConnectionHandler

from django_mysql_recycle.checks import _check, check_settings


def ids(recycle=None, **settings):
    options = settings.setdefault("OPTIONS", {})
    if recycle is not None:
        options["recycle"] = recycle
    messages = list(_check("default", settings))
    assert all("['default']" in message.msg and message.hint for message in messages[1:])
    return [str(message.id).partition(".")[2] for message in messages]


def test_the_defaults_contradict_nothing():
    assert ids() == []
    assert ids(HOST="/run/mysqld/mysqld.sock", CONN_MAX_AGE=None) == []


@pytest.mark.parametrize(
    ("recycle", "settings", "found"),
    [
        ({"idle_limit": 5, "ping_after": 5}, {}, ["W001"]),
        ({"idle_limit": 5, "ping_after": 4}, {}, []),
        ({"idle_limit": 5, "ping_after": None}, {}, []),
        ({"idle_limit": 5}, {}, []),
        ({"liveness_check": False, "ping_after": None}, {}, ["W002"]),
        ({"liveness_check": False, "ping_after": None, "idle_limit": 50}, {}, []),
        ({}, {"OPTIONS": {"read_timeout": 3}}, ["W003"]),
        ({"ping_timeout": 3}, {"OPTIONS": {"read_timeout": 3}}, []),
        ({"ping_timeout": None, "network_timeout": None}, {}, ["W004"]),
        ({"ping_timeout": None}, {}, []),
        ({"keepalive": 30, "network_timeout": 9}, {"HOST": "/s"}, ["W005", "W005"]),
        ({"keepalive": None}, {"HOST": "/s"}, []),
        ({"jitter": 0.1}, {"CONN_MAX_AGE": 0}, ["W006"]),
        ({"jitter": 0.1}, {"CONN_MAX_AGE": 60}, []),
        ({"jitter": 0}, {"CONN_MAX_AGE": None}, []),
        ({"connect_retries": 2}, {"OPTIONS": {"connect_timeout": 1}}, ["W007"]),
        ({"connect_retries": 2}, {"OPTIONS": {"connect_timeout": 5}}, []),
        ({"ping_afer": 3}, {}, ["E001"]),
        ({}, {"CONN_MAX_AGE": "60"}, ["E001"]),
    ],
)
def test_a_contradiction_is_reported(recycle, settings, found):
    assert ids(recycle, **settings) == found


def test_backend_of_another_alias_that_cannot_be_loaded_does_not_stop_the_checks():
    broken = ConnectionHandler({"default": {"ENGINE": "nowhere"}}).settings["default"]
    connections.settings["broken"] = broken
    try:
        with pytest.raises(ImproperlyConfigured):
            connections["broken"]
        assert [message for message in check_settings() if "broken" in message.msg] == []
    finally:
        del connections.settings["broken"]
