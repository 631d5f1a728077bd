"""The place where text is wanted: the lines around it, and whether one line is wanted or a block. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ollm_daemon.completion.languages import Language

OPEN_TO_CLOSE = {"(": ")", "[": "]", "{": "}"}
CLOSERS = frozenset(OPEN_TO_CLOSE.values())
_ONLY_CLOSERS = re.compile(r"[\s)\]}>;,:'\"`]*")
_LOOKED_AT = 4000
"""Characters before the cursor in which open brackets are looked for."""


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
        return re.split(r"\r\n|\r|\n", self.suffix, maxsplit=1)[0]

    @property
    def indent(self) -> str:
        """The white space that its line begins with."""
        return leading_space(self.line_before)

    @property
    def eol(self) -> str:
        """The line ends of its text: those near it."""
        near = self.prefix[-_LOOKED_AT:] + self.suffix[:_LOOKED_AT]
        return "\r\n" if near.count("\r\n") * 2 > near.count("\n") else "\n"

    @property
    def is_blank(self) -> bool:
        """Whether nothing but white space stands before it in its line."""
        return not self.line_before.strip()

    def following_lines(self, count: int) -> list[str]:
        """The next lines that are not blank, below its own."""
        lines = re.split(r"\r\n|\r|\n", self.suffix[: 200 * count + 2000])[1:]
        return [line for line in lines if line.strip()][:count]


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
    if in_comment(cursor):
        return False
    if cursor.is_blank:
        return not after.strip()
    if in_string(cursor):
        return False
    return opens_block(before, cursor.language) or (invoked and not after.strip())


def opens_block(line: str, language: Language) -> bool:
    """Whether a line ends with what opens a block."""
    code = _without_comment(line, language).rstrip()
    for opener in language.openers:
        if code.endswith(opener):
            is_word = opener[-1].isalnum()
            before = code[: -len(opener)]
            if not is_word or not before or not (before[-1].isalnum() or before[-1] == "_"):
                return True
    return False


def in_comment(cursor: Cursor) -> bool:
    """Whether it stands in a comment to the end of its line."""
    return _without_comment(cursor.line_before, cursor.language) != cursor.line_before


def in_string(cursor: Cursor) -> bool:
    """Whether it stands in a string that its line began."""
    return _open_quote(cursor.line_before, cursor.language.quotes) is not None


def open_brackets(text: str, quotes: str) -> list[str]:
    """Brackets that the end of `text` has opened and not closed, the innermost last."""
    stack: list[str] = []
    for line in text[-_LOOKED_AT:].splitlines():
        quote = None
        for position, character in enumerate(line):
            if quote:
                if character == quote and line[position - 1 : position] != "\\":
                    quote = None
            elif character in quotes:
                quote = character
            elif character in OPEN_TO_CLOSE:
                stack.append(character)
            elif character in CLOSERS and stack and OPEN_TO_CLOSE[stack[-1]] == character:
                stack.pop()
    return stack


def leading_space(line: str) -> str:
    """The white space a line begins with."""
    return line[: len(line) - len(line.lstrip(" \t"))]


def width(space: str) -> int:
    """Columns of white space, a tab counted as four."""
    return sum(4 if character == "\t" else 1 for character in space)


def _line_start(text: str) -> int:
    return max(text.rfind("\n"), text.rfind("\r")) + 1


def _open_quote(line: str, quotes: str) -> str | None:
    """The quote that a line has begun and not ended."""
    quote = None
    for position, character in enumerate(line):
        if character not in quotes or line[position - 1 : position] == "\\":
            continue
        if quote is None:
            quote = character
        elif quote == character:
            quote = None
    return quote


def _without_comment(line: str, language: Language) -> str:
    """The code of a line; a comment's beginning inside a string does not count."""
    start = line.find(language.comment) if language.comment else -1
    while start >= 0:
        if _open_quote(line[:start], language.quotes) is None and not _is_part_of_address(line, start):
            return line[:start]
        start = line.find(language.comment, start + 1)
    return line


def _is_part_of_address(line: str, start: int) -> bool:
    """Whether `//` belongs to something like `http://`."""
    return line[start - 1 : start] == ":" and line[start : start + 2] == "//"
