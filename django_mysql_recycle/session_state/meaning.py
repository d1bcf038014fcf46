"""The careful look: what a text does to the session.

Where the text leaves it open, it pins: the cost of an unnecessary pin is one error. What a stored
routine does is not in the text and not seen; a pin by hand is for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from .functions import ASKING_CALLS, judge_functions
from .kinds import CALLED, Answer, Kind
from .lexer import USUAL, Reading, Source, Token, TokenKind, is_stretch, skim, unquoted, words_of
from .statements import (
    PLAIN,
    PLAIN_INSERT,
    Action,
    Change,
    Statement,
    begins_of,
    in_doubt,
    in_turn,
    together,
)
from .verbs import BEFORE_INNER_STATEMENT, COMPOUND, is_stored, judge_verb

__all__ = ["judge", "judge_inner"]

#: Enough of a statement to see what it defines.
_HEAD = 24
_PIECE = 65536

#: Statements of which nothing but their verb was worth a look.
_ORDINARY = {
    **dict.fromkeys(["SELECT", "UPDATE", "DELETE"], PLAIN),
    **dict.fromkeys(["INSERT", "REPLACE"], PLAIN_INSERT),
}

_ASKED = Statement(changes=(Change(Action.ASK, Kind.NAMED_LOCK),))
_UNSEEN = Statement(changes=(Change(Action.BEGIN, Kind.UNKNOWN),), calls=True, leaves=CALLED)

_BLOCK_WORDS = {"BEGIN", "END", *(COMPOUND - {"DECLARE"})}
_RUNS_TEXTS = {"EXECUTE", "PREPARE", "BEGIN", "SET", *COMPOUND}


def judge(text: str, reading: Reading = USUAL) -> Statement:
    """Everything that is to be known of a text, whatever it begins with.

    `reading`: how the session reads literals, which its sql_mode decides.
    """
    source = Source(text, reading)
    result = _judge_source(source)
    if source.conditional:
        other = _judge_source(Source(text, reading._replace(conditional=False)))
        result = in_doubt(result, other)
    ordinary = result in (PLAIN, PLAIN_INSERT)
    if not (ordinary and len(text) > _PIECE) and _mentions(text, "WAIT_TIMEOUT"):
        return replace(result, mentions_wait_timeout=True)
    if result == PLAIN:
        return PLAIN
    return PLAIN_INSERT if result == PLAIN_INSERT else result


def _mentions(text: str, word: str) -> bool:
    """In any case. Piece by piece: the upper case of a long text would be a copy as long."""
    pieces = range(0, len(text), _PIECE)
    return any(word in text[start : start + _PIECE + len(word)].upper() for start in pieces)


def _judge_source(source: Source) -> Statement:
    statements = list(_cut(list(skim(source))))
    judged = [_judge_one(source, one) for one in statements]
    if source.unread and not (statements and is_stored(words_of(statements[-1][:_HEAD]))):
        judged.append(_UNSEEN)
    if len(judged) == 1:
        return judged[0]
    if any(one.lone_lock_call for one in judged):
        judged.append(_ASKED)  # not all of the answers are read
    verbs = [one[0].word for one in statements]
    return in_turn(judged, verbs + [""] * (len(judged) - len(verbs)))


def _judge_one(source: Source, tokens: Sequence[Token]) -> Statement:
    if len(tokens) == 2 and is_stretch(tokens[1]) and tokens[0].word in _ORDINARY:
        return _ORDINARY[tokens[0].word]
    if is_stored(words_of(tokens[:_HEAD])):
        return PLAIN  # its body runs later
    tokens = _unbracketed(tokens)
    verb = judge_verb(tokens)
    if texts := list(_texts(source, tokens)):
        verb = _with_texts(verb, texts)
    functions = judge_functions(source, tokens)
    meaning = together((verb, functions))
    read = {read.key for read in functions.reads}
    return replace(
        meaning,
        asks_only=bool(meaning.reads) and not meaning.changes and _only_asks(tokens),
        sets=frozenset() if meaning.calls else meaning.sets - read,
        only_sets=verb.only_sets and not (functions.reads or functions.leaves),
        lone_lock_call=functions.lone_lock_call,
    )


def _unbracketed(tokens: Sequence[Token]) -> Sequence[Token]:
    """The same without the brackets that it begins with, as a query may."""
    brackets = 0
    while brackets < len(tokens) - 1 and tokens[brackets].word == "(":
        brackets += 1
    return tokens[brackets:]


def _only_asks(tokens: Sequence[Token]) -> bool:
    """SHOW WARNINGS, or SELECT of nothing else: it has no rows or warnings of its own."""
    words = words_of(tokens)
    calls = {
        token.text.upper() for token, word in zip(tokens, words[1:], strict=False) if word == "("
    }
    return words[0] == "SHOW" or (
        words[0] == "SELECT" and "FROM" not in words and calls <= ASKING_CALLS
    )


def _texts(source: Source, tokens: Sequence[Token]) -> Iterator[Statement]:
    """What the texts do that EXECUTE IMMEDIATE and PREPARE name FROM are given."""
    words = words_of(tokens)
    if words[0] not in _RUNS_TEXTS:
        return
    for index in range(2, len(tokens)):
        if words[index - 2 : index] == ["EXECUTE", "IMMEDIATE"] or (
            words[index - 1] == "FROM" and "PREPARE" in words[max(0, index - 3) : index - 2]
        ):
            following = words[index + 1 : index + 2]
            yield _judge_text(source, tokens[index], alone=following in ([], ["USING"], [";"]))


def _judge_text(source: Source, text: Token, *, alone: bool) -> Statement:
    if alone:
        if text.kind is TokenKind.STRING or (
            text.kind is TokenKind.DOUBLE and not source.reading.ansi
        ):
            shown = text.text or text.end - text.start == 2
            return judge_inner(unquoted(text, source.reading), source.reading) if shown else _UNSEEN
        if text.kind is TokenKind.MARKER:
            runs = Change(Action.RUN, Kind.UNKNOWN, placeholder=source.parameter(text))
            return Statement(changes=(runs,))
    return _UNSEEN


def judge_inner(text: str, reading: Reading = USUAL) -> Statement:
    """What a text may begin that a statement runs. What it ends is not taken for granted."""
    source = Source(text, reading)
    parts = [_UNSEEN] if source.unread else []
    for one in map(_unbracketed, _cut(list(skim(source)))):
        if not is_stored(words_of(one[:_HEAD])):
            parts += judge_verb(one), judge_functions(source, one)
            parts += [_UNSEEN] * ("EXECUTE" in words_of(one))
    meaning = together(parts)
    begins = tuple(_hidden(change) for change in begins_of(meaning.changes))
    reads = (read._replace(hidden=read.answer is Answer.USER_VARIABLE) for read in meaning.reads)
    return replace(
        meaning,
        changes=begins,
        reads=tuple(dict.fromkeys(reads)),
        enters_transaction=False,
        ends_transaction=False,
    )


def _hidden(change: Change) -> Change:
    """The same without parameters, which are the statement's own, and with a name that is not shown.

    Its text is a literal's, of which only the names of locks are ever shown.
    """
    return replace(
        change.in_doubt(),
        name="" if change.kind == Kind.DEFAULT_DATABASE else change.name,
        # Of a lock, the name that is written out may be shown, and no expression.
        hidden=change.hidden or change.kind != Kind.NAMED_LOCK or change.inputs is not None,
        placeholder=None,
        inputs=change.inputs and (),
    )


def _with_texts(verb: Statement, texts: Sequence[Statement]) -> Statement:
    inner = together(texts)
    if [(c.action, c.kind) for c in verb.changes] == [
        (Action.BEGIN, Kind.PREPARED)
    ] and not verb.calls:
        # It does all that later, each time it is executed.
        return replace(verb, changes=(replace(verb.changes[0], then=inner.changes),))
    return together((verb, inner))


def _cut(tokens: Sequence[Token]) -> Iterator[Sequence[Token]]:
    """The statements of a text. The semicolons of a routine's body do not end its definition."""
    start = 0
    blocks: list[bool] = []  # for each open one: it holds statements; a CASE may be an expression
    has_body: bool | None = None
    for index, token in enumerate(tokens):
        word = token.word
        if word == ";" and not blocks:
            if index > start:
                yield tokens[start:index]
            start = index + 1
            has_body = None
        elif word in _BLOCK_WORDS:
            if has_body is None:
                has_body = _has_body(tokens[start : start + _HEAD])
            before = tokens[index - 1].word if index > start else ";"
            if not has_body or before == "END":
                continue
            holds_statements = blocks[-1] if blocks else True
            begins_statement = holds_statements and (
                before in BEFORE_INNER_STATEMENT or (not blocks and before in (")", "ROW"))
            )
            if word == "END":
                del blocks[-1:]
            elif word in ("BEGIN", "CASE") or begins_statement:
                blocks.append(word == "BEGIN" or begins_statement)
    if start < len(tokens):
        yield tokens[start:]


def _has_body(head: Sequence[Token]) -> bool:
    words = words_of(head)
    if words[0] == "BEGIN":  # BEGIN NOT ATOMIC, or Oracle's BEGIN; not a transaction's
        return words[1:2] not in ([], ["WORK"], [";"])
    return words[0] in COMPOUND or is_stored(words)
