"""Against the server's own view of a session: whatever it has is pinned.

Random statements; the server is asked past the backend, through the driver's own cursor.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import Error, transaction

from django_mysql_recycle import session_state
from django_mysql_recycle.session_state import verbs

from .acts import insert
from .admin import Admin
from .connections import Connection, ConnectionFactory
from .queries import run

#: mysqlclient allows several statements in one text by itself; FOUND_ROWS is Django's.
SEVERAL: dict[str, Any] = {"options": {"client_flag": 65536 | 2}, "CONN_MAX_AGE": None}

TABLES = ["a", "b", "`a`", "`elsewhere.a`", "elsewhere.a", "elsewhere.b"]
CALLS = ["GET_LOCK('a', 0)", "GET_LOCK('b', 0)", "RELEASE_LOCK('a')", "RELEASE_LOCK('b')"]
WITH_A_CALL = [
    *("SELECT {}", "DO {}", "SELECT COALESCE({}, 0)", "SELECT {} = 1", "SELECT IF({}, 1, 0)"),
    *("SELECT {}, 1", "SET @x = {}", "SELECT NOT {}", "SELECT {} LIMIT 0", "DO 0 AND {}"),
    *("SELECT {} > 0", "SELECT {} IS NOT NULL", "SELECT CASE {} WHEN 1 THEN 2 END", "DO {}, {}"),
    *("PREPARE q FROM 'DO {}'", "EXECUTE q", "DEALLOCATE PREPARE q", "CALL takes_and_frees()"),
    *("SELECT {} FROM (SELECT 1 UNION SELECT 2) t", "SELECT (SELECT {})", "SELECT {} INTO @x"),
    *("UPDATE testapp_account SET balance = {}", "DO {}; SELECT 1", "SELECT 1; SELECT {}"),
    *("INSERT INTO testapp_account (owner, balance) SELECT 'twice', {}", "SELECT {}, nonsense"),
]
WITH_A_TABLE = [
    *("CREATE TEMPORARY TABLE {} (c INT)", "CREATE TEMPORARY TABLE IF NOT EXISTS {} (c INT)"),
    *("DROP TABLE {}", "DROP TEMPORARY TABLE IF EXISTS {}", "DROP TABLE IF EXISTS b, {}"),
    *("ALTER TABLE {} RENAME b", "ALTER TABLE {} RENAME elsewhere.a", "RENAME TABLE {} TO a"),
]
TRANSACTIONS = [
    *("BEGIN", "START TRANSACTION READ ONLY", "COMMIT", "ROLLBACK", "COMMIT AND CHAIN"),
    *("SET autocommit = 0", "SET autocommit = 1", "SET autocommit = 0; SELECT 1", "atomic"),
    *("SELECT 1; SET autocommit = 0", "BEGIN; SELECT 1", "SELECT 1; COMMIT", "BEGIN; nonsense"),
    # To the analysis these may be several statements, to the server each is one.
    *("SET autocommit = 0 /*!99999 ; SELECT 1 */", "BEGIN /*!99999 ; SELECT 1 */"),
    "IF 1 THEN SET autocommit = 0; DO 1; END IF",
    *("CALL rows_and_off()", "CALL off_and_rows()", "CALL off_and_failure()", "insert"),
    *("XA START 'x'", "XA END 'x'", "XA ROLLBACK 'x'", "SAVEPOINT s", "ROLLBACK TO s"),
]
DATABASES = [
    *(
        "USE elsewhere",
        "use `elsewhere` -- x",
        "USE {here}",
        "USE nowhere",
        "USE elsewhere; SELECT 1",
    ),
    *(
        "SELECT 1; USE {here}",
        "USE elsewhere; nonsense",
        "USE {here}; USE nowhere; USE elsewhere",
    ),
    *("EXECUTE IMMEDIATE 'USE elsewhere'", "EXECUTE IMMEDIATE 'USE {here}'"),
]
OTHERS = ["USE elsewhere", "PREPARE p FROM 'SELECT 1'", "DEALLOCATE PREPARE p", "SET @x = 1"]


@pytest.fixture
def somewhere(admin: Admin) -> Iterator[str]:
    """The default database, with another one beside it and procedures in it."""
    body = {
        "rows_and_off": "SELECT 1; SET autocommit = 0;",
        "off_and_rows": "SET autocommit = 0; SELECT 1;",
        "off_and_failure": "SET autocommit = 0; SIGNAL SQLSTATE '45000';",
        "takes_and_frees": "DO RELEASE_LOCK('a'); DO GET_LOCK('a', 0), RELEASE_LOCK('a');",
    }
    admin.rows("CREATE DATABASE elsewhere")
    for name, code in body.items():
        admin.rows(f"CREATE PROCEDURE {name}() BEGIN {code} END")
    yield str(admin.value("SELECT DATABASE()"))
    admin.rows("DROP DATABASE elsewhere")
    for name in body:
        admin.rows(f"DROP PROCEDURE {name}")


def statements(randomly: random.Random) -> list[str]:
    made = []
    for _ in range(randomly.randint(2, 7)):
        text = randomly.choice(randomly.choice([WITH_A_CALL, WITH_A_TABLE, TRANSACTIONS, OTHERS]))
        what = randomly.choice(CALLS if text in WITH_A_CALL else TABLES)
        if text.startswith("PREPARE q"):
            what = what.replace("'", "''")
        made.append(text.format(what, what))
    return made


def run_all(connection: Connection, texts: list[str]) -> None:
    for text in texts:
        with contextlib.suppress(Error):
            if text == "atomic":
                with transaction.atomic(using=connection.alias):
                    run(connection, "SELECT 1")
            elif text == "insert":
                insert(connection, "another")
            else:
                with connection.cursor() as cursor:
                    cursor.execute(text)


def state_of(connection: Any, here: str) -> Counter[str]:
    """What the session has, by the server's answers. The questions end most of it."""
    with contextlib.closing(connection.connection.cursor()) as cursor:

        def works(sql: str) -> bool:
            try:
                cursor.execute(sql)
            except connection.Database.Error:
                return False
            return not cursor.description or cursor.fetchone()[0] == 1

        found: Counter[str] = Counter()
        found["autocommit off"] += not works("SELECT @@autocommit")
        # Outside of a transaction a savepoint ends at once.
        works("SAVEPOINT probe")
        found["transaction"] += works("ROLLBACK TO probe")
        works("XA END 'x'")
        works("XA ROLLBACK 'x'")
        found["prepared statement"] += works("DEALLOCATE PREPARE p")
        found["user variable"] += works("SELECT @x IS NOT NULL")
        for lock in "ab":
            while works(f"SELECT RELEASE_LOCK('{lock}')"):
                found["named lock"] += 1
        for schema in (here, "elsewhere"):
            for table in ("a", "b", "`elsewhere.a`"):
                found["temporary table"] += works(f"DROP TEMPORARY TABLE {schema}.{table}")
    return +found


@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_session_has_is_pinned(
    make_connection: ConnectionFactory, admin: Admin, somewhere: str, seed: int
) -> None:
    randomly = random.Random(seed)
    for _ in range(50):
        connection = make_connection(**SEVERAL)
        texts = statements(randomly)
        run_all(connection, texts)
        record: Any = connection.guard.connection  # type: ignore[attr-defined]
        # What has failed may have left something, and a lock may be in doubt: the next answer shows.
        if record.status_unknown or record.ledger.pins.doubtful:
            run_all(connection, ["DO 0"])
        kinds = set(record.ledger.pins.kinds())
        if "autocommit off" in kinds:
            kinds.add("transaction")  # each statement begins one
        found = state_of(connection, somewhere)
        assert found.keys() <= kinds, texts
        assert ("named lock" in kinds) <= ("named lock" in found), texts
        connection.close()


#: Verbs that begin something, each of which this backend might not know.
VERBS = ["PREPARE", "CREATE", "BEGIN", "START TRANSACTION", "XA START", "SET", "ALTER", "USE"]


@pytest.fixture(params=range(4))
def unlisted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """As if some of the verbs had been invented since."""
    for verb in random.Random(request.param).sample(VERBS, 3):
        monkeypatch.delitem(verbs._KNOWN, verb)
    session_state._cache.clear()
    yield request.param
    session_state._cache.clear()


def test_whatever_the_session_has_is_pinned_where_a_verb_is_not_known(
    make_connection: ConnectionFactory, admin: Admin, somewhere: str, unlisted: int
) -> None:
    randomly = random.Random(unlisted)
    hidden = 0
    for _ in range(30):
        connection: Any = make_connection(**SEVERAL)
        texts = statements(randomly)
        run_all(connection, texts)
        run_all(connection, ["DO 0"])
        kinds = set(connection.guard.connection.ledger.pins.kinds())
        found = state_of(connection, somewhere)
        assert "unknown state" in kinds or found.keys() <= {*kinds, "transaction"}, texts
        hidden += not found.keys() <= kinds
        connection.close()
    assert hidden


@pytest.mark.parametrize("seed", range(2))
def test_default_database_of_the_session_is_the_remembered_one_or_pins(
    make_connection: ConnectionFactory, somewhere: str, seed: int
) -> None:
    randomly = random.Random(seed)
    for _ in range(30):
        connection: Any = make_connection(**SEVERAL)
        chosen = [randomly.choice(DATABASES) for _ in range(randomly.randint(1, 5))]
        texts = [text.format(here=somewhere) for text in chosen]
        run_all(connection, texts)
        pins = connection.guard.connection.ledger.pins
        with contextlib.closing(connection.connection.cursor()) as cursor:
            cursor.execute("SELECT DATABASE()")
            ((selected,),) = cursor.fetchall()
        assert pins.database_unknown or (pins.database or somewhere) == selected, texts
        # Asked for, it is known.
        assert run(connection, "SELECT DATABASE()") == [(selected,)]
        pins = connection.guard.connection.ledger.pins
        assert (pins.database or somewhere, pins.pinned) == (selected, False), texts
        connection.close()
