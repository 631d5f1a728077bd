"""What of a model's answer is offered: cut while it streams, cleaned when it is there. Pure.

Two steps. `AnswerGuard` sees the answer grow and says when enough of it is there, so that the model
need not go on. `polish` makes of the text what can be inserted at the cursor, or nothing.

Invariants: how an answer is cut into pieces changes nothing; what `polish` gives closes no bracket and
no string that the rest of the line closes, nor ends with words of it; polishing it again changes nothing.
"""

from __future__ import annotations

import re
import sys

from ollm_daemon.completion.cursor import (
    CLOSINGS,
    LOOKED_AT,
    OPEN_TO_CLOSE,
    Cursor,
    Reading,
    begins,
    column,
    in_text,
    leading_space,
    opens_block,
    read,
    step_of,
    width,
)
from ollm_daemon.completion.families import MARKS

MAX_REPEATS = 3
"""Times in a row that the same lines may stand."""
MAX_PERIOD = 4
"""Lines that are looked at together for repetition."""
_STATEMENTS = ("if", "for", "foreach", "while", "with", "try", "switch", "match", "do", "return", "unless")
"""Words of statements that follow each other in one block, unlike functions."""
_LEAST_ECHO = 4
"""Characters of the cursor's line that an answer begins with by no accident."""
_LEAST_ABOVE = 8
"""Characters of the line above that an answer begins with by no accident."""
_PASSES = 8
"""Times an answer is cleaned at most until nothing changes; two are the rule."""
_CHATTER = re.compile(
    r"\s*(sure[,!. ]|certainly[,!. ]|of course[,!. ]|here('s| is| are) |i'm sorry|i am sorry|i cannot "
    r"|i can't |as an ai|the (code|function|answer|missing) |this (code|function) |to complete |you can )",
    re.IGNORECASE,
)
_MARKS = re.compile("|".join(re.escape(mark) for mark in sorted(MARKS, key=len, reverse=True)))
_FENCE = re.compile(r"\s*(```|~~~)")
_LINE_ENDS = re.compile(r"\r\n|\r|\n")
_WITHIN_WORD = re.compile(r"\w\w")
_HEAD = re.compile(r"\w+|[^\w\s]+")


class AnswerGuard:
    """Watches an answer grow.

    Attributes:
        text: What has been taken so far, up to where it was cut.
        done: Nothing more of the answer is wanted.
    """

    def __init__(self, cursor: Cursor, *, block: bool, max_lines: int) -> None:
        self.text = ""
        self.done = False
        self._held = ""
        self._cursor = cursor
        self._language = cursor.language
        self._block = block
        self._max_lines = max_lines
        self._checked = 0
        self._before: list[str] = []  # lines that precede the answer itself
        self._lines: list[str] = []
        self._ends: list[int] = []
        self._is_text = in_text(cursor)
        self._below = cursor.line_below
        self._base = width(cursor.indent)
        self._opened = opens_block(cursor.line_before, cursor.language)

    def feed(self, piece: str) -> None:
        """Take the next piece of the answer."""
        if self.done:
            return
        piece = self._held + piece
        self._held = "\r" if piece.endswith("\r") else ""  # its line feed may come with the next piece
        self.text += _LINE_ENDS.sub("\n", piece[: len(piece) - len(self._held)])
        mark = _MARKS.search(self.text, self._checked)
        limit = mark.start() if mark else len(self.text)
        while not self.done and (end := self.text.find("\n", self._checked, limit)) >= 0:
            self._take_line(self._checked, end)
        if mark and not self.done:
            self._cut(mark.start())

    def _take_line(self, start: int, end: int) -> None:
        """Look at one finished line."""
        line = self.text[start:end]
        self._checked = end + 1
        if not self._lines and _own_start([*self._before, line], self._cursor) > len(self._before):
            self._before.append(line)
            is_complete = not self._block and not self._cursor.is_blank and not line.strip()
            if is_complete or len(self._before) > self._max_lines:
                self._cut(end)
            return
        if not self._lines and self._cursor.is_blank:
            is_apart = _is_apart(self._before, line, self._cursor)
            self._base = column(line) if is_apart else max(self._base, column(line))
        if self._is_beyond(line):
            self._cut(start)
            return
        self._lines.append(line)
        self._ends.append(end)
        if not self._block or len(self._lines) >= self._max_lines or self._closes_scope(line):
            self._cut(end)
        elif (kept := self._before_repeats()) is not None:
            self._cut(self._ends[kept - 1])

    def _is_beyond(self, line: str) -> bool:
        """Whether a line is no longer part of what is wanted."""
        is_first = not self._lines
        stripped = line.strip()
        if not stripped:
            return not self._lines[-1].strip()  # two empty lines in a row end a thought
        if self._is_below(line, is_first):
            return True
        if is_first:
            return False
        if not self._is_text and (_FENCE.match(line) or _CHATTER.match(line) or self._is_sibling(line)):
            return True
        if self._language.is_prose or not self._is_outside(line):
            return False
        if self._goes_on(line):
            return not self._opened or column(line) < self._base
        return not self._is_closing(line) or self._is_closed_below(line)

    def _is_below(self, line: str, is_first: bool) -> bool:
        """Whether a line stands below the cursor anyway."""
        if self._below is None or line.strip() != self._below.strip():
            return False
        if not is_first:
            return column(line) == column(self._below)
        return self._cursor.is_blank and (len(line.strip()) > 2 or self._base == column(self._below))

    def _is_sibling(self, line: str) -> bool:
        """Whether, after an empty line, another block begins that is like the first."""
        first = self._lines[0]
        if self._opened or self._lines[-1].strip() or column(line) > self._base:
            return False
        both_open = opens_block(first, self._language) and opens_block(line, self._language)
        return _head(first) == _head(line) or (both_open and not begins(line, _STATEMENTS))

    def _is_outside(self, line: str) -> bool:
        """Whether a line does not stand in the block that the cursor stands in or has opened."""
        return column(line) < self._base or (self._opened and column(line) == self._base)

    def _closes_scope(self, line: str) -> bool:
        """Whether a line ends the block that the cursor stands in or has opened."""
        if len(self._lines) == 1 or self._language.is_prose or not line.strip():
            return False
        return self._is_outside(line) and self._is_closing(line) and not self._goes_on(line)

    def _is_closing(self, line: str) -> bool:
        return begins(line, CLOSINGS) or begins(line, self._language.enders)

    def _goes_on(self, line: str) -> bool:
        """Whether a line goes on with a statement whose block it ends, as `} else {` does."""
        if begins(line, self._language.middles):
            return True
        return self._is_closing(line) and opens_block(line, self._language)

    def _is_closed_below(self, line: str) -> bool:
        """Whether the block that a line ends goes on below the cursor, or is ended there."""
        if begins(self._cursor.line_after, CLOSINGS) and begins(line, CLOSINGS):
            return True
        below = self._below
        if below is None:
            return False
        is_end = self._is_closing(below) or begins(below, self._language.middles)
        return column(below) > column(line) or (is_end and column(below) == column(line))

    def _before_repeats(self) -> int | None:
        """How many lines there are before the same ones come over and over."""
        for period in range(1, MAX_PERIOD + 1):
            last = self._lines[-period:]
            if self._lines[-period * MAX_REPEATS :] != last * MAX_REPEATS:
                continue
            if len("".join(last).strip()) > 1:
                return len(self._lines) - period * (MAX_REPEATS - 1)
        return None

    def _cut(self, end: int) -> None:
        self.text = self.text[:end]
        self.done = True


def polish(answer: str, cursor: Cursor, *, block: bool) -> str:
    """The text to insert at the cursor; empty when nothing of the answer is of use."""
    for _ in range(_PASSES):
        text = _polished(answer, cursor, block=block)
        if text == answer:
            break
        answer = text
    return answer.replace("\n", cursor.eol)


def _polished(answer: str, cursor: Cursor, *, block: bool) -> str:
    guard = AnswerGuard(cursor, block=block, max_lines=sys.maxsize)
    guard.feed(answer)
    guard.feed("\n")  # its last line is looked at like the others
    text = _own_text(guard.text, cursor)
    text = _without_echo(text, cursor)
    if not block:
        text = text.partition("\n")[0]
    if cursor.is_blank:
        text = _without_own_indent(text, cursor)
    elif (
        block and column(text) > width(cursor.indent) + 1 and opens_block(cursor.line_before, cursor.language)
    ):
        text = "\n" + text
    text = _in_its_white_space(text, cursor)
    text = _fitted(text, cursor)
    return text if text.strip() else ""


def _own_start(lines: list[str], cursor: Cursor) -> int:
    """The first line that is the answer itself: behind talk, a fence, and the line above written again."""
    if in_text(cursor):
        return next((position for position, line in enumerate(lines) if line.strip()), len(lines))
    above = cursor.line_above.strip()
    is_talking = False
    for position, line in enumerate(lines):
        if _FENCE.match(line):
            is_talking = False
        elif line.strip() and not is_talking:
            if _CHATTER.match(line):
                is_talking = not line.rstrip().endswith(":")
            elif line.strip() != above or len(above) < _LEAST_ABOVE:
                return position
    return len(lines)


def _own_text(text: str, cursor: Cursor) -> str:
    """The answer itself, on a line of its own if it began with an empty one behind what is written."""
    lines = text.rstrip("\n").split("\n")
    start = _own_start(lines, cursor)
    before, own = lines[:start], lines[start:]
    if own and _is_apart(before, own[0], cursor):
        own = [own[0], *(cursor.indent + line if line.strip() else line for line in own[1:])]
    if not cursor.is_blank and any(not line.strip() for line in before):
        own = ["", *own]
    return "\n".join(own)


def _is_apart(before: list[str], first: str, cursor: Cursor) -> bool:
    """Whether an answer is code on its own, in a fence and not indented as its place is."""
    is_fenced = not cursor.language.is_prose and any(_FENCE.match(line) for line in before)
    return is_fenced and cursor.is_blank and column(first) < width(cursor.indent)


def _without_echo(text: str, cursor: Cursor) -> str:
    """The answer without the beginning of the line or of the word, which some models write again."""
    if cursor.is_blank:
        return text
    line = cursor.line_before
    begun = line.strip()
    head = text.lstrip()
    if len(begun) >= _LEAST_ECHO and re.search(r"\w", begun) and head.startswith(begun):
        text = head[len(begun) :]
    else:
        word, again = re.search(r"\w+$", line), re.match(r"\w+", text)
        if word and again and len(again[0]) > len(word[0]) > 1 and again[0].startswith(word[0]):
            text = text if word[0].isdigit() else text[len(word[0]) :]
    return text.lstrip(" \t") if line[-1:].isspace() else text


def _without_own_indent(text: str, cursor: Cursor) -> str:
    """The answer without the cursor's own indentation, where it has written that again."""
    first, *others = [line for line in text.split("\n") if line.strip()] or [""]
    own, given = width(cursor.indent), column(first)
    if not own or not given:
        return text
    opens, above = opens_block(first, cursor.language), cursor.line_above
    if others:
        # In its place the first line stands no deeper than the next one, or less deep if it opens a block.
        fits = own + given < column(others[0]) + (not opens)
        wanted = given if fits else max(0, given - own)
    elif opens_block(above, cursor.language) and own <= column(above):
        wanted = given if given <= own else given - own
    else:
        wanted = 0
    if wanted == given:
        return text
    tabs = wanted // 4 if "\t" in leading_space(text) else 0
    return "\t" * tabs + " " * (wanted - 4 * tabs) + text.lstrip(" \t")


def _in_its_white_space(text: str, cursor: Cursor) -> str:
    """The answer indented as the file is: by tabs, or by as many spaces."""
    uses_tabs = cursor.uses_tabs
    lines = text.split("\n")
    spaces = [leading_space(line) for line in lines]
    wide = [space for space in spaces if width(space) > 1]
    if uses_tabs is None or all(("\t" in space) is uses_tabs for space in wide):
        return text
    if uses_tabs:
        step = step_of(lines)
        spaces = [_tabbed(space, step) for space in spaces]
    else:
        step = step_of(line for line in cursor.near.splitlines() if not line.startswith("\t"))
        spaces = [space.replace("\t", " " * step) for space in spaces]
    return "\n".join(space + line.lstrip(" \t") for space, line in zip(spaces, lines, strict=True))


def _tabbed(space: str, step: int) -> str:
    blanks = space.count(" ")
    return "\t" * (space.count("\t") + blanks // step) + " " * (blanks % step)


def _fitted(text: str, cursor: Cursor) -> str:
    """The answer up to where the rest of the line goes on: nothing stands twice, and brackets match."""
    rest = cursor.line_after.rstrip()
    if not rest:
        return text.rstrip()
    here = _state_at(cursor)
    reading = read(text, cursor.language, here)
    candidates = [*_without_overlap(text, rest), text, *_without_closed(text, reading)]
    best = min(candidates, key=lambda one: read(one + rest, cursor.language, here).odds)
    if rest.endswith(";") and best.endswith(";") and "\n" not in best:
        best = best.rstrip(";")
    if best.startswith("\n") and OPEN_TO_CLOSE.get(cursor.line_before.rstrip()[-1:]) == rest.lstrip()[0]:
        return best.rstrip() + "\n" + cursor.indent
    return best.rstrip() if rest[0].isspace() else best.rstrip("\n")


def _state_at(cursor: Cursor) -> Reading:
    """What is open at the cursor; brackets in a string count where one is open there, as in `f"{`."""
    state = read(cursor.prefix[-LOOKED_AT:], cursor.language)
    if state.quote:
        inner = read(cursor.prefix.rpartition(state.quote)[2], cursor.language)
        if inner.opened:
            resume = (len(state.opened), state.quote)
            return Reading(opened=[*state.opened, *inner.opened], strays=state.strays, resume=resume)
    return state


def _without_overlap(text: str, rest: str) -> list[str]:
    """Shorter texts, without an end that the rest of the line begins with; words are not cut apart."""
    whole = text.rstrip()
    shorter = []
    for wanted in dict.fromkeys((rest, rest.lstrip())):
        for size in range(min(len(whole), len(wanted)), 0, -1):
            if not whole.endswith(wanted[:size]):
                continue
            left = whole[: len(whole) - size]
            cuts_wanted = _WITHIN_WORD.search(wanted[size - 1 : size + 1])
            cuts_text = size < 3 and _WITHIN_WORD.search(left[-1:] + wanted[:1])
            if not cuts_wanted and not cuts_text:
                shorter.append(left)
    return shorter


def _without_closed(text: str, reading: Reading) -> list[str]:
    """Shorter texts, up to where something ends that was open before them."""
    places = [*reading.closed, *([] if reading.left is None else [reading.left])]
    return [text[:place] for place in sorted(places, reverse=True)]


def _head(line: str) -> str:
    head = _HEAD.search(line)
    return head[0] if head else ""
