"""Reading only what can matter: in most statements a few functions and variables.

A bulk INSERT has megabytes between them, an ordinary SELECT with an @ in a literal a few hundred
characters. One regular expression passes over all of that, at a few nanoseconds a character and
without copying any of it. The rest is read token by token, which costs hundreds of times as much
and has a limit: what stands beyond it is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from .expressions import WATCHED
from .text import (
    ANY,
    BROKEN,
    COMMENT,
    LETTER,
    POSSESSIVE,
    SIGN,
    SOME,
    VARIABLE,
    Reading,
    Source,
    Token,
    literals,
    tokenise,
)

__all__ = ["skim"]

#: Their verb says it all, what follows matters only for functions and variables. SET, DROP TABLE
#: and a routine's body are read to their end.
_SKIMMED = {"SELECT", "INSERT", "REPLACE", "UPDATE", "DELETE", "WITH", "VALUES"}
_INSERTING = {"INSERT", "REPLACE"}

#: Tokens read after a function that matters: its arguments. And after a variable: whether it is
#: assigned.
_PATIENCE = 64
_SHORT_PATIENCE = 8
#: With a lock this close to the beginning, how often it is taken may be told.
_NEAR = 500

#: Tokens read of a text, and one more for each so many characters.
_MOST_TOKENS = 1000
_CHARACTERS_PER_TOKEN = 2000
#: A statement costs as much as so many tokens more.
_PER_STATEMENT = 4

#: In a text longer than this the statements that follow one another are not told apart while they
#: are ordinary ones.
_LONG = 65536

#: What may belong to what comes next: the beginning of a name, INTO before a variable.
_LAST_WORD = re.compile(rf"[{LETTER}]*\s*\Z")
_LONGEST_NAME = 40

_COMMENT_SIGN = re.compile("--|#")
_NOTHING_MORE = re.compile(rf"[\s;]{ANY}\Z")


def skim(source: Source) -> Iterator[Token]:
    """As `tokenise`, with one empty token for each stretch without meaning.

    Ends early, and says so in `source.unread`, where too much of what is left may have one.
    """
    text = source.text
    tokens_left = _MOST_TOKENS + len(text) // _CHARACTERS_PER_TOKEN
    position = 0
    patience = _PATIENCE if "_LOCK" in text[:_NEAR].upper() else 0
    verb = ""
    inserting = several = False
    while True:
        for token in tokenise(source, position):
            yield token
            patience -= 1
            tokens_left -= 1
            if token.word == ";":
                verb, several = "", True
                tokens_left -= _PER_STATEMENT
            elif not verb and token.word != "(":
                verb = token.word
                inserting |= verb in _INSERTING
            if token.kind == VARIABLE or token.word == "@@":
                patience = max(patience, _SHORT_PATIENCE)
            elif token.kind != SIGN and token.text.upper() in WATCHED:
                patience = _PATIENCE
            if tokens_left > 0 and (patience > 0 or verb not in _SKIMMED):
                continue
            following = (1 + inserting) * (several and len(text) > _LONG)
            end = _stretch_end(source, token.end, following)
            if text.startswith("'", end):  # a literal that does not end
                yield Token(BROKEN, "", "", end, len(text))
                return
            if tokens_left <= 0:
                source.unread = not _NOTHING_MORE.match(text, end)
                return
            position = _before_last_word(text, token.end, end)
            if (
                position > token.end
                and not text[token.end : min(position, token.end + 9)].isspace()
            ):
                yield Token(SIGN, "", "", token.end, position)
                break
        else:
            return


def _before_last_word(text: str, start: int, end: int) -> int:
    if end == len(text):
        return end
    begin = max(start, end - _LONGEST_NAME)
    match = _LAST_WORD.search(text[begin:end])
    assert match is not None  # it also matches nothing
    _, newline, blanks = match.group().rpartition("\n")
    line = text[max(start, end - 200) : end - len(newline + blanks)].rpartition("\n")[2]
    if newline and _COMMENT_SIGN.search(line):
        return end - len(blanks)  # the word may be one of a comment
    return begin + match.start()


def _stretch_end(source: Source, start: int, following: int) -> int:
    """Where the stretch without meaning ends that begins there."""
    escapes, ansi, _ = source.reading
    pattern = _stretch(escapes, ansi, following)
    while True:
        match = pattern.match(source.text, start)
        assert match is not None  # it also matches nothing
        if POSSESSIVE or match.end() == start:
            return match.end()
        start = match.end()


_LISTED = " | ".join(sorted(WATCHED))
#: How the names of functions go on that matter, after an underscore and a V.
_AFTER_UNDERSCORE = (
    r"(?: LOCKS? | LOCK_SHARED | LOCK_EXCLUSIVE | UNLOCK | (?<=LAST_)INSERT_ID | (?<=FOUND_)ROWS "
    r"| (?<=ROW_)COUNT )"
)
_AFTER_V = r"(?: (?<=LASTV)AL | (?<=NEXTV)AL | (?<=PREV)IOUS | (?<=NEXT\sV)ALUE )"


@cache
def _stretch(escapes: bool, ansi: bool, following: int) -> re.Pattern[str]:
    """What has no meaning, as one sort of session reads it.

    `following`: how much of what follows a semicolon has none either: nothing (0), a SELECT,
    UPDATE or DELETE (1), any of the ordinary statements (2).
    """
    reading = Reading(escapes, ansi)
    code = rf"[^'\"`@;\#/*%_vV\\-]{ANY}"
    single, *escaped_single = literals("'", escaped=reading.escapes_in("'"))
    doubles = literals('"', escaped=reading.escapes_in('"'))
    verbs = ["", "SELECT|UPDATE|DELETE", "SELECT|UPDATE|DELETE|INSERT|REPLACE"][following]
    # What is quoted may be the name of a function. The first pattern takes one character more,
    # which is faster than to look ahead.
    no_call = r"(?: [,).=] | \ [=<>!+A-UW-Za-uw-z0-9] )"
    surely_no_call = rf"(?! \s{ANY} (?: [(/\#] | -- ) )"
    rare = [
        *(f"{double} {surely_no_call}" for double in doubles),
        f"`[^`]{ANY}` {surely_no_call}",
        f"` (?! (?i: {_LISTED} ) ` ) [^`]{ANY} `",
        rf"_ (?! (?i: {_AFTER_UNDERSCORE} ) (?![{LETTER}]) )",
        rf"[vV] (?! (?i: {_AFTER_V} ) (?![{LETTER}]) )",
        r"% (?!s) (?: \( [^()'\"`@;]{0,99} \)s | %? (?!\() ) | - (?!-) | / (?!\*) | \* (?!/)",
    ]
    parts = [
        single,
        "%s",
        f"`[^`]{ANY}` {no_call}",
        *escaped_single,
        rf"(?<! (?i:INTO|NEXT) ) (?<! (?i:INTO|NEXT)\s ) {COMMENT}",  # what comes next matters
        *([rf"; (?= \s{ANY} (?i: {verbs} ) (?![{LETTER}]) )"] if verbs else []),
        f"{doubles[0]} {no_call}",
        r"(?: - [0-9\ ] | _ [ABD-HJ-KM-QSTWX-Zabd-hj-km-qstwx-z0-9]"
        r" | [vV] (?: [B-HJ-Zb-hj-z0-9] | [aA][lL][uU][eE][sS] ) )",
        f"(?: {' | '.join(rare)} )",
    ]
    # Several of a kind follow one another as a rule, and to try the next kind costs more than to
    # try the same one again.
    some, any_number = (SOME, ANY) if POSSESSIVE else ("{1,30}", "{0,30}")
    runs = " | ".join(f"(?: {part} {code} ){some}" for part in parts)
    return re.compile(f"{code} (?: {runs} ){any_number}", re.VERBOSE | re.DOTALL)


# Hundreds of times as dear as using it: not at an application's first statement.
_stretch(True, False, 0)
