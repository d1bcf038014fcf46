"""Which user variables a statement sets in any case, and which it reads only after that.

Servers promise little about the order in which an expression's parts are evaluated. Two forms are
certain: a list of assignments alone, ``SELECT @r := 0``, and the same in brackets among the tables
of a query, ``FROM t, (SELECT @r := 0) AS x``. Both servers evaluate it before the first row, also
if the query has no rows (tests/integration/test_answers.py). Everywhere else a read stays a read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from .lexer import Source, Token, TokenKind, is_stretch, tokenise

__all__ = ["Assignments", "judge_assignments"]

_RUN_QUERIES = {"SELECT", "INSERT", "REPLACE", "UPDATE", "DELETE", "DO"}
_CLAUSES = {
    *("SELECT", "DO", "FROM", "WHERE", "SET", "GROUP", "HAVING", "ORDER", "LIMIT", "WINDOW"),
    *("UPDATE", "INTO", "VALUES", "UNION", "EXCEPT", "INTERSECT", "FOR", "LOCK", "PROCEDURE"),
}
_TABLES = {"FROM", "UPDATE"}
_OTHER_ARM = {"UNION", "EXCEPT", "INTERSECT"}
_OUTER = {"LEFT", "RIGHT", "OUTER", "NATURAL"}


@dataclass(slots=True)
class Assignments:
    sets: frozenset[str] = frozenset()  #: by the name: set in any case, and not read before
    late_reads: frozenset[int] = frozenset()  #: by the place in the text: read after it was set


@dataclass(slots=True)
class _Query:
    """A SELECT, or the whole statement, while it is read."""

    among_tables: bool  #: in brackets, where a table's name could stand
    start: int
    depth: int
    clause: str = ""
    clauses: set[str] = field(default_factory=set)
    assigned: set[str] = field(default_factory=set)  #: as a whole column of its list
    first: set[str] = field(default_factory=set)  #: by a bracket among its tables
    deeper: set[str] = field(default_factory=set)  #: the same inside one of its tables
    reads: list[tuple[str, int]] = field(default_factory=list)
    inner: bool = False  #: it contains another query

    @property
    def only_assigns(self) -> bool:
        return self.clauses <= {"SELECT", "DO"} and not self.inner

    @property
    def sure(self) -> set[str]:
        if not _OTHER_ARM.isdisjoint(self.clauses):
            return set()
        return (self.assigned if self.only_assigns else set()) | self.first | self.deeper


def judge_assignments(
    source: Source, tokens: Sequence[Token], written: Collection[int]
) -> Assignments:
    """`written`: the places in the text of variables that are set and not read there."""
    start, end = tokens[0].start, tokens[-1].end
    if not written or tokens[0].word not in _RUN_QUERIES:
        return Assignments()
    if any(map(is_stretch, tokens)):
        if not source.may_reread(end - start):
            return Assignments()
        tokens = list(takewhile(lambda token: token.end <= end, tokenise(source, start)))
    late: set[int] = set()
    reads: list[tuple[str, int]] = []
    top = _Query(among_tables=False, start=0, depth=1)
    brackets = [top]  # for each open bracket: the query that it contains, or is a part of
    for index, token in enumerate(tokens):
        query = brackets[-1]
        own = len(brackets) == query.depth
        if token.word == "(":
            if index + 1 < len(tokens) and tokens[index + 1].word == "SELECT":
                among_tables = own and _stands_for_a_table(query, tokens, index)
                query.inner = True
                query = _Query(among_tables, index + 1, len(brackets) + 1)
            brackets.append(query)
        elif token.word == ")" and len(brackets) > 1:
            brackets.pop()
            if own:
                late |= _late_reads(query)
                outer = brackets[-1]
                if query.among_tables:
                    (outer.first if query.only_assigns else outer.deeper).update(query.sure)
        elif token.kind is TokenKind.VARIABLE:
            name = token.text.lower()
            if token.start not in written:
                query.reads.append((name, token.start))
                reads.append((name, token.start))
            elif own and (query.clause == "INTO" or _is_whole_column(tokens, index)):
                query.assigned.add(name)
        elif own and token.word in _CLAUSES:
            query.clause = token.word
            if token.word != "INTO":
                query.clauses.add(token.word)
    late |= _late_reads(top)
    # What is read before, or it is not known when, is not set anew.
    early = {name for name, start in reads if start not in late}
    return Assignments(frozenset(top.sure - early), frozenset(late))


def _late_reads(query: _Query) -> set[int]:
    if not _OTHER_ARM.isdisjoint(query.clauses):
        return set()
    return {start for name, start in query.reads if name in query.first}


def _stands_for_a_table(query: _Query, tokens: Sequence[Token], index: int) -> bool:
    words = [token.word for token in tokens[max(query.start, index - 3) : index]]
    if query.clause not in _TABLES or not words:
        return False
    if query.clause == "UPDATE" and tokens[query.start].word != "UPDATE":
        return False  # ON DUPLICATE KEY UPDATE, FOR UPDATE
    if words[-1] in ("JOIN", "STRAIGHT_JOIN"):
        return _OUTER.isdisjoint(words[:-1])
    return words[-1] in ("FROM", ",")


def _is_whole_column(tokens: Sequence[Token], index: int) -> bool:
    return tokens[index - 1].word in ("SELECT", "DO", ",")
