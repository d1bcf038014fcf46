"""Cutting SQL text into the tokens that the server's lexer would see. No meaning in here.

Comments and white space are gone, executable comments (``/*! */``, ``/*M! */``) are code. Never
raises and takes linear time whatever the text: quotes and comments that do not end, end with it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import product
from typing import NamedTuple

__all__ = [
    "BROKEN",
    "DOUBLE",
    "LETTER",
    "MARKER",
    "NAME",
    "SIGN",
    "STRING",
    "VARIABLE",
    "WORD",
    "Reading",
    "Source",
    "Token",
    "dotted_name",
    "readings",
    "split_at_commas",
    "tokenise",
    "unquoted",
    "words_of",
]

WORD = "word"  #: a bare identifier, a keyword or a number
NAME = "name"  #: `quoted by backticks`
STRING = "string"  #: 'quoted'
DOUBLE = "double"  #: "quoted": a string, or a name where sql_mode has ANSI_QUOTES
VARIABLE = "variable"  #: @name, @`name`, @'name'; the host of an account looks the same
MARKER = "marker"  #: a driver's placeholder, %s or %(key)s
SIGN = "sign"  #: one character of punctuation, or @@
BROKEN = "broken"  #: no server takes it: a literal that does not end, a backslash


class Token(NamedTuple):
    kind: str
    text: str  #: the source, without quotes or the leading @, doubled quotes still doubled
    word: str  #: upper-case for a WORD, the sign for a SIGN, empty for all that is quoted
    start: int
    end: int


class Reading(NamedTuple):
    """What the text does not tell and the session's sql_mode and the server's version decide."""

    escapes: bool = True  #: a backslash escapes in '...': no NO_BACKSLASH_ESCAPES
    escapes_in_double: bool = True  #: the same in "...": no ANSI_QUOTES either
    conditional: bool = True  #: /*!80000 ...*/ and /*M! ...*/ are code: this server's


#: Executable comments up to this version are code on every server Django supports. MariaDB
#: skips 50700 to 99999, MySQL what is newer than itself (10.11.19 and 9.7.4 compared).
_EVERYWHERE_BELOW = 50700

#: What names and numbers are made of; the server takes every byte from 0x80 on for a letter.
LETTER = r"0-9A-Za-z_$\x80-\U0010ffff"

_NEXT = re.compile(
    rf"""
    (?: [\x09-\x0d\x20]+                                # what has no name is skipped
      | \#[^\n]*
      | --(?=[\x00-\x20\x7f]|\Z)[^\n]*                  # without the blank it is arithmetic
      | /\*(?!M?!).*?(?:\*/|\Z)
    )
  | (?P<word>     [{LETTER}]+)
  | (?P<quote>    ['"`])
  | (?P<system>   @@)
  | (?P<variable> @[{LETTER}.]*)
  | (?P<marker>   %s | %\([^()]{{0,99}}\)s )
  | (?P<code>     /\*(?:!|(?P<mariadb>M!))(?P<version>[0-9]{{5,6}})? )
  | (?P<sign>     %% | . )
""",
    re.VERBOSE | re.DOTALL,
)

# A bounded number of repetitions at a time: each costs the engine 200 bytes until the match ends.
_ESCAPED = {q: re.compile(rf"[^{q}\\]*(?:(?:\\.|{q}{q})[^{q}\\]*){{0,999}}", re.S) for q in "'\""}
_DOUBLED = {q: re.compile(rf"[^{q}]*(?:{q}{q}[^{q}]*){{0,999}}") for q in "'\"`"}
_KINDS = {"'": STRING, '"': DOUBLE, "`": NAME}

_COMMENT_EDGE = re.compile(r"/\*|\*/")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a"}


_PERCENT = re.compile(r"%%|%s")


class Source:
    """A text as one reading of it has it."""

    def __init__(self, text: str, reading: Reading) -> None:
        self.text = text
        self.reading = reading

    def parameter(self, marker: Token) -> int | str:
        """Its key, or its place among all parameters."""
        return marker.text or bisect_left(self._parameters, marker.start)

    @cached_property
    def _parameters(self) -> list[int]:
        """Where each %s stands, those inside literals included: drivers count them too."""
        return [found.start() for found in _PERCENT.finditer(self.text) if found[0] == "%s"]


def readings(text: str) -> Iterator[Reading]:
    """Every way in which a server may read the text; nearly always one."""
    quoting = [(True, True)]
    if "\\'" in text or '\\"' in text:
        quoting += [(False, False), (True, False)]
    code = [True, False] if "/*!" in text or "/*M!" in text else [True]
    for (escapes, escapes_in_double), conditional in product(quoting, code):
        yield Reading(escapes, escapes_in_double, conditional)


def tokenise(text: str, reading: Reading, end: int = 0) -> Iterator[Token]:
    """The tokens from there on, of all statements, the semicolons between them included."""
    in_code = False
    while match := _NEXT.match(text, end):
        start, end = match.span()
        kind = match.lastgroup
        if kind == "word":
            word = match.group()
            yield Token(WORD, word, word.upper(), start, end)
        elif kind == "sign":
            sign = match.group()
            if in_code and sign == "*" and text.startswith("/", end):
                end += 1
                in_code = False
            else:
                broken = sign == "\\" and not text.startswith("N", end)  # \N: MariaDB's NULL
                yield Token(BROKEN if broken else SIGN, sign, sign, start, end)
        elif kind == "quote":
            inside, end, closed = _quoted(text, start, reading)
            yield Token(_KINDS[match.group()] if closed else BROKEN, inside, "", start, end)
        elif kind == "variable":
            name = match.group()[1:]
            closed = True
            if not name and text[end : end + 1] in _KINDS:
                name, end, closed = _quoted(text, end, reading)
            yield Token(VARIABLE if closed else BROKEN, name, "", start, end)
        elif kind == "system":
            yield Token(SIGN, "@@", "@@", start, end)
        elif kind == "marker":
            yield Token(MARKER, match.group()[2:-2], "", start, end)
        elif kind == "code":
            everywhere = match["mariadb"] is None and (
                match["version"] is None or int(match["version"]) < _EVERYWHERE_BELOW
            )
            if everywhere or reading.conditional:
                in_code = True
            else:
                end = _after_comment(text, end)


def unquoted(token: Token, reading: Reading) -> str:
    """The value of a quoted token."""
    quote = {STRING: "'", DOUBLE: '"'}.get(token.kind, "`")
    value = token.text.replace(quote * 2, quote)
    if (token.kind == STRING and reading.escapes) or (
        token.kind == DOUBLE and reading.escapes_in_double
    ):
        value = _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[1]), value)
    return value


def _quoted(text: str, opening: int, reading: Reading) -> tuple[str, int, bool]:
    """What stands between the quotes, where it ends, and whether it does."""
    quote = text[opening]
    escapes = {"'": reading.escapes, '"': reading.escapes_in_double}.get(quote, False)
    body = (_ESCAPED if escapes else _DOUBLED)[quote].match
    end = opening + 1
    while True:
        match = body(text, end)
        assert match is not None  # it also matches nothing
        stuck = match.end() == end
        end = match.end()
        if text.startswith(quote, end) and not text.startswith(quote * 2, end):
            return text[opening + 1 : end], end + 1, True
        if stuck:
            return text[opening + 1 :], len(text), False


def _after_comment(text: str, position: int) -> int:
    """Where a skipped executable comment ends; one that it contains does not end it."""
    depth = 1
    while depth and (match := _COMMENT_EDGE.search(text, position)):
        depth += 1 if match.group() == "/*" else -1
        position = match.end()
    return position if not depth else len(text)


def split_at_commas(tokens: Sequence[Token]) -> Iterator[Sequence[Token]]:
    """What stands between the commas that are not inside brackets."""
    depth = start = 0
    for index, token in enumerate(tokens):
        if token.word == "(":
            depth += 1
        elif token.word == ")":
            depth -= 1
        elif token.word == "," and not depth:
            yield tokens[start:index]
            start = index + 1
    yield tokens[start:]


def dotted_name(tokens: Sequence[Token]) -> tuple[str, Sequence[Token]]:
    """The name that the tokens begin with, qualified or not, and the rest. Empty: no name."""
    parts = []
    index = 0
    while index < len(tokens) and tokens[index].kind in (WORD, NAME, DOUBLE):
        text = tokens[index].text
        parts.append(f"`{text}`" if "." in text else text)  # `s.t` is not s.t
        index += 1
        if index == len(tokens) or tokens[index].word != ".":
            break
        index += 1
    return ".".join(parts), tokens[index:]


def words_of(tokens: Sequence[Token]) -> list[str]:
    return [token.word for token in tokens]
