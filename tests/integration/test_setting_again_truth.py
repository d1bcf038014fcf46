"""Random rounds that set their session up, against the server's own view."""

from __future__ import annotations

import random
from typing import Any

import pytest
from django.db import transaction

from django_mysql_recycle import SessionStateLost

from .acts import insert, kill, outcome, session_id
from .admin import Admin
from .connections import Connection, ConnectionFactory
from .queries import run, value
from .test_setting_again import SEVERAL, do


class Session:
    """What the application has set since its last SessionStateLost."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.variables: dict[str, int] = {}
        self.limits: dict[str, int] = {}
        self.tables: set[str] = set()

    def run(self, connection: Connection, randomly: random.Random) -> str:
        number = randomly.randrange(100, 200)
        name = randomly.choice("abc")
        limit = randomly.choice(["sql_select_limit", "group_concat_max_len", "max_sort_length"])
        table = randomly.choice("tu")
        choice = randomly.randrange(10)
        if choice == 0:
            do(connection, f"SET @{name} = {number}")
            self.variables[name] = number
        elif choice == 1:
            do(connection, f"SET SESSION {limit} = {number}, @{name} = {number}")
            self.limits[limit] = self.variables[name] = number
        elif choice == 2:
            do(connection, f"SET @@{limit} = {number}")
            self.limits[limit] = number
        elif choice == 3:
            do(connection, f"DROP TEMPORARY TABLE IF EXISTS {table}")
            self.tables.discard(table)
        elif choice == 4:
            do(
                connection,
                f"DROP TEMPORARY TABLE IF EXISTS {table}",
                f"CREATE TEMPORARY TABLE {table} (a INT)",
            )
            self.tables.add(table)
        elif choice == 5:
            do(connection, f"SET @{name} = @a + 1")
            before = self.variables.get("a")
            if before is None:
                self.variables.pop(name, None)
            else:
                self.variables[name] = before + 1
        elif choice == 6:
            do(connection, f"SET @{name} = {number}; SET SESSION {limit} = {number}")
            self.variables[name] = self.limits[limit] = number
        elif choice == 7:
            do(connection, f"SELECT @{name} := {number}")
            self.variables[name] = number
        elif choice == 8:
            insert(connection, f"{randomly.random()}")
        else:
            with transaction.atomic(using=connection.alias):
                insert(connection, f"{randomly.random()}")
        return str(choice)

    def check(self, connection: Any, defaults: dict[str, int], done: list[str]) -> None:
        """Ask past the backend, right after a statement that is no mere SET has succeeded."""
        cursor = connection.connection.cursor()
        try:
            for name in "abc":
                cursor.execute(f"SELECT @{name}")
                assert cursor.fetchone()[0] == self.variables.get(name), (name, done)
            for name, default in defaults.items():
                cursor.execute(f"SELECT @@{name}")
                assert cursor.fetchone()[0] == self.limits.get(name, default), (name, done)
            for table in "tu":
                try:
                    cursor.execute(f"SELECT COUNT(*) FROM {table}")
                    there = True
                except connection.Database.Error:
                    there = False
                assert there is (table in self.tables), (table, done)
        finally:
            cursor.close()


@pytest.mark.parametrize("seed", range(6))
def test_no_statement_runs_in_a_session_other_than_the_application_has_set(
    make_connection: ConnectionFactory, admin: Admin, seed: int
) -> None:
    randomly = random.Random(seed)
    connection = make_connection(**SEVERAL)
    session = Session()
    defaults = {
        name: value(connection, f"SELECT @@{name}")
        for name in ("sql_select_limit", "group_concat_max_len", "max_sort_length")
    }
    done: list[str] = []
    raised = recycled = 0
    for _ in range(250):
        before = session_id(connection)
        if randomly.random() < 0.25:
            kill(admin, connection)
        try:
            done.append(session.run(connection, randomly))
        except SessionStateLost:
            session.clear()
            raised += 1
            done.append("lost")
            # What the statements that only set have set since is of no use to anybody, and may
            # have been lost in its turn.
            connection.close()
            outcome(lambda: run(connection, "SELECT 1"))
            run(connection, "SELECT 1")
            continue
        recycled += session_id(connection) != before
        if done[-1] in "89":  # an INSERT: anything may depend on the session
            session.check(connection, defaults, done)
    assert raised > 5 and recycled > 5
