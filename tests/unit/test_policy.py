"""The policy, row by row; tests/thorough/test_policy.py has it over random sequences."""

from dataclasses import replace

from django_mysql_recycle.policy import (
    REST,
    Action,
    Facts,
    Verdict,
    decide,
    idle_limit_of,
)

from .rows import each

ORDINARY = Facts(
    safe=True,
    pending=False,
    pinned=False,
    settable=False,
    reads_state=False,
    reason="",
    interrupted=False,
    wrong_node=False,
    unit_begins=False,
    idle=0.0,
    age=1.0,
    idle_limit=25.0,
    max_age=None,
    ping_after=10.0,
    limit_unread=False,
    peer_closed=lambda: False,
)


def closed():
    return True


def must_not_look():
    raise AssertionError("looked at the socket")


def verdict(**changes):
    return decide(replace(ORDINARY, **changes))


@each(
    [
        ({}, Verdict(Action.RUN)),
        ({"reason": "lost"}, Verdict(Action.RECYCLE, "lost")),
        ({"reason": "interrupted", "interrupted": True}, Verdict(Action.RECYCLE, "interrupted")),
        ({"wrong_node": True}, Verdict(Action.RECYCLE, "wrong node")),
        ({"idle": 25.0}, Verdict(Action.RECYCLE, "idle limit")),
        ({"idle": 24.9}, Verdict(Action.PING)),
        ({"idle": 9.9}, Verdict(Action.RUN)),
        ({"idle": 10.0, "ping_after": None}, Verdict(Action.RUN)),
        ({"peer_closed": closed}, Verdict(Action.RECYCLE, "closed")),
        ({"asks_earlier": True}, Verdict(Action.RECYCLE, "used before")),
        ({"asks_earlier": True, "pinned": True}, Verdict(Action.RUN)),
        ({"asks_earlier": True, "safe": False}, Verdict(Action.RUN)),
        ({"limit_unread": True, "idle": REST}, Verdict(Action.READ_LIMIT)),
        ({"limit_unread": True, "idle": REST - 0.01}, Verdict(Action.RUN)),
        # max age: a pause, an overrun of 10 % and at least 5 s, or a unit of work that begins
        ({"max_age": 60.0, "age": 60.0}, Verdict(Action.RUN)),
        ({"max_age": 60.0, "age": 60.0, "idle": 1.0}, Verdict(Action.RECYCLE, "max age")),
        ({"max_age": 60.0, "age": 60.0, "unit_begins": True}, Verdict(Action.RECYCLE, "max age")),
        ({"max_age": 60.0, "age": 65.9}, Verdict(Action.RUN)),
        ({"max_age": 60.0, "age": 66.0}, Verdict(Action.RECYCLE, "max age")),
        ({"max_age": 3.0, "age": 7.9}, Verdict(Action.RUN)),
        ({"max_age": 3.0, "age": 8.0}, Verdict(Action.RECYCLE, "max age")),
        # session state
        ({"pinned": True, "idle": 24.9}, Verdict(Action.RUN)),
        ({"pinned": True, "idle": 9999.0}, Verdict(Action.RUN)),
        ({"pinned": True, "peer_closed": closed}, Verdict(Action.STATE_LOST, "closed")),
        ({"pinned": True, "reason": "lost"}, Verdict(Action.STATE_LOST, "lost")),
        ({"pinned": True, "settable": True, "idle": 9999.0}, Verdict(Action.RUN)),
        (
            {"pinned": True, "settable": True, "peer_closed": closed},
            Verdict(Action.RECYCLE, "closed"),
        ),
        ({"pinned": True, "settable": True, "reason": "lost"}, Verdict(Action.RECYCLE, "lost")),
        (
            {"pinned": True, "settable": True, "reads_state": True, "reason": "lost"},
            Verdict(Action.STATE_LOST, "lost"),
        ),
        ({"reads_state": True, "idle": 9999.0}, Verdict(Action.RUN)),
        ({"reads_state": True, "peer_closed": closed}, Verdict(Action.STATE_LOST, "closed")),
    ]
)
def test_the_first_row_that_applies_decides(changes, expected):
    assert verdict(**changes) == expected


@each([{"safe": False}, {"pending": True}, {"idle": 25.0}])
def test_socket_is_not_checked_where_it_would_show_nothing(changes):
    verdict(peer_closed=must_not_look, reason="", **changes)


def test_an_interrupted_transaction_refuses_every_statement():
    assert verdict(safe=False, reason="interrupted", interrupted=True).action is Action.INTERRUPTED


@each(
    [
        (1, None, 0.5),
        (2, None, 1.5),
        (3, None, 2.5),
        (60, None, 54),
        (300, None, 270),
        (600, None, 570),
        (28800, None, 28770),
        (28800, 50, 50),
        (30, 50, 27),
        (None, 50, 50),
        (None, None, None),
    ]
)
def test_the_idle_limit_keeps_a_margin_from_wait_timeout(wait_timeout, own, limit):
    assert idle_limit_of(wait_timeout, own) == limit
