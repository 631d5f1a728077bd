"""The place where text is wanted: the lines around it, and whether one line is wanted or a block. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from ollm_daemon.completion.languages import Language

OPEN_TO_CLOSE = {"(": ")", "[": "]", "{": "}"}
CLOSERS = frozenset(OPEN_TO_CLOSE.values())
BRACKETS = CLOSERS | OPEN_TO_CLOSE.keys()
CLOSINGS = (*sorted(CLOSERS), "</", "/>")
"""What begins a line that ends a block in any language."""
_ONLY_CLOSERS = re.compile(r"(?:\(\)|[\s)\]}>;,:'\"`])*")
_LINE_END = re.compile(r"\r\n|\r|\n")
LOOKED_AT = 4000
"""Characters on either side of the cursor that tell its surroundings."""
TEXT_LOOKED_AT = 100_000
"""Characters before the cursor in which a comment or a string of several lines may have begun."""
_TAG = re.compile(
    r"(?:^|[\s(>{&|?:])<(?!(?:area|base|br|col|embed|hr|img|input|link|meta|source|wbr)\b)"
    r"(?:[A-Za-z](?:=>|[^<>])*)?(?<![/=])>$"
)
"""An opening tag at the end of a line; a comparison or a type argument is none."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a text.

    Attributes:
        prefix: All that stands before it.
        suffix: All that stands behind it.
        language: What it is written in.
    """

    prefix: str
    suffix: str
    language: Language

    @property
    def line_before(self) -> str:
        """The part of its line before it."""
        return self.prefix[_line_start(self.prefix) :]

    @property
    def line_after(self) -> str:
        """The part of its line behind it, without the line's end."""
        end = _LINE_END.search(self.suffix)
        return self.suffix[: end.start()] if end else self.suffix

    @property
    def line_above(self) -> str:
        """The last line above its own that is not blank."""
        end = _line_start(self.prefix)
        text = self.prefix[max(0, end - LOOKED_AT) : end].rstrip()
        return text[_line_start(text) :]

    @property
    def line_below(self) -> str | None:
        """The next line below its own that is not blank."""
        start = len(self.line_after)
        for line in _LINE_END.split(self.suffix[start : start + LOOKED_AT]):
            if line.strip():
                return line
        return None

    @property
    def indent(self) -> str:
        """The white space that its line begins with."""
        return leading_space(self.line_before)

    @property
    def eol(self) -> str:
        """The line ends of its text: those near it."""
        near = self.near
        return "\r\n" if near.count("\r\n") * 2 > near.count("\n") else "\n"

    @property
    def near(self) -> str:
        """The text around it."""
        return self.prefix[-LOOKED_AT:] + self.suffix[:LOOKED_AT]

    @property
    def is_blank(self) -> bool:
        """Whether nothing but white space stands before it in its line."""
        return not self.line_before.strip()

    @property
    def uses_tabs(self) -> bool | None:
        """Whether lines are indented by tabs; `None` where none is indented."""
        if self.indent:
            return "\t" in self.indent
        tabs, spaces = len(re.findall(r"[\r\n]\t", self.near)), len(re.findall(r"[\r\n]  ", self.near))
        return tabs > spaces if tabs or spaces else None


def wants_block(cursor: Cursor, *, invoked: bool) -> bool:
    """Whether several lines may be offered here: where a line is empty or has just opened a block.

    Args:
        invoked: The user asked for it, so that a line that is complete may go on below.
    """
    before, after = cursor.line_before, cursor.line_after
    if not _ONLY_CLOSERS.fullmatch(after):
        return False
    if cursor.language.is_prose:
        return cursor.is_blank or invoked
    if cursor.is_blank:
        return not after.strip()
    line = read(before, cursor.language)
    if line.comment is not None or line.quote is not None:
        return False
    if before == before.rstrip() and opens_block(before, cursor.language):  # behind a space the line goes on
        # Between parentheses that the editor has closed stand arguments; between braces a block.
        return not after.strip() or not before.endswith(("(", "["))
    return invoked and not after.strip()


def opens_block(line: str, language: Language) -> bool:
    """Whether a line ends with what opens a block."""
    reading = read(line, language)
    code = line[: reading.comment].rstrip()
    if not code or reading.quote is not None:
        return False
    if language.has_tags and _TAG.search(code):
        return True
    if code.endswith(")") and any(re.search(rf"\b{word}\b", code) for word in language.heads):
        return True
    for opener in language.openers:
        if not code.endswith(opener) or (opener == ":" and reading.opened):
            continue  # a colon between brackets belongs to a slice, a key or a type
        if not opener[-1].isalnum() or not re.search(rf"\w{re.escape(opener)}$", code):
            return True
    return False


def in_text(cursor: Cursor) -> bool:
    """Whether it stands among sentences: in prose, in a comment, or in a string of several lines."""
    if cursor.language.is_prose or read(cursor.line_before, cursor.language).comment is not None:
        return True
    before = cursor.prefix[-TEXT_LOOKED_AT:]
    return any(_is_between(before, start, end) for start, end in cursor.language.texts)


@dataclass(slots=True)
class Reading:
    """Where a text has come to, for brackets and strings.

    Attributes:
        quote: The quote of the string that its end stands in.
        opened: Brackets that are open at its end, the innermost last.
        closed: Places where it closes what was open, or nothing, before it began.
        left: Where it ends the string that it began in.
        strays: Brackets that close nothing.
        comment: Where a comment begins in its last line.
        resume: With how few open brackets a string goes on, as behind the `}` of `f"{name}"`, and its quote.
    """

    quote: str | None = None
    opened: list[str] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    left: int | None = None
    strays: int = 0
    comment: int | None = None
    resume: tuple[int, str] | None = None

    @property
    def odds(self) -> int:
        """How many brackets and strings do not match."""
        return len(self.opened) + self.strays + (self.quote is not None) + (self.resume is not None)

    def take_bracket(self, bracket: str, position: int, outer: int) -> int:
        """Take a bracket; gives how many of those open before the text are open still."""
        if bracket in OPEN_TO_CLOSE:
            self.opened.append(bracket)
            return outer
        if len(self.opened) <= outer or OPEN_TO_CLOSE[self.opened[-1]] != bracket:
            self.closed.append(position)
        if self.opened and OPEN_TO_CLOSE[self.opened[-1]] == bracket:
            self.opened.pop()
        else:
            self.strays += 1
        if self.resume and len(self.opened) <= self.resume[0]:
            self.quote, self.resume = self.resume[1], None
        return min(outer, len(self.opened))


def read(text: str, language: Language, before: Reading | None = None) -> Reading:
    """Brackets and strings of a text, from its beginning or from where another text has come to."""
    now = Reading()
    if before:
        now = Reading(before.quote, [*before.opened], strays=before.strays, resume=before.resume)
        now.comment = None if before.comment is None else 0
    outer, began_in = len(now.opened), now.quote
    position = -1
    while (position := position + 1) < len(text):
        character = text[position]
        if character in "\r\n":
            now.quote = now.quote if now.quote == "`" else None
            now.comment = None
        elif now.comment is not None:
            continue
        elif character == "\\":
            position += 1  # what is escaped means nothing
        elif now.quote:
            if character == now.quote:
                now.left = position if began_in and now.left is None else now.left
                now.quote = None
        elif _begins_comment(text, position, language.comment):
            now.comment = position
        elif character in language.quotes:
            now.quote = character
        elif character in BRACKETS:
            outer = now.take_bracket(character, position, outer)
    return now


def leading_space(line: str) -> str:
    """The white space a line begins with."""
    return line[: len(line) - len(line.lstrip(" \t"))]


def width(space: str) -> int:
    """Columns of white space, a tab counted as four."""
    return sum(4 if character == "\t" else 1 for character in space)


def column(line: str) -> int:
    """Columns that a line is indented by."""
    return width(leading_space(line))


def step_of(lines: Iterable[str]) -> int:
    """Spaces of one level of indentation in lines."""
    spaces = [
        len(leading_space(line)) for line in lines if line.strip() and not line.lstrip().startswith("*")
    ]
    step = math.gcd(*spaces)
    return step if step in (2, 3, 4) else 4


def begins(line: str, words: Iterable[str]) -> bool:
    """Whether a line's code begins with one of some words or signs."""
    code = line.lstrip()
    return any(
        code.startswith(word) and not (word[-1].isalnum() and re.match(r"\w", code[len(word) :]))
        for word in words
    )


def _line_start(text: str) -> int:
    return max(text.rfind("\n"), text.rfind("\r")) + 1


def _begins_comment(text: str, position: int, comment: str) -> bool:
    if not comment or not text.startswith(comment, position):
        return False
    before = text[position - 1 : position]
    if comment == "//":
        return before != ":"  # of an address
    return comment == "--" or not before or before.isspace()


def _is_between(text: str, start: str, end: str) -> bool:
    """Whether the end of a text stands between two marks; the first counts where a word could begin."""
    if start == end:
        return text.count(start) % 2 == 1
    begun = max(text.rfind(space + start) for space in (" ", "\t", "\n"))
    begun = begun if begun >= 0 or not text.startswith(start) else 0
    return begun >= 0 and text.find(end, begun + len(start)) < 0
