"""What of a model's answer is offered: cut while it streams, cleaned when it is there. Pure.

Two steps. `AnswerGuard` sees the answer grow and says when enough of it is there, so that the model
need not go on. `polish` makes of the text what can be inserted at the cursor, or nothing.

Invariants: inserting what `polish` gives never repeats the rest of the line; polishing it again changes
nothing; and it never takes away what the user has written.
"""

from __future__ import annotations

import re

from ollm_daemon.completion.cursor import (
    CLOSERS,
    OPEN_TO_CLOSE,
    Cursor,
    leading_space,
    open_brackets,
    opens_block,
    width,
)

MAX_REPEATS = 3
"""Times one line may stand in a row."""
_CHATTER = re.compile(
    r"\s*(sure[,!. ]|certainly[,!. ]|of course[,!. ]|here('s| is| are) |i'm sorry|i am sorry|i cannot|i can't"
    r"|as an ai|the (code|function|answer|missing) |this (code|function) |to complete |you can )",
    re.IGNORECASE,
)
_MARKS = re.compile(
    r"<\|?(fim_(prefix|suffix|middle|pad)|file_sep|repo_name|endoftext|im_(start|end)|end_of_text)\|?>"
    r"|<[|｜](fim|end|begin)[▁_ ](begin|hole|end|of[▁_]sentence)[|｜]>|<EOT>|<(PRE|SUF|MID)>"
    r"|\[(PREFIX|SUFFIX|MIDDLE)\]|<\[(fim-[a-z]+|end▁of▁sentence)\]>|</s>|<eos>"
)
_FENCE = re.compile(r"^[ \t]*(```|~~~).*$", re.MULTILINE)
_LINE_ENDS = re.compile(r"\r\n|\r|\n")


class AnswerGuard:
    """Watches an answer grow.

    Attributes:
        text: What has been taken so far, up to where it was cut.
        done: Nothing more of the answer is wanted.
    """

    def __init__(self, cursor: Cursor, *, block: bool, max_lines: int) -> None:
        self.text = ""
        self.done = False
        self._cursor = cursor
        self._block = block
        self._max_lines = max_lines if block else 1
        self._checked = 0
        self._next = [line.strip() for line in cursor.following_lines(1)]
        self._rest = cursor.line_after.strip()
        base = cursor.line_before if not cursor.is_blank else cursor.indent
        self._base = width(leading_space(base))
        self._opened = opens_block(cursor.line_before, cursor.language)

    def feed(self, piece: str) -> None:
        """Take the next piece of the answer."""
        if self.done:
            return
        self.text += _LINE_ENDS.sub("\n", piece)
        mark = _MARKS.search(self.text)
        if mark:
            self._cut(mark.start())
        while not self.done and (end := self.text.find("\n", self._checked)) >= 0:
            self._take_line(self._checked, end)

    def _take_line(self, start: int, end: int) -> None:
        """Look at one finished line."""
        line = self.text[start:end]
        is_first = start == 0
        self._checked = end + 1
        if self._is_beyond(line, is_first):
            self._cut(start)
        elif self._closes_scope(line, is_first) or self._is_enough():
            self._cut(end)

    def _is_beyond(self, line: str, is_first: bool) -> bool:
        """Whether a line is no longer part of what is wanted."""
        stripped = line.strip()
        if not stripped:
            # Two empty lines in a row end a thought.
            return not is_first and self.text[: self._checked - 1].endswith("\n\n")
        if _FENCE.match(line) and not is_first:
            return True
        if stripped in self._next and (len(stripped) > 2 or not is_first):
            return True
        if is_first or self._cursor.language.is_prose:
            return False
        indent = width(leading_space(line))
        if indent < self._base or (self._opened and indent == self._base):
            return not self._is_closing(stripped)
        return False

    def _closes_scope(self, line: str, is_first: bool) -> bool:
        """Whether a line ends the block that the cursor stands in or has opened."""
        if is_first or not self._is_closing(line.strip()):
            return False
        indent = width(leading_space(line))
        return indent < self._base or (indent == self._base and self._opened)

    def _is_closing(self, stripped: str) -> bool:
        language = self._cursor.language
        word = re.match(r"\w+", stripped)
        return (language.blocks != "indentation" and stripped[:1] in CLOSERS) or (
            word is not None and word[0] in language.enders
        )

    def _is_enough(self) -> bool:
        lines = self.text[: self._checked - 1].split("\n")
        filled = [line for line in lines if line.strip()]
        if not self._block:
            return bool(filled)
        if len(lines) >= self._max_lines:
            return True
        return _is_run([line.strip() for line in filled[-MAX_REPEATS:]])

    def _cut(self, end: int) -> None:
        self.text = self.text[:end]
        self.done = True


def polish(answer: str, cursor: Cursor, *, block: bool) -> str:
    """The text to insert at the cursor; empty when nothing of the answer is of use."""
    text = _unfenced(_LINE_ENDS.sub("\n", answer))
    mark = _MARKS.search(text)
    text = text[: mark.start()] if mark else text
    if not cursor.language.is_prose and _CHATTER.match(text):
        return ""
    text = _without_echo(text, cursor)
    if not block:
        text = _first_line(text, cursor)
    text = _without_repeats(text)
    text = _indented(text, cursor)
    text = _without_next_lines(text, cursor)
    text = _without_rest(text, cursor)
    text = _balanced(text, cursor)
    text = text.rstrip() if not cursor.line_after.strip() else text.rstrip("\n")
    if not text.strip():
        return ""
    return text.replace("\n", cursor.eol)


def _unfenced(text: str) -> str:
    """What stands inside a code fence, if the answer begins with one or with a sentence before one."""
    fences = list(_FENCE.finditer(text))
    if not fences:
        return text
    first = fences[0]
    before = text[: first.start()].strip()
    if before and not _CHATTER.match(before) and not before.endswith(":"):
        return text[: first.start()]
    end = fences[1].start() if len(fences) > 1 else len(text)
    return text[first.end() + 1 : end].rstrip("\n")


def _without_echo(text: str, cursor: Cursor) -> str:
    """The answer without the beginning of the line, which some models write again."""
    begun = cursor.line_before.strip()
    head = text.lstrip()
    if len(begun) >= 4 and head.startswith(begun):
        return head[len(begun) :]
    return text


def _first_line(text: str, cursor: Cursor) -> str:
    """One line; an answer that begins with a line end has none for a line that has begun."""
    if cursor.is_blank:
        text = text.lstrip("\n")
    return text.partition("\n")[0]


def _without_repeats(text: str) -> str:
    """The answer up to where one line is repeated over and over."""
    lines = text.split("\n")
    for position in range(len(lines) - MAX_REPEATS + 1):
        if _is_run([line.strip() for line in lines[position : position + MAX_REPEATS]]):
            return "\n".join(lines[: position + 1])
    return text


def _is_run(lines: list[str]) -> bool:
    """Whether lines are one line over and over; single characters may well be."""
    return len(lines) == MAX_REPEATS and len(set(lines)) == 1 and len(lines[0]) > 1


def _indented(text: str, cursor: Cursor) -> str:
    """The answer in the file's kind of white space, without the indentation that is there already."""
    if cursor.is_blank and cursor.line_before:
        stripped = text.lstrip(" \t")
        if width(leading_space(text)) >= width(cursor.line_before) or "\n" not in text:
            text = stripped
    uses_tabs = "\n\t" in cursor.prefix or cursor.indent.startswith("\t")
    if not uses_tabs or "\n    " not in text:
        return text
    first, *rest = text.split("\n")
    return "\n".join([first, *(_with_tabs(line) for line in rest)])


def _with_tabs(line: str) -> str:
    space = leading_space(line)
    return "\t" * (width(space) // 4) + " " * (width(space) % 4) + line[len(space) :]


def _without_next_lines(text: str, cursor: Cursor) -> str:
    """The answer without lines at its end that stand below the cursor anyway."""
    lines = text.rstrip("\n").split("\n")
    below = [line.strip() for line in cursor.following_lines(len(lines))]
    if not below:
        return text
    for count in range(min(len(lines), len(below)), 0, -1):
        tail = [line.strip() for line in lines[-count:]]
        if tail != below[:count]:
            continue
        is_whole = count == len(lines)
        if is_whole and not cursor.is_blank:
            continue
        if is_whole or any(len(line) > 2 for line in tail) or tail[0][:1] in CLOSERS:
            return "\n".join(lines[:-count])
    return text


def _without_rest(text: str, cursor: Cursor) -> str:
    """The answer without what stands behind the cursor in its line."""
    rest = cursor.line_after.strip()
    if not rest:
        return text
    first, newline, below = text.partition("\n")
    if not newline or not below.strip():
        return _trim_overlap(first, rest)
    # Of several lines the last may repeat it, as the closing bracket of a block does.
    return _trim_overlap(text, rest) if len(rest) <= 3 else text


def _trim_overlap(text: str, rest: str) -> str:
    """The text without the longest end that the rest of the line begins with; words are not cut apart."""
    trimmed = text.rstrip()
    for size in range(min(len(trimmed), len(rest)), 0, -1):
        if not trimmed.endswith(rest[:size]):
            continue
        cuts_word = rest[size - 1].isalnum() and rest[size : size + 1].isalnum()
        is_letter = size < 3 and rest[:size].isalnum() and size < len(rest)
        if not cuts_word and not is_letter:
            return trimmed[: len(trimmed) - size]
    return text


def _balanced(text: str, cursor: Cursor) -> str:
    """The answer up to a bracket that closes what the rest of the line closes already."""
    rest = [character for character in cursor.line_after if character in CLOSERS]
    if not rest:
        return text
    quotes = cursor.language.quotes
    outer = open_brackets(cursor.prefix, quotes)
    free = len(outer) - len(rest)
    depth: list[str] = []
    quote = None
    for position, character in enumerate(text):
        if quote:
            quote = None if character == quote and text[position - 1 : position] != "\\" else quote
        elif character in quotes:
            quote = character
        elif character in OPEN_TO_CLOSE:
            depth.append(character)
        elif character in CLOSERS:
            if depth and OPEN_TO_CLOSE[depth[-1]] == character:
                depth.pop()
            elif free > 0:
                free -= 1
            else:
                return text[:position]
    return text
