"""Reading only what can matter: in most statements a few functions and variables.

A bulk INSERT has megabytes between them, an ordinary SELECT with an @ in a literal a few hundred
characters. One regular expression passes over all of that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from .expressions import WATCHED
from .text import LETTER, SIGN, VARIABLE, Reading, Token, tokenise

__all__ = ["skim"]

#: Their verb says it all, what follows matters only for functions and variables. SET, DROP TABLE
#: and a routine's body are read to their end.
_SKIMMED = {"SELECT", "INSERT", "REPLACE", "UPDATE", "DELETE", "WITH", "VALUES"}

#: Tokens read after one that matters: the arguments of a function, the variables after INTO.
_PATIENCE = 64
#: With a lock this close to the beginning, how often it is taken may be told.
_NEAR = 500


def skim(text: str, reading: Reading) -> Iterator[Token]:
    """As `tokenise`, with one empty token for each stretch without meaning."""
    stretch = _stretch(reading.escapes, reading.escapes_in_double).match
    position = 0
    patience = _PATIENCE if "_LOCK" in text[:_NEAR].upper() else 0
    verb = ""
    while True:
        for token in tokenise(text, reading, position):
            yield token
            patience -= 1
            if token.word == ";":
                verb = ""
            elif not verb and token.word != "(":
                verb = token.word
            if (
                token.kind == VARIABLE
                or token.word == "@@"
                or (token.kind != SIGN and token.text.upper() in WATCHED)
            ):
                patience = _PATIENCE
            if patience <= 0 and verb in _SKIMMED and (found := stretch(text, token.end)):
                position = found.end()
                if not text[token.end : position].isspace():
                    yield Token(SIGN, "", "", token.end, position)
                    break
        else:
            return


@cache
def _stretch(escapes: bool, escapes_in_double: bool) -> re.Pattern[str]:
    # Nothing follows the repetition and each part begins with something else, so that nothing is
    # tried twice; what it does not take (a string with a hundred escapes) the tokenizer does.
    string = r"'[^'\\]*(?:\\.[^'\\]*){0,99}'" if escapes else "'[^']*'"
    double = r'"[^"\\]*(?:\\.[^"\\]*){0,99}"' if escapes_in_double else '"[^"]*"'
    return re.compile(
        rf"""
        (?: [^{LETTER}'"`#@;/*%\\-]+
          | (?! (?i:{"|".join(sorted(WATCHED))}) (?![{LETTER}]) ) [{LETTER}]+
          | `[^`]*` (?=\s?[.,)=])            # else perhaps the name of a function
          | {string}
          | {double} (?=\s?[,)])             # the same, with ANSI_QUOTES
          | - (?!-) | / (?!\*) | \* (?!/) | % (?!\()
        ){{1,2000}}
        """,
        re.VERBOSE | re.DOTALL,
    )


# Hundreds of times as dear as using it: not at somebody's first statement.
_stretch(True, True)
