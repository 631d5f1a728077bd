"""YAML that cannot hurt: plain data with line numbers, inside fixed bounds.

Built on the event stream of PyYAML's safe loader, so nothing recurses before depth is checked and an
alias costs what it expands to, in size and in depth. One document, no duplicate keys, no tags, no keys
that are not text. What is wrong is said without repeating a value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_NODES = 20_000
MAX_DEPTH = 50
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL_OR_HEX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LONGEST_NUMBER = 24
SHOWN_CHARACTERS = 80
_WORDS: Mapping[str, Any] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}


class YamlError(Exception):
    """What is wrong, and on which line (counted from 1)."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(slots=True)
class Document:
    """A parsed document: its data and the line of each key, by dotted path."""

    data: Any
    lines: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Node:
    value: Any
    size: int
    height: int


def parse_yaml(text: str) -> Document:
    """Parse one document.

    Raises:
        YamlError: It is not YAML, or more than the bounds allow.
    """
    document = Document(None)
    try:
        events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
        next(events)  # the start of the stream
        if isinstance(next(events), yaml.StreamEndEvent):
            return document
        document.data = _Builder(document.lines).build(next(events), events, "", 0).value
        next(events)  # the end of the document
        event = next(events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise YamlError("more than one document", event.start_mark.line + 1)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # PyYAML repeats the whole handle of a tag, which may be a value that was not quoted.
        problem = "tags are not allowed" if "tag handle" in (error.problem or "") else error.problem
        raise YamlError(problem or "not valid YAML", mark.line + 1 if mark else None) from None
    except yaml.reader.ReaderError as error:
        raise YamlError("a character that YAML does not allow", _line_at(text, error.position)) from None
    except (yaml.YAMLError, ValueError, OverflowError):
        # PyYAML lets out the errors of `chr` and `int` for numbers that are too large.
        raise YamlError("not valid YAML", None) from None
    except RecursionError:
        raise YamlError(f"nested deeper than {MAX_DEPTH} levels", None) from None
    return document


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


class _Builder:
    def __init__(self, lines: dict[str, int]) -> None:
        self._lines = lines
        self._anchors: dict[str, _Node] = {}
        self._total = 0

    def build(self, event: Any, events: Iterator[Any], path: str, depth: int) -> _Node:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            node = self._anchors.get(event.anchor or "")
            if node is None:
                raise YamlError("unknown alias", line)
            self._check_depth(depth + node.height, line)
            self._count(node.size, line)
            return node
        self._check_depth(depth, line)
        self._count(1, line)
        before = self._total
        height = 0
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            text = _text(event, line)
            value = text if event.style else _plain(text)
        elif event.tag is not None:
            raise YamlError("tags are not allowed", line)
        elif isinstance(event, yaml.SequenceStartEvent):
            value, height = self._sequence(events, path, depth + 1)
        else:
            value, height = self._mapping(events, path, depth + 1)
        node = _Node(value, 1 + self._total - before, height)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _sequence(self, events: Iterator[Any], path: str, depth: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        height = 0
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            node = self.build(event, events, f"{path}.{len(items)}", depth)
            items.append(node.value)
            height = max(height, node.height + 1)
        return items, height

    def _mapping(self, events: Iterator[Any], path: str, depth: int) -> tuple[dict[str, Any], int]:
        mapping: dict[str, Any] = {}
        height = 0
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                raise YamlError("a key must be plain text", line)
            key = _text(event, line)
            self._count(1, line)
            inner = f"{path}.{key}" if path else key
            if key in mapping:
                raise YamlError(f"the key {key[:SHOWN_CHARACTERS]!r} stands here twice", line)
            self._lines[inner] = line
            node = self.build(next(events), events, inner, depth)
            mapping[key] = node.value
            height = max(height, node.height + 1)
        return mapping, height

    def _check_depth(self, depth: int, line: int) -> None:
        if depth > MAX_DEPTH:
            raise YamlError(f"nested deeper than {MAX_DEPTH} levels", line)

    def _count(self, nodes: int, line: int) -> None:
        self._total += nodes
        if self._total > MAX_NODES:
            raise YamlError(f"more than {MAX_NODES} values", line)


def _text(event: yaml.ScalarEvent, line: int) -> str:
    """A scalar's text. An escape can write half a surrogate pair, which no encoding can carry."""
    if event.tag is not None:
        raise YamlError("tags are not allowed", line)
    if _SURROGATE.search(event.value):
        raise YamlError("half a surrogate pair", line)
    return str(event.value)


def _plain(text: str) -> Any:
    """An unquoted scalar under the core rules of YAML 1.2: `no` is text, not false.

    A number that does not fit 64 bits, or is not finite, stays text.
    """
    if text in _WORDS:
        return _WORDS[text]
    base = 10 if _INT.fullmatch(text) else 0 if _OCTAL_OR_HEX.fullmatch(text) else None
    if base is not None:
        whole = int(text, base) if len(text) <= _LONGEST_NUMBER else 1 << 64
        return whole if -(1 << 63) <= whole < 1 << 63 else text
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text
