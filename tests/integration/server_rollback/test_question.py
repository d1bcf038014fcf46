"""The question whether the transaction still exists is lost, without an answer, or interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import transaction
from django.db.utils import Error

from django_mysql_recycle import rollbacks
from servers import FaultProxy

from ..acts import alarm, assert_works, insert, owners
from ..admin import Admin
from ..connections import ConnectionFactory
from ..queries import run
from .conftest import LOCK, Rival, ours, two_halves


@pytest.fixture
def stalling(
    proxy: Callable[..., FaultProxy], monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultProxy]:
    """A network that stops answering just before the question."""
    between = proxy()
    ask = rollbacks.look_for_rollback

    def stall_and_ask(wrapper: Any, physical: Any, error: BaseException) -> None:
        between.stall()
        ask(wrapper, physical, error)

    monkeypatch.setattr(rollbacks, "look_for_rollback", stall_and_ask)
    yield between
    between.resume()


def test_connection_that_is_lost_at_the_question_commits_nothing(
    make_connection: ConnectionFactory,
    admin: Admin,
    rival: Rival,
    proxy: Callable[..., FaultProxy],
) -> None:
    between = proxy()
    connection = ours(make_connection, via=between)
    fault = between.cut_at(b"SET TRANSACTION READ WRITE")
    with pytest.raises(Error), transaction.atomic(using=connection.alias):
        two_halves(connection, rival)
    assert fault.fired
    assert owners(admin) == []
    assert_works(connection, admin)


def test_question_without_an_answer_is_bounded_and_commits_nothing(
    make_connection: ConnectionFactory,
    admin: Admin,
    rival: Rival,
    stalling: FaultProxy,
) -> None:
    connection = ours(make_connection, via=stalling, recycle={"ping_timeout": 0.3})
    with pytest.raises(Error), transaction.atomic(using=connection.alias):
        two_halves(connection, rival)
    assert owners(admin) == []
    stalling.resume()
    assert_works(connection, admin)


class Impatience(Exception):
    pass


def test_interruption_of_the_question_commits_nothing(
    make_connection: ConnectionFactory,
    admin: Admin,
    rival: Rival,
    stalling: FaultProxy,
) -> None:
    connection = ours(make_connection, via=stalling)

    def in_the_question(frame: Any) -> bool:
        while frame is not None:
            if frame.f_code.co_name == "look_for_rollback":
                return True
            frame = frame.f_back
        return False

    with pytest.raises(Error), transaction.atomic(using=connection.alias):
        insert(connection, "first")
        rival.hold(2)
        run(connection, LOCK, 1)
        rival.want(LOCK, 1)
        with pytest.raises(Impatience), alarm(0.1, Impatience, where=in_the_question):
            run(connection, LOCK, 2)
        insert(connection, "second")
    assert owners(admin) == []
    stalling.resume()
    assert_works(connection, admin)
