"""Between LSP's positions and places in a text, in the encoding that was agreed on. Pure.

A position out of range means the nearest one that is in it; one inside a character means its beginning.
Lines end with LF, CRLF or CR, as LSP has it.
"""

from __future__ import annotations

import re
from typing import Any

_LINE_END = re.compile(r"\r\n|\r|\n")


def offset_at(text: str, position: Any, encoding: str) -> int:
    """The place in `text` of a position as a client sends it."""
    line, character = (
        max(0, value) if isinstance(value, int) and not isinstance(value, bool) else 0
        for value in (_get(position, "line"), _get(position, "character"))
    )
    start = 0
    for _ in range(line):
        match = _LINE_END.search(text, start)
        if match is None:
            return len(text)
        start = match.end()
    end = _LINE_END.search(text, start)
    content = text[start : end.start() if end else len(text)]
    return start + _characters(content, character, encoding)


def position_at(text: str, offset: int, encoding: str) -> dict[str, int]:
    """The position of a place in `text`."""
    line, start = 0, 0
    for match in _LINE_END.finditer(text, 0, offset):
        if match.end() <= offset:
            line, start = line + 1, match.end()
    return {"line": line, "character": units(text[start:offset], encoding)}


def units(text: str, encoding: str) -> int:
    """Length of a text in the units that positions are counted in."""
    if encoding == "utf-8":
        return len(text.encode("utf-8", "surrogatepass"))
    if encoding == "utf-16":
        return len(text) + sum(ord(character) > 0xFFFF for character in text)
    return len(text)


def _characters(content: str, wanted: int, encoding: str) -> int:
    """How many characters of a line stand before `wanted` units."""
    if encoding == "utf-32" or content.isascii():
        return min(wanted, len(content))
    counted = 0
    for position, character in enumerate(content):
        counted += units(character, encoding)
        if counted > wanted:
            return position
    return len(content)


def _get(position: Any, name: str) -> Any:
    return position.get(name) if isinstance(position, dict) else None
