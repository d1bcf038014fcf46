"""The policy, row by row; tests/thorough/test_policy.py has it over random sequences."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_mysql_recycle.policy import (
    REST,
    Action,
    Facts,
    Verdict,
    decide,
    idle_limit_of,
    short_idle_of,
)

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


@pytest.mark.parametrize(
    ("changes", "expected"),
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
    ],
)
def test_the_first_row_that_applies_decides(changes, expected):
    assert verdict(**changes) == expected


@pytest.mark.parametrize("changes", [{"safe": False}, {"pending": True}, {"idle": 25.0}])
def test_nobody_looks_at_the_socket_where_it_would_tell_nothing(changes):
    verdict(peer_closed=must_not_look, reason="", **changes)


def test_an_interrupted_transaction_refuses_every_statement():
    assert verdict(safe=False, reason="interrupted", interrupted=True).action is Action.INTERRUPTED


@pytest.mark.parametrize(
    ("wait_timeout", "own", "limit"),
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
    ],
)
def test_the_idle_limit_keeps_a_margin_from_wait_timeout(wait_timeout, own, limit):
    assert idle_limit_of(wait_timeout, own) == limit


@given(st.floats(0.01, 1e8))
def test_the_margin_is_never_more_than_half_and_never_more_than_thirty_seconds(wait_timeout):
    limit = idle_limit_of(wait_timeout, None)
    assert limit is not None
    assert wait_timeout / 2 <= limit < wait_timeout
    assert wait_timeout - limit <= 30.001


seconds = st.floats(0, 100)
limits = st.none() | st.floats(0.1, 60)
facts = st.builds(
    Facts,
    safe=st.booleans(),
    pending=st.booleans(),
    pinned=st.booleans(),
    settable=st.booleans(),
    reads_state=st.booleans(),
    reason=st.sampled_from(["", "", "lost", "interrupted"]),
    interrupted=st.just(False),
    wrong_node=st.booleans(),
    unit_begins=st.booleans(),
    idle=seconds,
    age=seconds,
    idle_limit=limits,
    max_age=limits,
    ping_after=limits,
    limit_unread=st.booleans(),
    peer_closed=st.sampled_from([closed, lambda: False]),
)


@given(facts)
def test_what_would_be_lost_is_never_replaced(given_facts):
    if decide(given_facts).action is Action.RECYCLE:
        lost = given_facts.reason or given_facts.peer_closed()
        set_again = given_facts.settable and lost
        assert given_facts.safe
        assert not given_facts.pinned or set_again
        assert not given_facts.reads_state
        assert not given_facts.pending or given_facts.reason


@given(facts)
def test_below_the_short_idle_time_only_the_socket_matters(f):
    """The caller's short cut is the policy: it need not ask below `short_idle_of`."""
    ready = not (f.pinned or f.reason or f.wrong_node or f.unit_begins or f.pending)
    young = f.max_age is None or f.age < f.max_age
    if f.safe and ready and young and not f.reads_state:
        if f.idle < short_idle_of(f.idle_limit, f.ping_after, f.limit_unread):
            expected = Verdict(Action.RECYCLE, "closed") if f.peer_closed() else Verdict(Action.RUN)
            assert decide(f) == expected
