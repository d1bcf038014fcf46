"""Which ends of a transaction are a reason to run it again, without a server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.db.utils import OperationalError

from django_mysql_recycle.errors import Proof, classify
from django_mysql_recycle.retrying import Journal
from django_mysql_recycle.session_state import examine
from django_mysql_recycle.session_state.effects import keeps_transaction
from django_mysql_recycle.what_ran import note_commit

READ_ONLY = "running with the --read-only option"


def connection(mariadb: bool) -> Any:
    exchange = SimpleNamespace(cursors=0)
    return SimpleNamespace(mariadb=mariadb, raw=object(), exchange=exchange)


def reason(number: int, *, mariadb: bool, from_commit: bool) -> str:
    journal, error = Journal(), OperationalError(number, READ_ONLY)
    proof = classify(error, mariadb=mariadb)
    if from_commit:
        journal.commit_sent = True
        note_commit(error, proof)
    journal.failed(error, proof, connection(mariadb))
    return journal.reason_to_repeat(error)


@pytest.mark.parametrize("mariadb", [True, False])
@pytest.mark.parametrize(
    ("number", "in_the_block", "from_commit"),
    [
        (1205, "lock wait", ""),
        (1213, "deadlock", ""),  # on Galera, COMMIT may end with it and be there
        (1290, "wrong node", "wrong node"),
        (1836, "wrong node", "wrong node"),
        (1047, "wrong node", ""),
        (2013, "lost", ""),
        (2006, "lost", "lost"),  # COMMIT could not be sent
        *((number, "", "") for number in (1062, 1180, 1792, 2014, 3032, 3100, 3101)),
    ],
)
def test_number_is_a_reason_only_where_it_proves_that_nothing_is_there(
    mariadb: bool, number: int, in_the_block: str, from_commit: str
) -> None:
    assert reason(number, mariadb=mariadb, from_commit=False) == in_the_block
    assert reason(number, mariadb=mariadb, from_commit=True) == from_commit


def test_snapshot_conflict_is_one_on_mariadb_alone() -> None:
    assert reason(1020, mariadb=True, from_commit=False) == "snapshot conflict"
    assert reason(1020, mariadb=False, from_commit=False) == ""


def test_error_after_commit_was_sent_is_none_unless_it_is_that_of_commit() -> None:
    journal, error = Journal(), OperationalError(1213, "of a hook")
    journal.failed(error, Proof.ALIVE, connection(False))
    journal.commit_sent = True
    assert journal.reason_to_repeat(error) == ""


@pytest.mark.parametrize(
    ("sql", "keeps"),
    [
        ("SELECT 1", True),
        ("/* by */ update a set b = 1", True),
        ("WITH a AS (SELECT 1) SELECT * FROM a", True),
        ("LOAD DATA INFILE 'a' INTO TABLE b", True),
        ("LOAD INDEX INTO CACHE a", False),
        ("SAVEPOINT a", True),
        ("ROLLBACK TO SAVEPOINT a", True),
        ("ROLLBACK", False),
        ("SET @a = 1", True),
        ("SET PASSWORD = 'a'", False),
        ("SET STATEMENT max_statement_time = 1 FOR CREATE TABLE a (b INT)", False),
        ("CREATE TABLE a (b INT)", False),
        ("CREATE TEMPORARY TABLE a (b INT)", False),
        ("GRANT SELECT ON *.* TO a", False),
        ("XA PREPARE 'a'", False),
        ("something new", False),
        ("/*!50000 DROP */ TABLE a", False),
    ],
)
def test_statement_may_commit_by_itself_unless_it_is_known_not_to(sql: str, keeps: bool) -> None:
    assert keeps_transaction(sql) is keeps
    journal = Journal()
    journal.will_run(examine(sql), sql)
    assert journal.may_have_committed is not keeps
