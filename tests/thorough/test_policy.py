"""The policy over random facts, and over random sequences of what can happen to a connection."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from django_mysql_recycle.policy import Action, Facts, Verdict, decide, idle_limit_of, short_idle_of

from ..unit.test_policy import closed


@given(st.floats(0.01, 1e8))
def test_the_margin_is_never_more_than_half_and_never_more_than_thirty_seconds(wait_timeout):
    limit = idle_limit_of(wait_timeout, None)
    assert limit is not None
    assert wait_timeout / 2 <= limit < wait_timeout
    assert wait_timeout - limit <= 30.001


seconds = st.floats(0, 100)
limits = st.none() | st.floats(0.1, 60)
facts = st.builds(
    Facts,
    safe=st.booleans(),
    pending=st.booleans(),
    pinned=st.booleans(),
    settable=st.booleans(),
    reads_state=st.booleans(),
    reason=st.sampled_from(["", "", "lost", "interrupted"]),
    interrupted=st.just(False),
    wrong_node=st.booleans(),
    unit_begins=st.booleans(),
    idle=seconds,
    age=seconds,
    idle_limit=limits,
    max_age=limits,
    ping_after=limits,
    limit_unread=st.booleans(),
    peer_closed=st.sampled_from([closed, lambda: False]),
)


@given(facts)
def test_what_would_be_lost_is_never_replaced(given_facts):
    if decide(given_facts).action is Action.RECYCLE:
        lost = given_facts.reason or given_facts.peer_closed()
        set_again = given_facts.settable and lost
        assert given_facts.safe
        assert not given_facts.pinned or set_again
        assert not given_facts.reads_state
        assert not given_facts.pending or given_facts.reason


@given(facts)
def test_below_the_short_idle_time_only_the_socket_matters(f):
    """The caller's short cut is the policy: it need not ask below `short_idle_of`."""
    ready = not (f.pinned or f.reason or f.wrong_node or f.unit_begins or f.pending)
    young = f.max_age is None or f.age < f.max_age
    if f.safe and ready and young and not f.reads_state:
        if f.idle < short_idle_of(f.idle_limit, f.ping_after, f.limit_unread):
            expected = Verdict(Action.RECYCLE, "closed") if f.peer_closed() else Verdict(Action.RUN)
            assert decide(f) == expected


class Lifecycle(RuleBasedStateMachine):
    """Random statements, pauses, kills, transactions and settings changes against a model."""

    def __init__(self):
        super().__init__()
        self.wait_timeout = 20.0
        self.max_age = 30.0
        self.in_transaction = self.pinned = self.pending = False
        self.open()

    def open(self):
        self.age = self.idle = 0.0
        self.known = None  # the wait_timeout that has been read
        self.killed = self.lost = False
        self.session_limit = self.wait_timeout

    @property
    def alive(self):
        return not self.killed and self.idle < self.session_limit

    @rule(pause=st.floats(0, 40))
    def pause(self, pause):
        self.age += pause
        self.idle += pause

    @rule()
    def kill(self):
        self.killed = True

    @precondition(lambda self: self.alive)
    @rule(seconds=st.floats(1, 60))
    def set_wait_timeout(self, seconds):
        self.statement()
        self.session_limit, self.known = seconds, None

    @rule(seconds=st.floats(1, 60))
    def set_global_wait_timeout(self, seconds):
        self.wait_timeout = seconds

    @rule(seconds=st.none() | st.floats(1, 60))
    def set_max_age(self, seconds):
        self.max_age = seconds

    @precondition(lambda self: self.alive)
    @rule(inside=st.booleans())
    def transaction(self, inside):
        self.statement()
        self.in_transaction = inside

    @precondition(lambda self: self.alive)
    @rule(pinned=st.booleans(), pending=st.booleans())
    def session_state(self, pinned, pending):
        self.statement()
        self.pinned, self.pending = pinned, pending

    @rule()
    def statement(self):
        for _ in range(3):
            facts = self.facts()
            found = decide(facts)
            if found.action is Action.RECYCLE:
                self.check_replacement(facts, found.reason)
                self.open()
                return
            if found.action is Action.STATE_LOST:
                assert self.pinned and not self.alive
                self.pinned, self.lost = False, True
                continue
            if found.action in (Action.PING, Action.READ_LIMIT):
                assert not (self.in_transaction or self.pinned or self.pending)
                if not self.alive:
                    self.lost = True
                    continue
                if found.action is Action.READ_LIMIT:
                    self.known = self.session_limit
                self.idle = 0.0
                continue
            assert found.action is Action.RUN
            break
        else:
            raise AssertionError("the decision does not come to an end")
        if self.in_transaction or self.pinned or self.pending:
            if not self.alive:
                # The driver's own error; what it held was lost with the connection.
                self.lost, self.in_transaction, self.pending = True, False, False
                return
        else:
            assert self.alive, "a statement went to a connection past its idle limit"
            if self.known is not None:
                assert self.idle < self.known
        self.idle = 0.0

    def facts(self):
        return Facts(
            safe=not self.in_transaction,
            pending=self.pending,
            pinned=self.pinned,
            settable=False,
            reads_state=False,
            reason="lost" if self.lost else "",
            interrupted=False,
            wrong_node=False,
            unit_begins=False,
            idle=self.idle,
            age=self.age,
            idle_limit=idle_limit_of(self.known, None),
            max_age=self.max_age,
            ping_after=10.0,
            limit_unread=self.known is None,
            peer_closed=lambda: not self.alive,
        )

    def check_replacement(self, facts, reason):
        assert not self.in_transaction and not self.pinned
        assert not self.pending or self.lost
        past_idle = facts.idle_limit is not None and self.idle >= facts.idle_limit
        past_age = self.max_age is not None and self.age >= self.max_age
        assert past_idle or past_age or not self.alive or self.lost, "within all its limits"
        assert reason


TestLifecycle = Lifecycle.TestCase
