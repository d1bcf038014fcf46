"""The careful look: what a text does to the session.

Where the text leaves it open, it pins: the cost is one loud error. What a stored routine does is
not in the text and not seen; a pin by hand is for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from .expressions import ASKING_CALLS, judge_expressions
from .skimming import skim
from .statements import (
    BEGIN,
    PLAIN,
    PLAIN_INSERT,
    PREPARED,
    UNCERTAIN,
    Statement,
    in_doubt,
    in_turn,
    together,
)
from .text import (
    BROKEN,
    DOUBLE,
    STRING,
    Reading,
    Source,
    Token,
    readings,
    unquoted,
    words_of,
)
from .verbs import COMPOUND, is_stored, judge_verb

__all__ = ["judge"]

#: Enough of a statement to tell what it defines.
_HEAD = 24

_RUNS_LITERALS = {"EXECUTE", "PREPARE", "BEGIN", "SET", *COMPOUND}


def judge(text: str) -> Statement:
    """Everything that is to be known of a text, whatever it begins with."""
    judged = [_judge_reading(text, reading) for reading in readings(text)]
    # A server for which the first statement makes no sense has run nothing of it.
    possible = [statement for statement, broken in judged if not broken]
    result, *others = possible or [statement for statement, _ in judged]
    for other in others:
        result = in_doubt(result, other)
    if "WAIT_TIMEOUT" in text.upper():
        result = replace(result, mentions_wait_timeout=True)
    if result == PLAIN:
        return PLAIN
    return PLAIN_INSERT if result == PLAIN_INSERT else result


def _judge_reading(text: str, reading: Reading) -> tuple[Statement, bool]:
    source = Source(text, reading)
    statements = list(_cut(list(skim(text, reading))))
    broken = any(token.kind == BROKEN for token in statements[0]) if statements else False
    judged = [_judge_one(source, one) for one in statements]
    if len(judged) == 1:
        return judged[0], broken
    return in_turn(judged, [one[0].word for one in statements]), broken


def _judge_one(source: Source, tokens: Sequence[Token]) -> Statement:
    if is_stored(words_of(tokens[:_HEAD])):
        return PLAIN  # its text runs later, when somebody else asks for it
    brackets = 0
    while brackets < len(tokens) - 1 and tokens[brackets].word == "(":
        brackets += 1
    tokens = tokens[brackets:]
    verb = judge_verb(tokens)
    if literals := list(_literals(source, tokens)):
        verb = _with_literals(verb, [_judge_literal(one, source.reading) for one in literals])
    expressions = judge_expressions(source, tokens)
    meaning = together((verb, expressions))
    read = {(read.kind, read.name[1:]) for read in expressions.reads}
    return replace(
        meaning,
        asks_only=bool(meaning.reads) and not meaning.changes and _only_asks(tokens),
        sets=frozenset() if meaning.calls else meaning.sets - read,
        only_sets=verb.only_sets and not (expressions.reads or expressions.leaves),
        lone_lock_call=expressions.lone_lock_call,
    )


def _only_asks(tokens: Sequence[Token]) -> bool:
    """SHOW WARNINGS, or SELECT of nothing else: it has no rows or warnings of its own."""
    words = words_of(tokens)
    calls = {
        token.text.upper() for token, word in zip(tokens, words[1:], strict=False) if word == "("
    }
    return words[0] == "SHOW" or (
        words[0] == "SELECT" and "FROM" not in words and calls <= ASKING_CALLS
    )


def _literals(source: Source, tokens: Sequence[Token]) -> Iterator[str]:
    """The texts that are written out in EXECUTE IMMEDIATE '...' and PREPARE name FROM '...'."""
    words = words_of(tokens)
    if words[0] not in _RUNS_LITERALS:
        return
    for index in range(1, len(tokens)):
        if tokens[index].kind not in (STRING, DOUBLE):
            continue
        if words[max(0, index - 2) : index] == ["EXECUTE", "IMMEDIATE"] or (
            words[index - 1] == "FROM" and "PREPARE" in words[max(0, index - 3) : index - 2]
        ):
            yield unquoted(tokens[index], source.reading)


def _judge_literal(text: str, reading: Reading) -> Statement:
    """What its text may begin. What it ends is not taken for granted."""
    source = Source(text, reading)
    parts = [
        together((judge_verb(one), judge_expressions(source, one)))
        for one in _cut(list(skim(text, reading)))
        if not is_stored(words_of(one[:_HEAD]))
    ]
    meaning = together(parts)
    begins = (
        replace(c, uncounted=c.kind in UNCERTAIN, placeholder=None, inputs=c.inputs and ())
        for c in meaning.changes
        if not c.ends
    )
    return replace(meaning, changes=tuple(begins), enters_transaction=False, ends_transaction=False)


def _with_literals(verb: Statement, literals: Sequence[Statement]) -> Statement:
    inner = together(literals)
    if [(c.action, c.kind) for c in verb.changes] == [(BEGIN, PREPARED)] and not verb.calls:
        # It does all that later, each time it is executed.
        return replace(verb, changes=(replace(verb.changes[0], then=inner.changes),))
    return together((verb, inner))


def _cut(tokens: Sequence[Token]) -> Iterator[Sequence[Token]]:
    """The statements of a text. The semicolons of a routine's body do not end its definition."""
    start = depth = 0
    for index, token in enumerate(tokens):
        if token.word == ";" and not depth:
            if index > start:
                yield tokens[start:index]
            start = index + 1
        elif token.word in ("BEGIN", "CASE", "END") and _has_body(tokens[start : start + _HEAD]):
            before = tokens[index - 1].word if index > start else ""
            after = tokens[index + 1].word if index + 1 < len(tokens) else ";"
            if token.word == "END":
                closes = after not in ("IF", "LOOP", "WHILE", "REPEAT", "FOR")
                depth = max(0, depth - closes)
            elif before != "END":
                depth += 1
    if start < len(tokens):
        yield tokens[start:]


def _has_body(head: Sequence[Token]) -> bool:
    words = words_of(head)
    if words[0] == "BEGIN":  # BEGIN NOT ATOMIC, or Oracle's BEGIN; not a transaction's
        return words[1:2] not in ([], ["WORK"], [";"])
    return words[0] in COMPOUND or is_stored(words)
