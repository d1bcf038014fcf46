"""The policy over random sequences of what can happen to a connection."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from django_mysql_recycle.policy import Action, Facts, decide, idle_limit_of


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
                # The driver's own error; what it held is gone with the connection.
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
