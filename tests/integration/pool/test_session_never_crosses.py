"""Whatever a borrower does with its session, the next one finds the session of a new connection.

Random borrowers do random things; then the server is asked past the backend, by the driver's own
cursor. RECYCLE_TEST_WALKS is the number of walks of each seed; the default takes a few seconds.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import Error, transaction
from django.db.backends.signals import connection_created

from ..acts import receiving, rest
from ..admin import Admin
from ..connections import ConnectionFactory
from ..queries import run
from .borrowers import in_thread
from .conftest import Pooled

WALKS = int(os.environ.get("RECYCLE_TEST_WALKS", "12"))

#: mysqlclient allows several statements in one text by itself; FOUND_ROWS is Django's.
SEVERAL: dict[str, Any] = {"client_flag": 65536 | 2}

ORDINARY = [
    "SELECT 1",
    "INSERT INTO testapp_account (owner, balance) VALUES ('x', 1)",
    "INSERT INTO testapp_account (owner, balance) SELECT 'y', COUNT(*) FROM testapp_account",
    "UPDATE testapp_account SET balance = balance + 1",
    "DELETE FROM testapp_account WHERE balance > 3",
    "SELECT * FROM testapp_account",
    "SELECT * FROM testapp_account FOR UPDATE",
    "SELECT 1 / 0",
    "SELECT nonsense",
    "SHOW TABLES",
    "SHOW WARNINGS",
    "DO 0",
    "DO LAST_INSERT_ID(77)",
    "EXPLAIN SELECT 1",
    "ANALYZE TABLE testapp_account",
    "CHECK TABLE testapp_account",
    "FLUSH STATUS",
    "CREATE TABLE IF NOT EXISTS walked (c INT)",
    "TRUNCATE TABLE walked",
    "DROP TABLE IF EXISTS walked",
    "VALUES ROW(1)",
    "WITH t AS (SELECT 1) SELECT * FROM t",
    "HELP 'SELECT'",
    "GRANT SELECT ON *.* TO CURRENT_USER()",
]
STATE = [
    "SET @tenant = 'alice'",
    "SELECT 1 INTO @tenant",
    "SELECT @tenant := 2",
    "SET SESSION sql_mode = ''",
    "SET sql_mode = 'ANSI'",
    "SET SESSION wait_timeout = 77",
    "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET TRANSACTION READ ONLY",
    "SET NAMES latin1",
    "SET CHARACTER SET latin1",
    "SET time_zone = '+03:00'",
    "SET foreign_key_checks = 0, @tenant = 1",
    "SET ROLE NONE",
    "SET ROLE walker",
    "SET DEFAULT ROLE NONE",
    "SET timestamp = 5",
    "SET insert_id = 5",
    "SET last_insert_id = 5",
    "SET LOCAL max_join_size = 1000000",
    "SET @@sort_buffer_size = 65536",
    "SET STATEMENT sort_buffer_size = 65536 FOR SELECT 1",
    "SELECT /*+ SET_VAR(sort_buffer_size = 65536) */ 1",
    "SET autocommit = 0",
    "SET autocommit = 1",
    "SET @@autocommit = 0; SELECT 1",
    "USE elsewhere",
    "USE {here}",
    "SELECT 1; USE elsewhere",
    "SELECT 1; SET @tenant = 3",
    "SET @tenant = (SELECT nonsense)",
    "SET @tenant = 1; SELECT nonsense",
    "CREATE TEMPORARY TABLE a (c INT)",
    "CREATE TEMPORARY TABLE elsewhere.a (c INT)",
    "CREATE TEMPORARY TABLE a SELECT 1 AS c",
    "DROP TABLE a",
    "DROP TEMPORARY TABLE IF EXISTS a",
    "ALTER TABLE a RENAME b",
    "SELECT GET_LOCK('a', 0)",
    "SELECT GET_LOCK('a', 0), GET_LOCK('b', 0)",
    "SELECT RELEASE_LOCK('a')",
    "DO RELEASE_ALL_LOCKS()",
    "INSERT INTO testapp_account (owner, balance) SELECT 'z', GET_LOCK('b', 0)",
    "UPDATE testapp_account SET balance = GET_LOCK('a', 0)",
    "LOCK TABLES testapp_account READ",
    "LOCK TABLES testapp_account WRITE, testapp_account AS t READ",
    "UNLOCK TABLES",
    "FLUSH TABLES testapp_account WITH READ LOCK",
    "PREPARE p FROM 'SELECT 1'",
    "PREPARE p FROM 'SET @tenant = 9'",
    "EXECUTE p",
    "DEALLOCATE PREPARE p",
    "EXECUTE IMMEDIATE 'SET @tenant = 4'",
    "HANDLER testapp_account OPEN",
    "HANDLER testapp_account CLOSE",
    "BEGIN",
    "BEGIN; INSERT INTO testapp_account (owner, balance) VALUES ('open', 1)",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT",
    "START TRANSACTION READ ONLY",
    "SAVEPOINT s",
    "COMMIT",
    "ROLLBACK",
    "COMMIT AND CHAIN",
    "ROLLBACK AND CHAIN",
    "COMMIT RELEASE",
    "XA START 'x'",
    "XA END 'x'",
    "XA ROLLBACK 'x'",
    "CALL sets()",
    "CALL switches_off()",
    "CALL two_results()",
    "DO sets_in_a_function()",
    "SELECT sets_in_a_function()",
    "INSERT INTO triggered (c) VALUES (1)",
    "/*!40000 SET @tenant = 5 */",
    "/*!40000 SET SESSION sql_mode = '' */",
    "  /* x */ SET /* y */ SESSION /* z */ sql_mode = ''",
    "IF 1 THEN SET @tenant = 6; END IF",
    "BEGIN NOT ATOMIC SET @tenant = 7; END",
]
#: Methods of the driver's own object, and attributes of it.
DIRECT = [
    "raw.cursor().execute('SET @tenant = 1')",
    "raw.cursor().execute('SELECT 1')",
    "raw.cursor().execute('SET autocommit = 0')",
    "raw.cursor().execute('BEGIN')",
    "raw.cursor().execute('USE elsewhere')",
    "raw.cursor().execute(\"SELECT GET_LOCK('a', 0)\")",
    "raw.cursor().execute('CREATE TEMPORARY TABLE a (c INT)')",
    "raw.cursor().execute('PREPARE p FROM \"SELECT 1\"')",
    "raw.cursor().executemany('SET @tenant = %s', [(1,), (2,)])",
    "raw.cursor().callproc('sets')",
    "raw.autocommit(False)",
    "raw.autocommit(True)",
    "raw.begin()",
    "raw.commit()",
    "raw.rollback()",
    "raw.select_db('elsewhere')",
    "raw.query('SET @tenant = 8')",
    "raw.query('SET SESSION sql_mode = \"\"')",
    "raw.query('BEGIN')",
    "raw.query('SELECT 1')",
    "raw.query(b'SET @tenant = 8')",
    "raw.set_character_set('latin1')",
    "raw.set_charset('latin1')",
    "raw.set_sql_mode('')",
    "raw.change_user({user!r}, {password!r}, {here!r})",
    "raw.set_server_option(1)",
    "raw.ping(True)",
    "raw.ping()",
    "raw.close()",
    "raw.kill(raw.thread_id())",
    "raw.show_warnings()",
    "raw.connect()",
    "raw.send_query(b'SET @tenant = 1')",
    "setattr(raw, 'cursorclass', unbuffered)",
    "setattr(raw, 'encoders', dict())",
    "raw.encoders.update(dict([(complex, str)]))",
    "raw.encoders.update(dict([(str, repr)]))",
    "raw.decoders.update(dict([(8, str)]))",
    "raw.converter.update(dict([(8, str)]))",
    "setattr(raw, 'decoders', dict())",
    "setattr(raw, 'encoding', 'latin1')",
]
#: What is set on Django's wrapper.
DJANGO = [
    "connection.set_autocommit(False)",
    "connection.set_autocommit(True)",
    "connection.commit()",
    "connection.rollback()",
    "connection.close()",
    "connection.is_usable()",
    "connection.check_constraints()",
    "connection.disable_constraint_checking()",
    "connection.enable_constraint_checking()",
    "connection.savepoint()",
    "connection.close_if_unusable_or_obsolete()",
    "connection.inc_thread_sharing()",
    "connection.dec_thread_sharing()",
    "connection.introspection.table_names()",
    "connection.cursor().callproc('sets')",
    "connection.cursor().callproc('two_results')",
    "connection.cursor().callproc('with_arguments', [1])",
    "connection.cursor().executemany('SET @tenant = %s', [(1,), (2,)])",
]
#: What lives as long as a server or as a statement.
VOLATILE = {
    *("timestamp", "pseudo_thread_id", "rand_seed1", "rand_seed2", "insert_id", "statement_id"),
    *("error_count", "warning_count"),
    # A statement that reads these on a connection that was used gets a new one.
    *("identity", "last_insert_id", "last_gtid"),
    # Of the server, and changing.
    *("gtid_binlog_pos", "gtid_current_pos", "gtid_binlog_state", "gtid_executed"),
    *("innodb_thread_sleep_delay", "original_commit_timestamp"),
}


@pytest.fixture
def somewhere(admin: Admin) -> Iterator[str]:
    """The default database, with another one beside it, procedures in it and a role."""
    made = {
        "PROCEDURE sets()": "SET @tenant = 'procedure'; SET SESSION sql_mode = '';",
        "PROCEDURE switches_off()": "SET autocommit = 0; INSERT INTO triggered (c) VALUES (2);",
        "PROCEDURE two_results()": "SELECT 1; SELECT 2; SET @tenant = 'late';",
        "PROCEDURE with_arguments(a INT)": "SELECT a;",
        "FUNCTION sets_in_a_function() RETURNS INT": "SET @hidden = 'function'; RETURN 1;",
    }
    admin.rows("CREATE DATABASE elsewhere")
    admin.rows("CREATE TABLE triggered (c INT)")
    admin.set_global("log_bin_trust_function_creators", 1)
    # A borrower that another one keeps out by a lock gets an error.
    admin.set_global("lock_wait_timeout", 1)
    admin.set_global("innodb_lock_wait_timeout", 1)
    for name, code in made.items():
        admin.rows(f"CREATE {name} BEGIN {code} END")
    admin.rows(
        "CREATE TRIGGER quietly BEFORE INSERT ON triggered FOR EACH ROW SET @by_trigger = NEW.c"
    )
    admin.rows("CREATE ROLE walker")
    user, _, host = admin.value("SELECT CURRENT_USER()").partition("@")
    admin.rows(f"GRANT walker TO '{user}'@'{host}'")
    yield str(admin.value("SELECT DATABASE()"))
    admin.rows("DROP ROLE walker")
    for name in made:
        admin.rows(f"DROP {name.partition('(')[0]}")
    admin.rows("DROP TABLE triggered")
    admin.rows("DROP TABLE IF EXISTS walked, a, b")
    admin.rows("DROP DATABASE elsewhere")


def found_in(connection: Any) -> dict[str, Any]:
    """What the session has, by the answers of the server to the driver's own cursor."""
    connection.ensure_connection()
    rest(connection)  # a borrower may have had the server end it a moment ago
    run(connection, "SELECT 1")
    raw = connection.connection
    found: dict[str, Any] = {
        "driver": (raw.cursorclass, raw.get_autocommit(), raw.character_set_name()),
        "settings": connection.guard.driver.settings_of(raw)[:2],
        "in an atomic block": connection.in_atomic_block,
        "autocommit": connection.autocommit,
    }
    with contextlib.closing(raw.cursor()) as cursor:

        def answer(sql: str) -> Any:
            try:
                cursor.execute(sql)
            except connection.Database.Error as error:
                return error.args[0]
            answered = cursor.fetchone() if cursor.description else "done"
            while cursor.description and cursor.nextset():
                pass
            return answered

        trx = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = "
        found["open transaction"] = answer(trx + "CONNECTION_ID()")
        for sql in (
            "SELECT DATABASE(), CURRENT_ROLE(), @@autocommit, CURRENT_USER()",
            "SELECT @tenant, @_with_arguments_0",
            "SELECT IS_USED_LOCK('a') <=> CONNECTION_ID(), IS_USED_LOCK('b') <=> CONNECTION_ID()",
            "SELECT 1 FROM a",
            "SELECT 1 FROM b",
            "SELECT 1 FROM elsewhere.a",
            "EXECUTE p",
            "HANDLER testapp_account READ FIRST",
            # An error of its own inside of XA, of READ ONLY and of LOCK TABLES.
            "INSERT INTO triggered (c) VALUES (3)",
            "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = "
            "CONNECTION_ID()",
            "SELECT 'ß' = 'ss', \"x\", 'a' 'b'",
            "SAVEPOINT probe",
            "ROLLBACK TO probe",
            "SELECT 1; SELECT 2",
        ):
            found[sql] = answer(sql)
        cursor.execute("SHOW SESSION VARIABLES")
        found.update((k, v) for k, v in cursor.fetchall() if k not in VOLATILE)
    return found


class Walk:
    """What one borrower does, step by step."""

    def __init__(self, randomly: random.Random, names: dict[str, Any]) -> None:
        self.randomly = randomly
        self.names = names
        self.did: list[str] = []

    def steps(self) -> list[tuple[str, str]]:
        kinds = [ORDINARY, ORDINARY, STATE, STATE, DIRECT, DJANGO]
        return [self._step(self.randomly.choice(kinds)) for _ in range(self.randomly.randint(1, 4))]

    def _step(self, kind: list[str]) -> tuple[str, str]:
        text = self.randomly.choice(kind)
        if kind in (DIRECT, DJANGO):
            return "python", text
        how = ["cursor", "cursor", "with a cursor", "atomic", "failing atomic", "not fetched"]
        return self.randomly.choice(how), text.replace("{here}", self.names["here"])

    def borrow(self, connection: Any) -> None:
        """One borrowing, with its end."""
        cursors: list[Any] = []
        for how, text in self.steps():
            self.did.append(f"{how}: {text}")
            with contextlib.suppress(Exception):
                self._do(connection, how, text, cursors)
        end = self.randomly.choice(["close", "close", "request", "request", "nothing", "pinned"])
        self.did.append(end)
        with contextlib.suppress(Error, transaction.TransactionManagementError):
            if end == "request":
                connection.close_if_unusable_or_obsolete()
            elif end == "close":
                connection.close()
            elif connection.connection is not None:
                rest(connection, 5)
        while connection._thread_sharing_count:
            connection.dec_thread_sharing()
        for cursor in cursors:
            if self.randomly.random() < 0.5:
                with contextlib.suppress(Exception):
                    cursor.close()

    def _do(self, connection: Any, how: str, text: str, cursors: list[Any]) -> None:
        if how == "python":
            connection.ensure_connection()
            names = {
                "connection": connection,
                "raw": connection.connection,
                "unbuffered": connection.guard.driver.unbuffered,
            }
            text = text.format(**self.names) if "{" in text else text
            eval(text, names)
        elif how == "cursor":
            run(connection, text)
        elif how == "with a cursor":
            cursors.append(connection.cursor())
            cursors[-1].execute(text)
        elif how == "not fetched":
            connection.cursor().execute(text)
        else:
            with transaction.atomic(using=connection.alias):
                run(connection, text)
                if how == "failing atomic":
                    raise ValueError


# PyMySQL's connect() on an open connection leaves the former socket to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("seed", range(3))
def test_the_next_borrower_finds_a_new_session(
    pooled: Pooled,
    make_connection: ConnectionFactory,
    admin: Admin,
    somewhere: str,
    seed: int,
) -> None:
    new = make_connection(options=SEVERAL)
    expected = found_in(new)
    settings = new.settings_dict
    names = {"here": somewhere, "user": settings["USER"], "password": settings["PASSWORD"]}
    randomly = random.Random(seed)
    for number in range(WALKS):
        connection = pooled(options=SEVERAL, max_size=1, timeout=10)
        walk = Walk(random.Random(f"{seed}/{number}"), names)
        receivers = randomly.random() < 0.3
        with contextlib.ExitStack() as stack:
            if receivers:
                texts = randomly.sample([*ORDINARY[:8], *STATE], 2)
                walk.did.append(f"receivers: {texts}")

                def receiver(connection: Any, texts: list[str] = texts, **_: Any) -> None:
                    for text in texts:
                        with contextlib.suppress(Exception):
                            run(connection, text)

                stack.enter_context(receiving(connection_created, receiver))
            for _ in range(randomly.randint(1, 4)):
                walk.did.append("borrow")
                in_thread(connection.alias, walk.borrow)
        found = in_thread(connection.alias, found_in, closes=True)
        differences = {k: (v, found.get(k)) for k, v in expected.items() if found.get(k) != v}
        assert not differences, f"{walk.did} (walk {seed}/{number}): {differences}"
        statistics = connection.pool_stats()
        assert statistics["pool_size"] == statistics["pool_available"], walk.did
        admin.rows("DROP TABLE IF EXISTS walked, a, b, elsewhere.a")
        admin.rows("DELETE FROM testapp_account")
