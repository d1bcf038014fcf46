"""An answer that the driver cannot read: it is not known which statement it belongs to."""

from __future__ import annotations

import pytest
from django.db import Error, transaction

from .acts import assert_works, insert, listening, owners, rest
from .admin import Admin
from .connections import Proxied
from .queries import run


@pytest.fixture
def unreadable(driver: str) -> bytes:
    """An answer that breaks the protocol for the driver."""
    if driver == "pymysql":
        return b"\x07\x00\x00\x63" + bytes(7)  # the 99th packet of an answer
    # 2027 is what Connector/C makes of an answer that it cannot read.
    body = b"\xff" + (2027).to_bytes(2, "little") + b"#HY000unreadable"
    return len(body).to_bytes(3, "little") + b"\x01" + body


@pytest.mark.parametrize("begin", ["atomic", "BEGIN"])
def test_transaction_that_begins_with_an_unreadable_answer_begins_on_a_new_connection(
    proxied: Proxied, admin: Admin, driver: str, unreadable: bytes, begin: str
) -> None:
    connection, between = proxied()
    run(connection, "SELECT 1")
    switch = b"AUTOCOMMIT" if driver == "pymysql" else b"autocommit"
    between.answer(b"BEGIN" if begin == "BEGIN" else switch, unreadable)
    between.answer(b"SELECT", unreadable)  # whether the next answer is the right one
    if begin == "BEGIN":
        run(connection, "BEGIN")
        insert(connection, "once")
        assert owners(admin) == []
        run(connection, "COMMIT")
    else:
        with transaction.atomic(using=connection.alias):
            insert(connection, "once")
            assert owners(admin) == []
    assert owners(admin) == ["once"]
    assert len(between.connections) == 2


def test_write_with_an_unreadable_answer_is_not_repeated(
    proxied: Proxied, admin: Admin, unreadable: bytes
) -> None:
    connection, between = proxied()
    run(connection, "SELECT 1")
    rest(connection)
    run(connection, "SELECT 1")
    rest(connection)
    between.answer(b"INSERT", unreadable)
    between.answer(b"SELECT", unreadable)
    with listening(connection) as received, pytest.raises(Error):
        insert(connection, "never")
    assert (owners(admin), received.repeated) == ([], [])
    run(connection, "DO 0")
    assert len(between.connections) == 2


def test_question_of_the_backend_with_unreadable_answers_is_asked_once(
    proxied: Proxied, admin: Admin, unreadable: bytes
) -> None:
    connection, between = proxied()
    run(connection, "SELECT 1")
    rest(connection)  # the session's wait_timeout is read now
    between.answer(b"SELECT", unreadable, times=2)
    with listening(connection) as received:
        insert(connection, "once")
    assert (owners(admin), received.recycled) == (["once"], ["lost"])
    with pytest.raises(Error):
        run(connection, "SELECT 'the second of the two'")
    assert_works(connection, admin)
