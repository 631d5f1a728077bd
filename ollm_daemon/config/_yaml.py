"""YAML that cannot hurt: plain data with line numbers, inside fixed bounds.

Built on the event stream of PyYAML's safe loader, so nothing recurses before depth is checked and an
alias costs what it expands to. Duplicate keys, tags and keys that are not text are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_NODES = 20_000
MAX_DEPTH = 50
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, Any] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "true": True,
    "True": True,
    "false": False,
    "False": False,
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


def parse_yaml(text: str) -> Document:
    """Parse one document.

    Raises:
        YamlError: It is not YAML, or more than the bounds allow.
    """
    document = Document(None)
    try:
        events = (
            event
            for event in yaml.parse(text, Loader=yaml.SafeLoader)
            if not isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent)
        )
        event = next(events, None)
        if event is None or isinstance(event, yaml.StreamEndEvent):
            return document
        document.data = _Builder(document.lines).build(event, events, "", 0).value
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(error.problem or "not valid YAML", mark.line + 1 if mark else None) from None
    except yaml.YAMLError:
        raise YamlError("not text that YAML allows", None) from None
    except RecursionError:
        raise YamlError(f"nested deeper than {MAX_DEPTH} levels", None) from None
    return document


class _Builder:
    def __init__(self, lines: dict[str, int]) -> None:
        self._lines = lines
        self._anchors: dict[str, _Node] = {}
        self._total = 0

    def build(self, event: Any, events: Iterator[Any], path: str, depth: int) -> _Node:
        line = event.start_mark.line + 1
        if depth > MAX_DEPTH:
            raise YamlError(f"nested deeper than {MAX_DEPTH} levels", line)
        if isinstance(event, yaml.AliasEvent):
            node = self._anchors.get(event.anchor or "")
            if node is None:
                raise YamlError(f"unknown alias *{event.anchor}", line)
            self._count(node.size, line)
            return node
        if event.tag not in (None, "!") and not event.implicit:
            raise YamlError("tags are not allowed", line)
        self._count(1, line)
        before = self._total
        if isinstance(event, yaml.ScalarEvent):
            value = event.value if event.style else _plain(event.value)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(events, path, depth)
        else:
            value = self._mapping(events, path, depth)
        node = _Node(value, 1 + self._total - before)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _sequence(self, events: Iterator[Any], path: str, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self.build(event, events, f"{path}.{len(items)}", depth + 1).value)
        return items

    def _mapping(self, events: Iterator[Any], path: str, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                raise YamlError("a key must be plain text", line)
            key = event.value
            self._count(1, line)
            if key in mapping:
                raise YamlError(f"the key {key!r} stands here twice", line)
            inner = f"{path}.{key}" if path else key
            self._lines[inner] = line
            mapping[key] = self.build(next(events), events, inner, depth + 1).value
        return mapping

    def _count(self, nodes: int, line: int) -> None:
        self._total += nodes
        if self._total > MAX_NODES:
            raise YamlError(f"more than {MAX_NODES} values", line)


def _plain(text: str) -> Any:
    """An unquoted scalar under the core rules of YAML 1.2: `no` is text, not false."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text) if len(text) < 19 else text
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
