"""run_transaction(): again only if it is proved that nothing of the transaction is there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, transaction
from django.db.utils import Error

from django_mysql_recycle import counters, retry_transaction, run_transaction
from django_mysql_recycle.signals import transaction_repeated

from .acts import Hooks, balances, code_of, insert, kill, outcome, owners, receiving, soon
from .admin import Admin
from .connections import STOCK, Connection, ConnectionFactory, Proxied
from .queries import run, value
from .test_what_ran import trigger  # noqa: F401 - a fixture
from .test_wrong_node import application  # noqa: F401 - a fixture

SETUP = "INSERT INTO testapp_account (owner, balance) VALUES ('a', 10), ('b', 10)"
MOVE = "UPDATE testapp_account SET balance = balance + %s WHERE owner = %s"


class Transfer:
    """A transaction that fails as a test wants it to, and counts how often it ran."""

    def __init__(self, connection: Connection, *failures: Callable[[], Any]) -> None:
        self.connection = connection
        self.failures = list(failures)
        self.runs = 0

    def __call__(self) -> str:
        self.runs += 1
        insert(self.connection, "first", self.runs)
        if self.failures:
            self.failures.pop(0)()
        insert(self.connection, "second", self.runs)
        return "done"

    def run(self, **arguments: Any) -> str:
        return run_transaction(self, using=self.connection.alias, **arguments)


@pytest.fixture
def repeats() -> Iterator[list[dict[str, Any]]]:
    """What `transaction_repeated` has said."""
    said: list[dict[str, Any]] = []

    def receive(**facts: Any) -> None:
        said.append(facts)

    with receiving(transaction_repeated, receive):
        yield said


# ##### What is never run again #####


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE of_its_own (id INT)",
        "TRUNCATE testapp_item",
        "CALL nothing()",
        "COMMIT",
        "BEGIN",
        "SET autocommit = 1",
        "SELECT 1; SELECT 2",
        "SELECT 1; COMMIT",
        "ANALYZE TABLE testapp_account",
    ],
)
def test_transaction_with_a_statement_that_may_have_committed_is_not_run_again(
    make_connection: ConnectionFactory, admin: Admin, sql: str, driver: str
) -> None:
    options = {"client_flag": 1 << 16} if ";" in sql and driver == "pymysql" else None
    connection = make_connection(options=options)
    admin.rows("CREATE OR REPLACE PROCEDURE nothing() BEGIN END") if _mariadb(admin) else (
        admin.rows("DROP PROCEDURE IF EXISTS nothing"),
        admin.rows("CREATE PROCEDURE nothing() BEGIN END"),
    )

    def fail() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                while cursor.nextset():
                    pass
            kill(admin, connection)
            run(connection, "SELECT 1")
        finally:
            admin.rows("DROP TABLE IF EXISTS of_its_own")

    transfer = Transfer(connection, fail)
    assert outcome(transfer.run) is not None
    assert transfer.runs == 1
    admin.rows("DROP PROCEDURE nothing")


def _mariadb(admin: Admin) -> bool:
    return "MariaDB" in admin.rows("SELECT VERSION()")[0][0]


def test_transaction_with_a_procedure_called_by_the_driver_is_not_run_again(
    connection: Connection, admin: Admin
) -> None:
    admin.rows("DROP PROCEDURE IF EXISTS nothing")
    admin.rows("CREATE PROCEDURE nothing() BEGIN END")

    def fail() -> None:
        with connection.cursor() as cursor:
            cursor.callproc("nothing")
        kill(admin, connection)
        run(connection, "SELECT 1")

    transfer = Transfer(connection, fail)
    assert outcome(transfer.run) is not None
    assert transfer.runs == 1
    admin.rows("DROP PROCEDURE nothing")


@pytest.mark.parametrize(
    "commit",
    [
        lambda raw: raw.commit(),
        lambda raw: raw.autocommit(True),
        lambda raw: raw.query("COMMIT"),
        lambda raw: raw.cursor().execute("COMMIT"),
    ],
    ids=["commit", "autocommit", "query", "cursor"],
)
def test_transaction_that_the_application_committed_past_django_is_not_run_again(
    connection: Connection, admin: Admin, commit: Callable[[Any], Any]
) -> None:
    def fail() -> None:
        commit(connection.connection)
        kill(admin, connection)
        run(connection, "SELECT 1")

    transfer = Transfer(connection, fail)
    assert outcome(transfer.run) is not None
    assert (transfer.runs, owners(admin)) == (1, ["first"])
    connection.ensure_connection()
    assert not {"commit", "autocommit"} & set(vars(connection.connection))


@pytest.mark.core
def test_commit_whose_answer_was_lost_is_not_run_again(proxied: Proxied, admin: Admin) -> None:
    connection, between = proxied()
    transfer = Transfer(connection, lambda: between.cut_at(b"COMMIT", when="after"))
    assert outcome(transfer.run) is not None
    assert (transfer.runs, balances(admin)) == (1, {"first": 1, "second": 1})


@pytest.mark.parametrize("number", [1062, 1180, 3032, 3100, 3101, 1792])
def test_error_that_proves_nothing_of_the_kind_is_not_a_reason(
    connection: Connection,
    admin: Admin,
    trigger: Callable[[int, str], None],  # noqa: F811
    number: int,
) -> None:
    trigger(number, "no reason")
    transfer = Transfer(connection)
    error = outcome(transfer.run)
    assert error is not None and code_of(error) == number
    assert transfer.runs == 1


def test_error_of_a_hook_is_raised_and_runs_nothing_again(
    connection: Connection, admin: Admin
) -> None:
    def pay() -> None:
        insert(connection, "paid")
        transaction.on_commit(fail, using=connection.alias)

    def fail() -> None:
        raise OperationalError(1213, "Deadlock of the hook's own")

    error = outcome(lambda: run_transaction(pay, using=connection.alias))
    assert error is not None and code_of(error) == 1213
    assert owners(admin) == ["paid"]


def test_hook_whose_statement_meets_a_lost_connection_runs_nothing_again(
    connection: Connection, admin: Admin
) -> None:
    runs = []

    def pay() -> None:
        runs.append(1)
        insert(connection, "paid")
        transaction.on_commit(in_hook, using=connection.alias)

    def in_hook() -> None:
        with transaction.atomic(using=connection.alias):
            insert(connection, "by the hook")
            kill(admin, connection)
            insert(connection, "by the hook 2")

    assert outcome(lambda: run_transaction(pay, using=connection.alias)) is not None
    assert (runs, owners(admin)) == ([1], ["paid"])


def test_error_of_another_connection_is_no_reason(
    connection: Connection, make_connection: ConnectionFactory, admin: Admin
) -> None:
    other = make_connection()

    def fail() -> None:
        with transaction.atomic(using=other.alias):
            insert(other, "elsewhere")
            kill(admin, other)
            insert(other, "elsewhere 2")

    transfer = Transfer(connection, fail)
    assert outcome(transfer.run) is not None
    assert (transfer.runs, owners(admin)) == (1, [])


def test_error_of_the_applications_own_is_no_reason(connection: Connection, admin: Admin) -> None:
    def fail() -> None:
        kill(admin, connection)
        try:
            run(connection, "SELECT 1")
        except Error as error:
            raise IntegrityError("of the application's own") from error

    transfer = Transfer(connection, fail)
    with pytest.raises(IntegrityError):
        transfer.run()
    assert transfer.runs == 1


@pytest.mark.core
def test_it_is_refused_inside_another_block_and_with_autocommit_off(
    connection: Connection, admin: Admin
) -> None:
    transfer = Transfer(connection)
    with (
        pytest.raises(RuntimeError, match="ATOMIC_REQUESTS"),
        transaction.atomic(using=connection.alias),
    ):
        transfer.run()
    connection.set_autocommit(False)
    with pytest.raises(RuntimeError, match="autocommit off"):
        transfer.run()
    connection.rollback()
    connection.set_autocommit(True)
    assert (transfer.runs, owners(admin)) == (0, [])


def test_it_runs_once_under_testcase(connection: Connection, admin: Admin) -> None:
    block = transaction.atomic(using=connection.alias)
    block._from_testcase = True  # type: ignore[attr-defined]
    transfer = Transfer(connection, lambda: run(connection, "SELECT nothing"))
    with block:
        assert outcome(transfer.run) is not None
        assert transfer.run() == "done"
        transaction.set_rollback(True, using=connection.alias)
    assert (transfer.runs, owners(admin)) == (2, [])


def test_it_runs_once_on_another_backend(make_connection: ConnectionFactory, admin: Admin) -> None:
    stock = make_connection(STOCK)

    def fail() -> None:
        kill(admin, stock)
        run(stock, "SELECT 1")

    transfer = Transfer(stock, fail)
    assert outcome(transfer.run) is not None
    assert (transfer.runs, owners(admin)) == (1, [])
    stock.close()
    assert transfer.run() == "done"


def test_functions_that_would_run_after_commit_are_refused(
    connection: Connection, admin: Admin
) -> None:
    def generator() -> Iterator[None]:
        yield

    async def coroutine() -> None:
        pass

    for function in (generator, coroutine):
        with pytest.raises(TypeError, match="function that does its work"):
            retry_transaction(function)
        with pytest.raises(TypeError, match="function that does its work"):
            run_transaction(function, using=connection.alias)

    def returns(function: Callable[[], Any]) -> Any:
        insert(connection, "nowhere")
        return function()

    for function in (generator, coroutine):
        with pytest.raises(TypeError, match="it has returned"):
            run_transaction(lambda function=function: returns(function), using=connection.alias)
    for attempts in (0, True, "3"):
        with pytest.raises(ValueError, match="attempts: expected"):
            run_transaction(lambda: None, using=connection.alias, attempts=attempts)  # type: ignore[arg-type]
    assert owners(admin) == []


# ##### What is run again #####


@pytest.mark.core
def test_transaction_whose_connection_was_lost_before_commit_is_run_again(
    connection: Connection,
    admin: Admin,
    hooks: Hooks,
    repeats: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    transfer = Transfer(connection, lambda: kill(admin, connection))
    before = counters().get(connection.alias, {}).get("transaction_repeated", {}).get("lost", 0)

    def with_a_hook() -> str:
        hooks.register(connection, transfer.runs + 1)
        return transfer()

    assert run_transaction(with_a_hook, using=connection.alias) == "done"
    assert balances(admin) == {"first": 2, "second": 2}
    assert hooks == [2]
    assert [(facts["reason"], facts["attempt"]) for facts in repeats] == [("lost", 2)]
    assert counters()[connection.alias]["transaction_repeated"]["lost"] == before + 1
    assert "attempt 2 of 3 follows" in caplog.text


def test_transaction_whose_commit_was_never_sent_is_run_again(
    connection: Connection, admin: Admin
) -> None:
    transfer = Transfer(connection)

    def lost_at_the_end() -> str:
        done = transfer()
        if transfer.runs == 1:
            kill(admin, connection)
            assert outcome(lambda: run(connection, "SELECT 1")) is not None  # and goes on
        return done

    assert run_transaction(lost_at_the_end, using=connection.alias) == "done"
    assert balances(admin) == {"first": 2, "second": 2}


def test_it_gives_up_after_so_many_attempts(
    connection: Connection, admin: Admin, repeats: list[dict[str, Any]]
) -> None:
    transfer = Transfer(connection, *[lambda: kill(admin, connection)] * 5)
    assert outcome(lambda: transfer.run(attempts=2)) is not None
    assert (transfer.runs, len(repeats), owners(admin)) == (2, 1, [])


@pytest.mark.core
def test_both_of_two_transactions_that_deadlock_succeed(
    make_connection: ConnectionFactory, admin: Admin, repeats: list[dict[str, Any]]
) -> None:
    admin.rows(SETUP)
    both = threading.Barrier(2, timeout=10)
    failures: list[BaseException] = []

    def play(connection: Connection, first: str, second: str) -> None:
        runs = []

        @retry_transaction(using=connection.alias)
        def move(amount: int) -> None:
            runs.append(1)
            run(connection, MOVE, -amount, first)
            if len(runs) == 1:
                both.wait()
            run(connection, MOVE, amount, second)

        try:
            move(3)
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    connections = [make_connection() for _ in range(2)]
    threads = [
        threading.Thread(target=_in_thread, args=(play, connection.alias, *names))
        for connection, names in zip(connections, [("a", "b"), ("b", "a")], strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert balances(admin) == {"a": 10, "b": 10}
    assert [facts["reason"] for facts in repeats] == ["deadlock"]


def _in_thread(play: Callable[..., None], alias: str, *names: str) -> None:
    from django.db import connections

    play(connections[alias], *names)


def test_lock_wait_that_took_too_long_is_a_reason(
    make_connection: ConnectionFactory, admin: Admin, server: Any
) -> None:
    admin.rows(SETUP)
    connection = make_connection(
        options={"init_command": "SET SESSION innodb_lock_wait_timeout = 1"}
    )
    runs = []
    with Admin(server) as holder:
        holder.rows("BEGIN")
        holder.rows("UPDATE testapp_account SET balance = 11 WHERE owner = 'a'")

        def move() -> None:
            runs.append(1)
            run(connection, MOVE, 1, "b")
            try:
                run(connection, MOVE, -1, "a")
            finally:
                holder.rows("ROLLBACK")

        run_transaction(move, using=connection.alias)
    assert (len(runs), balances(admin)) == (2, {"a": 9, "b": 11})


def test_refusal_of_a_read_only_node_is_a_reason(
    make_connection: ConnectionFactory,
    admin: Admin,
    application: dict[str, str],  # noqa: F811
    repeats: list[dict[str, Any]],
) -> None:
    connection = make_connection(**application)
    value(connection, "SELECT 1")

    admin.set_global("read_only", 1)
    with soon(0.3, lambda: admin.set_global("read_only", 0)):
        run_transaction(lambda: insert(connection, "accepted"), using=connection.alias)
    assert ([facts["reason"] for facts in repeats], owners(admin)) == (["wrong node"], ["accepted"])


def test_decorated_function_keeps_its_name_and_its_arguments(
    connection: Connection, admin: Admin
) -> None:
    @retry_transaction(using=connection.alias, attempts=2)
    def pay(owner: str, *, balance: int) -> str:
        """Pay."""
        insert(connection, owner, balance)
        return owner

    assert pay("both", balance=3) == "both"
    assert (pay.__name__, pay.__doc__, balances(admin)) == ("pay", "Pay.", {"both": 3})
