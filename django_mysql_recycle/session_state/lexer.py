"""Cutting SQL text into the tokens that the server's lexer would see. No meaning in here.

Comments and white space are left out, executable comments (``/*! */``, ``/*M! */``) are code. Never
raises and takes linear time whatever the text: quotes and comments that do not end, end with it.

In most statements only a few functions and variables matter. A bulk INSERT has megabytes between
them. `skim` passes over all of that with one regular expression, at a few nanoseconds a character
and without copying any of it. The rest is read token by token, which costs hundreds of times as
much and has a limit: what stands beyond it is not read.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from enum import Enum
from functools import cache
from typing import NamedTuple

__all__ = [
    *("USUAL", "WATCHED", "Reading", "Source", "Token", "TokenKind"),
    *("dotted_name", "is_stretch", "skim", "split_at_commas", "tokenise", "unquoted", "words_of"),
]

#: Functions and words around which everything is read. `_stretch` and the quick look know them by
#: parts of their names.
WATCHED = {
    *("GET_LOCK", "RELEASE_LOCK", "RELEASE_ALL_LOCKS"),
    *("SERVICE_GET_READ_LOCKS", "SERVICE_GET_WRITE_LOCKS", "SERVICE_RELEASE_LOCKS"),
    *("VERSION_TOKENS_LOCK_SHARED", "VERSION_TOKENS_LOCK_EXCLUSIVE", "VERSION_TOKENS_UNLOCK"),
    *("LAST_INSERT_ID", "FOUND_ROWS", "ROW_COUNT", "LASTVAL", "NEXTVAL", "PREVIOUS", "NEXT"),
    "INTO",
}


class TokenKind(Enum):
    WORD = "word"  #: a bare identifier, a keyword or a number
    NAME = "name"  #: `quoted by backticks`
    STRING = "string"  #: 'quoted'
    DOUBLE = "double"  #: "quoted": a string, or a name where sql_mode has ANSI_QUOTES
    VARIABLE = "variable"  #: @name, @`name`, @'name'; the host of an account looks the same
    MARKER = "marker"  #: a driver's placeholder, %s or %(key)s
    SIGN = "sign"  #: one character of punctuation, or @@
    BROKEN = "broken"  #: no server takes it: a literal that does not end, a backslash


class Token(NamedTuple):
    kind: TokenKind
    text: str  #: the source, without quotes or the leading @, doubled quotes still doubled
    word: str  #: upper-case for a WORD, the sign for a SIGN, empty for all that is quoted
    start: int
    end: int

    @property
    def may_be_name(self) -> bool:
        return self.kind in (TokenKind.WORD, TokenKind.NAME, TokenKind.DOUBLE)

    @property
    def may_be_text(self) -> bool:
        return self.kind in (TokenKind.STRING, TokenKind.DOUBLE)


class Reading(NamedTuple):
    """What the session's sql_mode and the server's version decide about a text."""

    escapes: bool = True  #: a backslash escapes in literals: no NO_BACKSLASH_ESCAPES
    ansi: bool = False  #: "..." is a name: ANSI_QUOTES
    conditional: bool = True  #: /*!80000 ...*/ and /*M! ...*/ are code: this server's

    def escapes_in(self, quote: str) -> bool:
        return self.escapes and (quote == "'" or (quote == '"' and not self.ansi))


#: How a server reads whose sql_mode is the default one, or any that leaves literals alone.
USUAL = Reading()

#: Executable comments up to this version are code on every server Django supports. MariaDB
#: skips 50700 to 99999, MySQL what is newer than itself (10.11.19 and 9.7.4 compared).
_EVERYWHERE_BELOW = 50700

#: What names and numbers are made of; the server takes every byte from 0x80 on for a letter.
LETTER = r"0-9A-Za-z_$\x80-\U0010ffff"

# Possessive repetitions need neither memory nor a way back, and are there since Python 3.11. The
# others need 200 bytes for each time.
POSSESSIVE = sys.version_info >= (3, 11)
ANY, SOME = ("*+", "++") if POSSESSIVE else ("*", "+")

#: What has no meaning of its own. A comment that does not end is not among it.
COMMENT = rf"""(?:
    \# [^\n]{ANY}
  | -- (?=[\x00-\x20\x7f]|\Z) [^\n]{ANY}               # without the blank it is arithmetic
  | /\* (?!M?!) [^*]{ANY} (?: \*(?!/) [^*]{ANY} ){ANY} \*/
)"""

_NEXT = re.compile(
    rf"""
    (?: [\x09-\x0d\x20]+ | {COMMENT} ){{1,999}}{"+" if POSSESSIVE else ""}
  | (?P<comment>  /\*(?!M?!))                            # it does not end
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


def literals(quote: str, *, escaped: bool) -> tuple[str, ...]:
    """The patterns of a literal, the most frequent one first.

    One that contains its quote, doubled, is two of them here.
    """
    # To look for the quote is ten times as fast as to look for the quote or a backslash.
    until_quote = f"[^{quote}]{ANY}"
    if not escaped:
        return (f"{quote}{until_quote}{quote}",)
    without_escaped_quote = rf"{until_quote}(?<!\\){quote}"
    # A single backslash before a quote escapes it; of two backslashes it is not known.
    escaped_quote = rf"{until_quote}(?<=[^\\]\\){quote}"
    exact = rf"[^{quote}\\]{ANY}(?:\\.[^{quote}\\]{ANY}){ANY}{quote}"
    return (
        f"{quote}{without_escaped_quote}",
        f"{quote}(?:(?:{escaped_quote}){SOME}{without_escaped_quote}|{exact})",
    )


_LITERALS = {
    (quote, escaped): re.compile(
        f"(?:{'|'.join(literals(quote, escaped=escaped))}){ANY}", re.DOTALL
    )
    for quote in "'\"`"
    for escaped in (True, False)
}
_KINDS = {"'": TokenKind.STRING, '"': TokenKind.DOUBLE, "`": TokenKind.NAME}

_COMMENT_EDGE = re.compile(r"/\*|\*/")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a"}

#: A longer token keeps no text of its own: a literal can be as long as the whole statement.
_LONGEST_TEXT = 65536

#: Characters of a text that are read token by token although they have no meaning of their own.
_REREADABLE = 20_000

#: Percent signs in pairs before an s: the drivers make no parameter of these.
_NO_PARAMETER = re.compile(r"(?<!%)(?:%%){1,99}s")


class Source:
    """A text as one reading of it has it, and what was met while it was read."""

    def __init__(self, text: str, reading: Reading) -> None:
        self.text = text
        self.reading = reading
        #: A comment in it is code for some servers only.
        self.conditional = False
        #: There is more in it than was worth reading: see `skim`.
        self.unread = False
        self._counted = (0, 0)  # up to where, and how many parameters
        self._rereadable = _REREADABLE

    def may_reread(self, length: int) -> bool:
        """Whether to read a stretch token by token after all. Not those of a bulk INSERT."""
        self._rereadable -= length
        return self._rereadable >= 0

    def parameter(self, marker: Token) -> int | str:
        """Its key, or its place among all parameters.

        Those inside literals are included: the drivers count them too.
        """
        if marker.text:
            return marker.text
        start, place = self._counted if self._counted[0] <= marker.start else (0, 0)
        place += self.text.count("%s", start, marker.start)
        if self.text.find("%%", start, marker.start) >= 0:
            place -= sum(1 for _ in _NO_PARAMETER.finditer(self.text, start, marker.start))
        self._counted = (marker.start, place)
        return place


def tokenise(source: Source, end: int = 0) -> Iterator[Token]:
    """The tokens from there on, of all statements, the semicolons between them included."""
    text, reading = source.text, source.reading
    in_code = False
    while match := _NEXT.match(text, end):
        start, end = match.span()
        kind = match.lastgroup
        if kind == "word":
            word = match.group() if end - start <= _LONGEST_TEXT else ""
            yield Token(TokenKind.WORD, word, word.upper(), start, end)
        elif kind == "sign":
            sign = match.group()
            if in_code and sign == "*" and text.startswith("/", end):
                end += 1
                in_code = False
            else:
                broken = sign == "\\" and not text.startswith("N", end)  # \N: MariaDB's NULL
                yield Token(TokenKind.BROKEN if broken else TokenKind.SIGN, sign, sign, start, end)
        elif kind == "quote":
            inside, end, closed = _quoted(text, start, reading)
            yield Token(
                _KINDS[match.group()] if closed else TokenKind.BROKEN, inside, "", start, end
            )
        elif kind == "variable":
            name = match.group()[1:_LONGEST_TEXT]
            closed = True
            if not name and text[end : end + 1] in _KINDS:
                name, end, closed = _quoted(text, end, reading)
            yield Token(TokenKind.VARIABLE if closed else TokenKind.BROKEN, name, "", start, end)
        elif kind == "system":
            yield Token(TokenKind.SIGN, "@@", "@@", start, end)
        elif kind == "marker":
            yield Token(TokenKind.MARKER, match.group()[2:-2], "", start, end)
        elif kind == "comment":
            return
        elif kind == "code":
            everywhere = match["mariadb"] is None and (
                match["version"] is None or int(match["version"]) < _EVERYWHERE_BELOW
            )
            source.conditional |= not everywhere
            if everywhere or reading.conditional:
                in_code = True
            else:
                end = _after_comment(text, end)


def unquoted(token: Token, reading: Reading) -> str:
    """The value of a quoted token."""
    quote = {TokenKind.STRING: "'", TokenKind.DOUBLE: '"'}.get(token.kind, "`")
    value = token.text.replace(quote * 2, quote)
    if reading.escapes_in(quote):
        value = _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[1]), value)
    return value


def _quoted(text: str, opening: int, reading: Reading) -> tuple[str, int, bool]:
    """What stands between the quotes, where it ends, and whether it does."""
    quote = text[opening]
    match = _LITERALS[quote, reading.escapes_in(quote)].match(text, opening)
    end = match.end() if match else opening
    if end == opening or text.startswith(quote, end):
        return "", len(text), False
    inside = text[opening + 1 : end - 1] if end - opening <= _LONGEST_TEXT else ""
    return inside, end, True


def _after_comment(text: str, position: int) -> int:
    """Where a skipped executable comment ends; one that it contains does not end it."""
    depth = 1
    while depth and (match := _COMMENT_EDGE.search(text, position)):
        depth += 1 if match.group() == "/*" else -1
        position = match.end()
    return position if not depth else len(text)


def is_stretch(token: Token) -> bool:
    """Whether it stands for a stretch without meaning; see `skim`."""
    return token.kind is TokenKind.SIGN and not token.text


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
    while index < len(tokens) and tokens[index].may_be_name:
        text = tokens[index].text
        parts.append(f"`{text}`" if "." in text else text)  # `s.t` is not s.t
        index += 1
        if index == len(tokens) or tokens[index].word != ".":
            break
        index += 1
    return ".".join(parts), tokens[index:]


def words_of(tokens: Sequence[Token]) -> list[str]:
    return [token.word for token in tokens]


#: Their verb says it all, what follows matters only for functions and variables. SET, DROP TABLE
#: and a routine's body are read to their end.
_SKIMMED = {"SELECT", "INSERT", "REPLACE", "UPDATE", "DELETE", "WITH", "VALUES"}
_INSERTING = {"INSERT", "REPLACE"}

#: Tokens read after a function that matters: its arguments. And after a variable: whether it is
#: assigned.
_PATIENCE = 64
_SHORT_PATIENCE = 8
#: With a lock this close to the beginning, the statement may be a call of its function alone.
_NEAR = 500

#: Tokens read of a text, and one more for each so many characters.
_MOST_TOKENS = 1000
_CHARACTERS_PER_TOKEN = 2000
#: A statement costs as much as so many tokens more.
_PER_STATEMENT = 4

#: In a text longer than this the statements that follow one another are not separated while they
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
            if token.kind is TokenKind.VARIABLE or token.word == "@@":
                patience = max(patience, _SHORT_PATIENCE)
            elif token.kind is not TokenKind.SIGN and token.text.upper() in WATCHED:
                patience = _PATIENCE
            if tokens_left > 0 and (patience > 0 or verb not in _SKIMMED):
                continue
            following = (1 + inserting) * (several and len(text) > _LONG)
            end = _stretch_end(source, token.end, following)
            if text.startswith("'", end):  # a literal that does not end
                yield Token(TokenKind.BROKEN, "", "", end, len(text))
                return
            if tokens_left <= 0:
                source.unread = not _NOTHING_MORE.match(text, end)
                return
            position = _before_last_word(text, token.end, end)
            if (
                position > token.end
                and not text[token.end : min(position, token.end + 9)].isspace()
            ):
                yield Token(TokenKind.SIGN, "", "", token.end, position)
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
