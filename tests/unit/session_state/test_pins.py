"""The account that is kept for one connection: all but its locks."""

from __future__ import annotations

import pytest

from django_mysql_recycle.session_state import SessionState, examine

from .account import names, run, server_says

BEGINS_AND_ENDS = [
    ("SELECT GET_LOCK('a', 1)", "SELECT RELEASE_LOCK('a')"),
    ("SELECT GET_LOCK('a', 1)", "DO RELEASE_ALL_LOCKS()"),
    ("LOCK TABLES t READ", "UNLOCK TABLES"),
    ("FLUSH TABLES WITH READ LOCK", "UNLOCK TABLES"),
    ("LOCK INSTANCE FOR BACKUP", "UNLOCK INSTANCE"),
    ("BACKUP STAGE START", "BACKUP STAGE END"),
    ("BACKUP LOCK t", "BACKUP UNLOCK"),
    ("CREATE TEMPORARY TABLE t (a int)", "DROP TABLE t"),
    ("CREATE TEMPORARY TABLE `s`.`t` (a int)", "DROP TABLE IF EXISTS x, s.t"),
    ("CREATE TEMPORARY TABLE `s.t` (a int)", "DROP TABLE `s.t`"),
    ("BEGIN", "COMMIT"),
    ("START TRANSACTION", "ROLLBACK"),
    ("XA START 'x'", "XA ROLLBACK 'x'"),
    ("PREPARE s FROM 'SELECT 1'", "DEALLOCATE PREPARE S"),
    ("HANDLER t OPEN AS a", "HANDLER a CLOSE"),
    ("SET foreign_key_checks = 0", "SET @@foreign_key_checks = 1"),
    ("SET TRANSACTION READ ONLY", "ROLLBACK"),
    ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "BEGIN; SELECT 1; COMMIT"),
]


@pytest.mark.parametrize(("begin", "end"), BEGINS_AND_ENDS)
def test_state_pins_from_its_beginning_to_its_end(
    state: SessionState, begin: str, end: str
) -> None:
    assert not run(state, end).pinned
    assert run(state, begin).pinned
    assert not run(state, end).pinned


@pytest.mark.parametrize(
    ("begin", "no_end"),
    [
        ("DO GET_LOCK('a', 1)", "DO RELEASE_LOCK('b')"),
        # To MariaDB these are two locks. To MySQL they are one, but the server may be MariaDB.
        ("DO GET_LOCK('a', 1)", "DO RELEASE_LOCK('A')"),
        ("DO GET_LOCK('a', 1)", "DO RELEASE_LOCK(a)"),
        ("LOCK INSTANCE FOR BACKUP", "UNLOCK TABLES"),
        ("BACKUP STAGE START", "BACKUP UNLOCK"),
        ("CREATE TEMPORARY TABLE t (a int)", "DROP TABLE T"),
        ("CREATE TEMPORARY TABLE t (a int)", "DROP TABLE s.t"),
        ("CREATE TEMPORARY TABLE `s.t` (a int)", "DROP TABLE IF EXISTS s.t"),
        ("CREATE TEMPORARY TABLE s.t (a int)", "DROP TABLE IF EXISTS `s.t`"),
        ("CREATE TEMPORARY TABLE t (a int)", "ALTER TABLE t RENAME u"),
        ("CREATE TEMPORARY TABLE t (a int)", "USE other; DROP TABLE IF EXISTS t; USE test"),
        ("BEGIN", "COMMIT AND CHAIN"),
        ("BEGIN", "ROLLBACK TO SAVEPOINT s"),
        ("BEGIN", "SET autocommit = 1"),
        ("XA START 'x'", "XA END 'x'"),
        ("PREPARE s FROM 'SELECT 1'", "DEALLOCATE PREPARE t"),
        ("HANDLER t OPEN AS a", "HANDLER t CLOSE"),
        ("SET foreign_key_checks = 0", "SET foreign_key_checks = @old"),
        ("SET sql_mode = ''", "SET sql_mode = DEFAULT"),
        ("SET SESSION TRANSACTION READ ONLY", "COMMIT"),
    ],
)
def test_something_else_does_not_end_it(state: SessionState, begin: str, no_end: str) -> None:
    run(state, begin, no_end)
    state.end_unit_of_work() if not begin.startswith("SET") else None
    assert state.pinned


def test_all_else_is_not_counted(state: SessionState) -> None:
    run(state, "BEGIN", "BEGIN", "CREATE OR REPLACE TEMPORARY TABLE t (a int)")
    run(state, "CREATE OR REPLACE TEMPORARY TABLE t (a int)", "DROP TABLE t", "COMMIT")
    assert not state.pinned


class TestPrepared:
    def test_what_it_begins_pins_once_it_runs(self, state: SessionState) -> None:
        run(state, "PREPARE s FROM 'START TRANSACTION'")
        assert state.kinds() == ("prepared statement",)
        run(state, "EXECUTE S", "DEALLOCATE PREPARE s")
        assert state.kinds() == ("transaction",)

    def test_table_that_it_creates_again_pins_again(self, state: SessionState) -> None:
        run(state, "PREPARE s FROM 'CREATE TEMPORARY TABLE t (a int)'", "EXECUTE s")
        run(state, "DROP TABLE t", "EXECUTE s", "DEALLOCATE PREPARE s")
        assert state.kinds() == ("temporary table",)

    def test_lock_is_not_counted(self, state: SessionState) -> None:
        run(state, "PREPARE s FROM 'SELECT GET_LOCK(''a'', 1)'", "EXECUTE s")
        run(state, "DEALLOCATE PREPARE s", "DO RELEASE_LOCK('a')")
        assert state.pinned

    def test_what_it_ends_does_not_count(self, state: SessionState) -> None:
        run(state, "BEGIN", "PREPARE s FROM 'COMMIT'", "EXECUTE s", "DROP PREPARE s")
        assert state.pinned

    def test_it_may_have_begun_it_before_it_failed(self, state: SessionState) -> None:
        run(state, "PREPARE s FROM 'SELECT GET_LOCK(''a'', 1)'")
        state.apply_begins(examine("EXECUTE s"), None, 0.0)
        assert run(state, "DEALLOCATE PREPARE s").kinds() == ("named lock",)

    def test_another_of_the_same_name_replaces_it(self, state: SessionState) -> None:
        run(state, "PREPARE s FROM 'BEGIN'", "PREPARE s FROM 'SELECT 1'", "EXECUTE s")
        assert state.kinds() == ("prepared statement",)

    def test_unless_it_may_not_have_been_made(self, state: SessionState) -> None:
        run(state, "PREPARE s FROM 'BEGIN'")
        state.apply_begins(examine("SELECT 1; PREPARE s FROM 'SELECT @x'"), None, 0.0)
        run(state, "EXECUTE s")
        assert state.kinds() == ("prepared statement", "transaction", "user variable")

    def test_unknown_one_pins_until_the_unit_of_work_ends(self, state: SessionState) -> None:
        assert run(state, "EXECUTE s").kinds() == ("unknown state",)
        state.end_unit_of_work()
        assert not state.pinned

    def test_unknown_one_that_fails_begins_nothing(self, state: SessionState) -> None:
        state.apply_begins(examine("EXECUTE s"), None, 0.0)
        assert not state.pinned

    @pytest.mark.parametrize(
        "text", ["@v", "CONCAT('SELECT ', 1)", "'SELECT ' 'GET_LOCK(1, 1)'", "'SELECT ' || @x"]
    )
    def test_what_was_not_seen_to_be_prepared_pins_once_it_runs(
        self, state: SessionState, text: str
    ) -> None:
        run(state, f"PREPARE s FROM {text}", "EXECUTE s", "DEALLOCATE PREPARE s")
        assert "unknown state" in state.kinds()
        state.end_unit_of_work()
        assert not state.pinned

    @pytest.mark.parametrize("sql", ["EXECUTE IMMEDIATE %s", "PREPARE s FROM %s"])
    def test_parameter_shows_what_it_begins(self, state: SessionState, sql: str) -> None:
        run(state, sql, args=["DO GET_LOCK('in a parameter', 0)"])
        run(state, *["EXECUTE s", "DROP PREPARE s"] * sql.startswith("PREPARE"))
        state.end_unit_of_work()
        assert state.kinds() == ("named lock",)
        assert names(state) == ["in a parameter"]

    def test_parameter_that_is_not_known_does_not(self, state: SessionState) -> None:
        assert run(state, "EXECUTE IMMEDIATE %s").kinds() == ("unknown state",)
        assert run(state, "EXECUTE IMMEDIATE %(a)s", args={"a": None}).pinned

    @pytest.mark.parametrize(
        "sql",
        [
            "BEGIN NOT ATOMIC PREPARE s FROM 'DO GET_LOCK(''a'', 0)'; END",
            "EXECUTE IMMEDIATE 'BEGIN NOT ATOMIC PREPARE s FROM ''DO GET_LOCK(1, 0)''; END'",
        ],
    )
    def test_one_that_a_compound_statement_has_prepared_is_not_known(
        self, state: SessionState, sql: str
    ) -> None:
        run(state, sql)
        server_says(state, {"a": False})
        assert "unknown state" in run(state, "EXECUTE s").kinds()

    @pytest.mark.parametrize(
        "sql", ["EXECUTE IMMEDIATE '(SELECT 1)'", "PREPARE s FROM '(SELECT 1) UNION (SELECT 2)'"]
    )
    def test_brackets_around_a_query_are_no_verb(self, state: SessionState, sql: str) -> None:
        run(state, sql, *["EXECUTE s", "DROP PREPARE s"] * sql.startswith("PREPARE"))
        assert not state.pinned

    def test_parameter_that_begins_nothing_pins_nothing(self, state: SessionState) -> None:
        assert not run(state, "EXECUTE IMMEDIATE %s", args=["SELECT 1"]).pinned


class TestRenamedTable:
    @pytest.mark.parametrize(
        "rename",
        [
            "ALTER TABLE t RENAME u",
            "ALTER TABLE s.T ADD COLUMN b int, RENAME TO u",
            "RENAME TABLE x TO y, t TO u",
            "BEGIN NOT ATOMIC RENAME TABLE t TO u; END",
        ],
    )
    @pytest.mark.parametrize("name", ["t", "s.t"])
    def test_no_drop_ends_it(self, state: SessionState, name: str, rename: str) -> None:
        run(state, f"CREATE TEMPORARY TABLE {name} (a int)", rename, f"DROP TABLE {name}, u")
        assert state.kinds() == ("temporary table",)

    @pytest.mark.parametrize(
        "rename", ["ALTER TABLE v RENAME w", "ALTER TABLE t RENAME KEY a TO b"]
    )
    def test_another_change_is_none_of_its_own(self, state: SessionState, rename: str) -> None:
        assert not run(state, "CREATE TEMPORARY TABLE t (a int)", rename, "DROP TABLE t").pinned

    def test_it_may_have_been_renamed_before_the_text_failed(self, state: SessionState) -> None:
        run(state, "CREATE TEMPORARY TABLE t (a int)")
        state.apply_begins(examine("ALTER TABLE t RENAME u; nonsense"), None, 0.0)
        assert run(state, "DROP TABLE t").pinned


class TestFailedStatement:
    """It failed, and the connection is alive."""

    def fails(self, state: SessionState, sql: str) -> tuple[str, ...]:
        state.apply_begins(examine(sql), None, 0.0)
        return state.kinds()

    @pytest.mark.parametrize(
        "sql",
        [
            "BEGIN",
            "CREATE TEMPORARY TABLE t (a int)",
            "SET sql_mode = 'nonsense'",
            "SELECT GET_LOCK('a', 1)",
            "LOCK TABLES nosuch READ",
        ],
    )
    def test_a_single_one_has_changed_nothing(self, state: SessionState, sql: str) -> None:
        assert self.fails(state, sql) == ()

    def test_what_its_expressions_did_on_the_way_stays(self, state: SessionState) -> None:
        sql = "INSERT INTO t SELECT GET_LOCK('a', 1), @x := 1"
        assert self.fails(state, sql) == ("named lock", "user variable")

    def test_the_first_of_several_may_have_run(self, state: SessionState) -> None:
        assert self.fails(state, "BEGIN; nonsense") == ("transaction",)

    def test_so_may_part_of_a_compound_statement(self, state: SessionState) -> None:
        assert self.fails(state, "BEGIN NOT ATOMIC START TRANSACTION; END") == ("transaction",)

    def test_nothing_counts_as_ended(self, state: SessionState) -> None:
        run(state, "BEGIN")
        assert self.fails(state, "COMMIT; nonsense") == ("transaction",)


class TestDefaultDatabase:
    def test_its_name_is_remembered_and_does_not_pin(self, state: SessionState) -> None:
        run(state, "USE `a``b`")
        assert (state.database, state.pinned, state.database_unknown) == ("a`b", False, False)

    def test_it_goes_on_when_other_state_is_lost_with_the_connection(
        self, state: SessionState
    ) -> None:
        run(state, "USE a", "DO GET_LOCK('n', 0)")
        assert (state.lost().database, state.lost().pinned) == ("a", False)

    @pytest.mark.parametrize(
        "sql",
        [
            "EXECUTE IMMEDIATE 'USE a'",
            "PREPARE p FROM 'USE a'; EXECUTE p; DEALLOCATE PREPARE p",
            "BEGIN NOT ATOMIC IF 1 THEN USE a; END IF; END",
            "USE %s",
            "USE `%s`",
        ],
    )
    def test_it_pins_where_the_text_does_not_show_it(self, state: SessionState, sql: str) -> None:
        run(state, "USE b").apply(examine(sql), ["c"], 0.0)
        assert (state.database, state.database_unknown) == ("b", True)
        assert state.kinds() == ("default database",)
        assert state.lost().database is None
        state.database_is("a")
        assert (state.database, state.pinned) == ("a", False)

    def test_it_pins_where_an_earlier_statement_of_a_failed_text_may_have_run(
        self, state: SessionState
    ) -> None:
        state.apply_begins(examine("USE a; nonsense"), None, 0.0)
        assert state.database_unknown
        state.database_is(None)  # dropped since: to select it again shall fail
        assert (state.database, state.pinned) == ("a", False)

    def test_failure_of_use_alone_changes_nothing(self, state: SessionState) -> None:
        run(state, "USE a").apply_begins(examine("USE b"), None, 0.0)
        assert (state.database, state.pinned) == ("a", False)


class TestUnitOfWork:
    def test_its_end_ends_variables(self, state: SessionState) -> None:
        run(state, "SET sql_mode = ''", "SET @x = 1", "USE other", "SELECT @y")
        state.end_unit_of_work()
        assert not state.pinned

    @pytest.mark.parametrize(
        "begin", [begin for begin, _ in BEGINS_AND_ENDS if not begin.startswith("SET")]
    )
    def test_all_else_goes_on(self, state: SessionState, begin: str) -> None:
        run(state, begin, "SET sql_mode = ''").end_unit_of_work()
        assert len(state.kinds()) == 1

    def test_autocommit_and_what_is_held_by_hand_go_on(self, state: SessionState) -> None:
        state.autocommit_seen(True, 0.0)
        state.hold("", 0.0)
        state.end_unit_of_work()
        assert state.kinds() == ("autocommit off", "held by hand")


def test_django_ends_a_transaction_that_sql_began(state: SessionState) -> None:
    run(state, "SET TRANSACTION READ ONLY", "BEGIN", "DO GET_LOCK('a', 1)").transaction_ended()
    assert state.kinds() == ("named lock",)


def test_autocommit_off_pins_as_long_as_the_connection_shows_it(state: SessionState) -> None:
    state.autocommit_seen(False, 0.0)
    assert not state.pinned
    state.autocommit_seen(True, 0.0)
    state.autocommit_seen(True, 1.0)
    assert state.describe(2.0) == "autocommit switched off 2 s ago"
    state.autocommit_seen(False, 2.0)
    assert not state.pinned


def test_each_hold_ends_with_its_own_release(state: SessionState) -> None:
    one, other = state.hold("a", 0.0), state.hold("a", 0.0)
    state.release(one)
    state.release(one)
    assert state.pinned
    state.release(SessionState().hold("a", 0.0))
    assert state.pinned
    state.release(other)
    assert not state.pinned


class TestCopy:
    def test_it_goes_its_own_way(self, state: SessionState) -> None:
        run(state, "DO GET_LOCK('a', 1)", "DO GET_LOCK('a', 1)", "BEGIN")
        copied = state.copy()
        run(copied, "DO RELEASE_LOCK('a')", "COMMIT", "SELECT @x")
        assert state.kinds() == ("named lock", "transaction")
        run(state, "DO RELEASE_LOCK('a')", "ROLLBACK")
        assert state.pinned
        assert copied.kinds() == ("named lock", "user variable")
        assert not run(state, "DO RELEASE_LOCK('a')").pinned
        assert copied.pinned

    def test_it_is_pinned_by_what_pinned_the_original(self, state: SessionState) -> None:
        assert not state.copy().pinned
        assert run(state, "BEGIN", now=1.0).copy().describe(3.0) == state.describe(3.0)

    def test_what_is_held_by_hand_is_released_in_both(self, state: SessionState) -> None:
        token = state.hold("", 0.0)
        copied = state.copy()
        copied.release(token)
        assert not copied.pinned
        assert state.pinned
        state.release(token)
        assert not state.pinned


class TestDescribe:
    @pytest.mark.parametrize(
        ("sql", "args", "message"),
        [
            ("DO GET_LOCK('it''s', 1)", None, 'named lock "it\'s" taken 42 s ago'),
            ("DO GET_LOCK(%s, 1)", ["leader"], "named lock 'leader' taken 42 s ago"),
            ("DO GET_LOCK(CONCAT(%s), 1)", ["secret"], "named lock concat(%s) taken 42 s ago"),
            ("DO GET_LOCK(%s, 1)", None, "named lock '%s' taken 42 s ago"),
            (
                "DO GET_LOCK('" + "a" * 200 + "', 1)",
                None,
                f"named lock '{'a' * 80}...' taken 42 s ago",
            ),
            ("LOCK TABLES t READ", None, "table lock (tables) taken 42 s ago"),
            ("CREATE TEMPORARY TABLE s.t (a int)", None, "temporary table `s.t` created 42 s ago"),
            ("BEGIN", None, "transaction begun by SQL 42 s ago"),
            ("PREPARE s FROM 'SELECT 1'", None, "prepared statement `s` made 42 s ago"),
            ("HANDLER t OPEN", None, "handler `t` opened 42 s ago"),
            ("SET sql_mode = 'secret'", None, "session variable sql_mode set 42 s ago"),
            ("SET @x = 'secret'", None, "user variable @x used 42 s ago"),
        ],
    )
    def test_names_and_since_when_but_no_values(
        self, state: SessionState, sql: str, args: object, message: str
    ) -> None:
        assert run(state, sql, args=args, now=100.0).describe(141.7) == message

    def test_first_taken_counts(self, state: SessionState) -> None:
        run(state, "DO GET_LOCK('a', 1)", now=1.0)
        run(state, "DO GET_LOCK('a', 1)", now=9.0)
        assert state.describe(10.0) == "named lock 'a' taken 2 times, first 9 s ago"

    def test_by_hand_with_a_reason_or_without(self, state: SessionState) -> None:
        state.hold("leader election", 0.0)
        state.hold("held by hand", 0.0)
        assert (
            state.describe(3.0)
            == "pinned by hand (leader election) 3 s ago, pinned by hand 3 s ago"
        )

    def test_what_others_wait_for_comes_first_and_the_list_is_short(
        self, state: SessionState
    ) -> None:
        run(state, *(f"SET @v{number} = 1" for number in range(6)), "DO GET_LOCK('a', 1)")
        message = state.describe(0.0)
        assert message.startswith("named lock 'a' taken 0 s ago, user variable @v0 used 0 s ago, ")
        assert message.endswith("@v3 used 0 s ago, and 2 more")

    def test_clock_that_went_back_is_no_negative_time(self, state: SessionState) -> None:
        assert run(state, "BEGIN", now=9.0).describe(1.0) == "transaction begun by SQL 0 s ago"

    def test_repr_shows_the_kinds(self, state: SessionState) -> None:
        assert repr(state) == "<SessionState: not pinned>"
        assert (
            repr(run(state, "BEGIN", "SELECT @x")) == "<SessionState: transaction, user variable>"
        )
