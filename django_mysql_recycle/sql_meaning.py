"""The careful look: what a text does to the session.

Where the text leaves it open, it pins: the cost is one loud error. What a stored routine does is
not in the text and not seen; a pin by hand is for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from .skimming import skim
from .sql_expressions import Source, judge_expressions, lone_lock_call
from .sql_text import BROKEN, Reading, Token, readings, words_of
from .sql_verbs import COMPOUND, is_stored, judge_verb
from .statements import PLAIN, PLAIN_INSERT, Statement, in_doubt, together

__all__ = ["judge"]

#: Enough of a statement to tell what it defines.
_HEAD = 24


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
    several = replace(together(judged), single=False, repeatable=False, enters_transaction=False)
    return several, broken


def _judge_one(source: Source, tokens: Sequence[Token]) -> Statement:
    if is_stored(words_of(tokens[:_HEAD])):
        return PLAIN  # its text runs later, when somebody else asks for it
    brackets = 0
    while brackets < len(tokens) - 1 and tokens[brackets].word == "(":
        brackets += 1
    tokens = tokens[brackets:]
    expressions = judge_expressions(source, tokens)
    meaning = together((judge_verb(tokens), expressions))
    if len(expressions.changes) == 1 and (function := lone_lock_call(tokens)):
        return replace(meaning, lone_lock_call=function)
    return meaning


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
