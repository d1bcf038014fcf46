"""Which calls are under way, and where an exception has come to."""

from __future__ import annotations

import sys
import threading
from types import FrameType

from django.db.backends import utils

from django_mysql_recycle import calls, guard


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_call_runs_until_it_returns() -> None:
    frames: list[FrameType] = []

    def call() -> None:
        frames.append(sys._getframe())
        assert calls.runs(frames[0])

    call()
    assert not calls.runs(frames[0])
    assert not calls.runs(None)


def test_call_that_was_cut_short_is_forgotten_with_its_frame_where_it_is_asked_for() -> None:
    under_way = calls.Calls()

    def call() -> None:
        under_way.connecting = under_way.django_check = under_way.notifying = sys._getframe()
        assert under_way.is_connecting()
        assert under_way.in_django_check()
        assert under_way.is_notifying()

    call()
    assert not under_way.is_connecting()
    assert not under_way.in_django_check()
    assert not under_way.is_notifying()
    assert set(vars(under_way).values()) == {None}


def test_call_of_another_thread_runs_as_well() -> None:
    frames: list[FrameType] = []
    begun, end = threading.Event(), threading.Event()

    def call() -> None:
        frames.append(sys._getframe())
        begun.set()
        end.wait(10)

    thread = threading.Thread(target=call)
    thread.start()
    begun.wait(10)
    assert calls.runs(frames[0])
    end.set()
    thread.join()
    assert not calls.runs(frames[0])


def test_exception_has_left_once_a_frame_outside_of_the_backend_has_seen_it() -> None:
    caught: list[BaseException] = []
    inside = {"__name__": guard.__name__, "caught": caught}
    exec(
        "def fail(error):\n    try:\n        raise error\n"
        "    except Exception as found:\n        caught.append(found)\n        raise\n",
        inside,
    )
    error = ValueError()
    try:
        inside["fail"](error)  # type: ignore[operator]
    except ValueError:
        assert calls.has_left(error.__traceback__)
        assert error.__traceback__ is not None
        assert not calls.has_left(error.__traceback__.tb_next)


def test_exception_whose_traceback_the_application_has_cleared_has_left() -> None:
    # As unittest's assertRaises() does it.
    assert calls.has_left(raised(ValueError()).with_traceback(None).__traceback__)


def test_frames_of_djangos_cursor_are_inside() -> None:
    inside = {"__name__": utils.__name__}
    exec("def fail(error):\n    raise error\n", inside)
    error = ValueError()
    try:
        inside["fail"](error)  # type: ignore[operator]
    except ValueError:
        trace = error.__traceback__
        assert trace is not None and calls.has_left(trace) and not calls.has_left(trace.tb_next)


def test_no_statement_is_under_way_where_the_application_calls() -> None:
    assert not calls.is_in_a_statement()
