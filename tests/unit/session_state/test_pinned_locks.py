"""Which locks are held, in the account that is kept for one connection."""

from __future__ import annotations

import pytest

from django_mysql_recycle.session_state import SessionState, examine, pins

from .account import answer, names, run, server_says


def test_lock_is_held_until_it_is_released_as_often_as_taken(state: SessionState) -> None:
    run(state, "DO GET_LOCK('a', 1)", "SELECT GET_LOCK('a', 1)", "DO RELEASE_LOCK('a')")
    assert state.pinned
    assert not run(state, "DO RELEASE_LOCK('a')").pinned


@pytest.mark.parametrize(
    ("sql", "args", "released_by", "released_args"),
    [
        ("DO GET_LOCK(%s, %s)", ("a", 1), "DO RELEASE_LOCK(%s)", ["a"]),
        ("DO GET_LOCK(%s, %s)", ("a", 1), "DO RELEASE_LOCK('a')", None),
        ("DO GET_LOCK(%s, %s)", (b"a", 1), "DO RELEASE_LOCK(%(n)s)", {"n": "a"}),
        ("DO GET_LOCK(%s, 1)", "a", "DO RELEASE_LOCK('a')", ()),
        ("DO GET_LOCK(%s, 1)", (7,), "DO RELEASE_LOCK('7')", ()),
        ("DO GET_LOCK(CONCAT('x', %s), %s)", ("a", 1), "DO RELEASE_LOCK( concat('x',%s) )", ["a"]),
        ("DO GET_LOCK(%s, 1)", None, "DO RELEASE_LOCK(%s)", None),
    ],
)
def test_name_of_a_lock_may_be_a_parameter(
    state: SessionState, sql: str, args: object, released_by: str, released_args: object
) -> None:
    assert run(state, sql, args=args).pinned
    assert not run(state, released_by, args=released_args).pinned


@pytest.mark.parametrize(
    ("released_by", "args"),
    [
        ("DO RELEASE_LOCK(%s)", ["b"]),
        ("DO RELEASE_LOCK(%s)", []),
        ("SELECT %s, RELEASE_LOCK(%s)", "a"),
        ("DO RELEASE_LOCK(%(n)s)", {}),
        ("DO RELEASE_LOCK(%(n)s)", ["a"]),
        ("DO RELEASE_LOCK(CONCAT(%s))", ["a"]),
    ],
)
def test_another_parameter_is_another_lock(
    state: SessionState, released_by: str, args: object
) -> None:
    run(state, "DO GET_LOCK(%s, 1)", args=["a"])
    assert run(state, released_by, args=args).pinned


@pytest.mark.parametrize("value", [0, None, "0", b"0", "", object()])
def test_lock_that_was_not_granted_does_not_pin(state: SessionState, value: object) -> None:
    assert not answer(state, "SELECT GET_LOCK('a', 1)", value)


@pytest.mark.parametrize("value", [1, "1", b"1", True])
def test_lock_that_was_granted_pins_until_it_is_known_to_be_released(
    state: SessionState, value: object
) -> None:
    assert answer(state, "SELECT GET_LOCK('a', 1)", value)
    assert answer(state, "SELECT RELEASE_LOCK('a')", 0)
    assert not answer(state, "SELECT RELEASE_LOCK('a')", value)


@pytest.mark.parametrize("sql", ["SELECT RELEASE_LOCK(%s)", "DO RELEASE_LOCK(CONCAT(%s))"])
def test_server_is_asked_which_lock_is_held_that_may_be_named_otherwise(
    state: SessionState, sql: str
) -> None:
    run(state, "BEGIN", "DO GET_LOCK(%s, 1)", args=["Leader"])
    if sql.startswith("DO"):
        run(state, sql, args=["Leader"])
    else:
        answer(state, sql, 1, ["leader"])
    assert names(state) == ["Leader"]
    server_says(state, {"Leader": False})
    assert state.kinds() == ("transaction",)


def test_release_of_all_locks_releases_them_however_many_it_says(state: SessionState) -> None:
    run(state, "DO GET_LOCK('a', 1)", "DO GET_LOCK('b', 1)", "DO GET_LOCK('b', 1)")
    assert not answer(state, "SELECT RELEASE_ALL_LOCKS()", 3)


class TestTakenUnknownTimes:
    TAKEN = "SELECT GET_LOCK('a', 0) FROM t"

    @pytest.mark.parametrize("sql", ["SELECT RELEASE_LOCK('a')", "SELECT RELEASE_LOCK('A')"])
    def test_release_does_not_end_it(self, state: SessionState, sql: str) -> None:
        run(state, self.TAKEN, "DO RELEASE_LOCK('a')")
        assert answer(state, sql, 1)

    @pytest.mark.parametrize("value", [0, None, "0"])
    def test_release_that_finds_it_free_ends_it(self, state: SessionState, value: object) -> None:
        run(state, self.TAKEN)
        assert not answer(state, "SELECT RELEASE_LOCK('a')", value)

    @pytest.mark.parametrize(
        ("sql", "value"),
        [
            ("SELECT RELEASE_LOCK('b')", None),
            ("SELECT RELEASE_LOCK('A')", 0),  # another lock for MariaDB
            ("SELECT RELEASE_LOCK('a')", "?"),
            ("SELECT RELEASE_LOCK(a)", None),
        ],
    )
    def test_another_answer_does_not(self, state: SessionState, sql: str, value: object) -> None:
        run(state, self.TAKEN)
        assert answer(state, sql, value)

    def test_release_of_all_locks_ends_it(self, state: SessionState) -> None:
        run(state, self.TAKEN, "SELECT GET_LOCK(@n, 1)", "DO RELEASE_ALL_LOCKS()")
        assert state.kinds() == ("user variable",)

    def test_counting_before_or_after_does_not_help(self, state: SessionState) -> None:
        run(state, "DO GET_LOCK('a', 1)", self.TAKEN, "DO GET_LOCK('a', 1)")
        run(state, *["DO RELEASE_LOCK('a')"] * 9)
        assert state.describe(0.0) == "named lock 'a' taken 0 s ago"

    def test_name_that_may_change_meanwhile_is_not_shown(self, state: SessionState) -> None:
        run(state, "DO GET_LOCK(@n, 1)", "SET @n = 'b'", "DO RELEASE_LOCK(@n)")
        state.end_unit_of_work()
        assert state.kinds() == ("named lock",)
        long = "CONCAT(" + ", ".join(["'a'"] * 40)
        run(state, "DO RELEASE_ALL_LOCKS()", f"DO GET_LOCK({long}, 'b'), 1)")
        assert run(state, f"DO RELEASE_LOCK({long}, 'c'))").pinned
        assert answer(state, f"SELECT RELEASE_LOCK({long}, 'c'))", None)

    def test_parameter_that_is_not_known_is_not_shown(self, state: SessionState) -> None:
        run(state, "SELECT GET_LOCK(%s, 0) FROM t")
        assert answer(state, "SELECT RELEASE_LOCK(%s)", None, [None])


class TestServerIsAskedForLocks:
    """Where no answer says whether a lock is held, the server is asked."""

    def asked(self, state: SessionState, *texts: str, args: object = None) -> list[str]:
        return names(run(state, *texts, args=args))

    def test_refused_one_does_not_pin(self, state: SessionState) -> None:
        assert self.asked(state, "DO GET_LOCK(%s, 0)", args=["a"]) == ["a"]
        server_says(state, {"a": False})
        assert (state.pinned, state.doubtful) == (False, False)

    def test_granted_one_pins_until_it_is_released(self, state: SessionState) -> None:
        run(state, "DO GET_LOCK('a', 0)")
        server_says(state, {"a": True})
        assert (state.pinned, state.doubtful) == (True, False)
        assert not run(state, "DO RELEASE_LOCK('a')").pinned

    def test_all_that_are_held_are_asked_for_after_a_release(self, state: SessionState) -> None:
        answer(state, "SELECT GET_LOCK('a', 0)", 1)
        answer(state, "SELECT GET_LOCK('b', 0)", 1)
        assert self.asked(state, "SELECT RELEASE_LOCK(CONCAT('b')) IS NULL") == ["a", "b"]
        server_says(state, {"a": True, "b": False})
        assert "'a'" in state.describe(0.0) and "'b'" not in state.describe(0.0)

    def test_how_often_it_is_held_after_that_is_not_known(self, state: SessionState) -> None:
        answer(state, "SELECT GET_LOCK('a', 0)", 1)
        answer(state, "SELECT GET_LOCK('a', 0)", 1)
        run(state, "SELECT RELEASE_LOCK('a') + 0")
        server_says(state, {"a": True})
        assert self.asked(state, "DO RELEASE_LOCK('a')") == ["a"]

    def test_lock_counts_as_held_where_the_server_gives_no_answer(
        self, state: SessionState
    ) -> None:
        run(state, "DO GET_LOCK('a', 0)")
        server_says(state, {"a": None})
        assert (state.pinned, state.doubtful) == (True, False)

    def test_routine_may_release_one(self, state: SessionState) -> None:
        answer(state, "SELECT GET_LOCK('a', 0)", 1)
        assert self.asked(state, "CALL p()") == ["a"]

    @pytest.mark.parametrize(
        ("name", "args"),
        [
            ("CONCAT('a', %s)", ["b"]),
            ("LEFT(SHA2(%(n)s, 256), 64)", {"n": "b"}),
            ("CONCAT(DATABASE(), '.', %s)", [5]),
        ],
    )
    def test_one_whose_name_is_an_expression_is_asked_for(
        self, state: SessionState, name: str, args: object
    ) -> None:
        run(state, f"DO GET_LOCK({name}, 0)", args=args)
        asked = state.locks_to_ask_for()
        assert [sql.count("(") > 1 for sql in asked.values()] == [True]
        state.locks_answered(dict.fromkeys(asked, False))
        assert not state.pinned

    @pytest.mark.parametrize(
        ("name", "args"),
        [
            ("CONCAT('a', UUID())", None),
            ("next_name()", None),
            ("t.name", None),
            ("CONCAT('a', @x)", None),
            ("CONCAT('a', (SELECT 1))", None),
            ("CONCAT('é')", None),
            ("CONCAT(%s)", [1.5]),
            ("CONCAT(%s)", ["é"]),
            ("CONCAT(%s)", None),
            (r"CONCAT('\\a')", None),
        ],
    )
    def test_one_whose_name_may_have_another_value_is_not(
        self, state: SessionState, name: str, args: object
    ) -> None:
        assert run(state, f"DO GET_LOCK({name}, 0)", args=args).locks_to_ask_for() == {}
        assert state.pinned

    def test_nor_is_one_that_was_taken_with_another_default_database(
        self, state: SessionState
    ) -> None:
        run(state, "DO GET_LOCK(CONCAT(DATABASE(), '.x'), 0)")
        state.locks_answered(dict.fromkeys(state.locks_to_ask_for(), True))
        assert run(state, "USE other", "SELECT RELEASE_LOCK('a') + 0").locks_to_ask_for() == {}
        assert state.pinned

    def test_names_of_locks_do_not_pile_up(
        self, state: SessionState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert pins._MOST_PINS == 1000
        monkeypatch.setattr(pins, "_MOST_PINS", 150)
        for number in range(300):
            run(state, "DO GET_LOCK(%s, 0)", args=[str(number)])
        assert len(state._pins) == 151
        assert len(names(state)) == 100
        assert not run(state, "DO RELEASE_ALL_LOCKS()").pinned


class TestManyRowsOfParameters:
    def many(self, state: SessionState, sql: str) -> tuple[str, ...]:
        state.apply_begins(examine(sql), [("a",), ("b",)], 0.0, many=True)
        return state.kinds()

    def test_lock_pins_whatever_the_last_answer(self, state: SessionState) -> None:
        assert self.many(state, "SELECT GET_LOCK(%s, 0)") == ("named lock",)
        assert state.describe(0.0) == "named lock '%s' taken 0 s ago"

    def test_only_the_release_of_all_locks_ends_it(self, state: SessionState) -> None:
        self.many(state, "SELECT GET_LOCK(%s, 0)")
        assert answer(state, "SELECT RELEASE_LOCK('a')", None)
        assert run(state, "DO RELEASE_LOCK('a')", "DO RELEASE_LOCK('b')").pinned
        assert not run(state, "DO RELEASE_ALL_LOCKS()").pinned

    def test_lock_may_be_taken_by_each_row(self, state: SessionState) -> None:
        self.many(state, "SELECT GET_LOCK('a', %s)")
        assert run(state, "DO RELEASE_LOCK('a')").pinned

    def test_what_else_it_begins_pins(self, state: SessionState) -> None:
        assert self.many(state, "SET sql_mode = %s") == ("session variable",)

    def test_nothing_ends(self, state: SessionState) -> None:
        run(state, "DO GET_LOCK('a', 1)", "DO GET_LOCK('b', 1)")
        assert self.many(state, "DO RELEASE_LOCK(%s)") == ("named lock",)


class TestServiceLocks:
    """MySQL's locking service, and version tokens."""

    @pytest.mark.parametrize(
        ("taken", "released"),
        [
            ("SELECT service_get_write_locks('ns', 'a', 'b', 0)", "DO service_release_locks('ns')"),
            ("SELECT service_get_read_locks(%s, 'a', 0)", "SELECT service_release_locks(%s) = 1"),
            ("SELECT version_tokens_lock_shared('t', 0)", "SELECT version_tokens_unlock()"),
            ("DO version_tokens_lock_exclusive('t', 0)", "DO version_tokens_unlock()"),
        ],
    )
    def test_release_frees_all_of_the_namespace(
        self, state: SessionState, taken: str, released: str
    ) -> None:
        run(state, taken, taken, args=["ns"])
        state.end_unit_of_work()
        assert state.kinds() == ("service lock",)
        assert run(state, "DO service_release_locks('other'), RELEASE_ALL_LOCKS()").pinned
        assert not run(state, released, args=["ns"]).pinned

    def test_namespace_is_not_shown(self, state: SessionState) -> None:
        run(state, "SELECT service_get_write_locks('secret', 'secret', 0)")
        assert state.describe(0.0) == "lock of the locking service taken 0 s ago"
