"""Newline-delimited JSON: only LF ends a line, however the bytes are cut, and no line grows for ever."""

from __future__ import annotations

import itertools
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollm_daemon.errors import BrokenAnswerError, ErrorKind
from ollm_daemon.providers._ndjson import NdjsonDecoder

CASES: dict[str, tuple[bytes, list[bytes]]] = {
    "nothing": (b"", []),
    "one line": (b"{}\n", [b"{}"]),
    "several": (b"1\n2\n3\n", [b"1", b"2", b"3"]),
    "the last line without its end": (b"1\n2", [b"1", b"2"]),
    "only a line without its end": (b"1", [b"1"]),
    "blank lines": (b"\n\n1\n\n\n2\n\n", [b"1", b"2"]),
    "lines of white space": (b" \n\t\n\r\n1\n \t\r", [b"1"]),
    "CRLF leaves its CR to the JSON parser, to which it is a space": (b"1\r\n2\r\n", [b"1\r", b"2\r"]),
    "a lone CR ends nothing": (b"1\r2\n", [b"1\r2"]),
    "spaces are kept": (b" 1 \n", [b" 1 "]),
    "separators of Unicode end nothing": (
        '"a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg"\n'.encode(),
        ['"a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg"'.encode()],
    ),
    "bytes that are not UTF-8": (b'"\xff"\n"\xe2\x82"\n', [b'"\xff"', b'"\xe2\x82"']),
    "NUL": (b"\0\n", [b"\0"]),
}


def decode(*parts: bytes) -> list[bytes]:
    decoder = NdjsonDecoder()
    lines = [line for part in parts for line in decoder.feed(part)]
    return lines + decoder.close()


@pytest.mark.parametrize("name", CASES)
def test_lines(name: str) -> None:
    data, expected = CASES[name]
    assert decode(data) == expected
    assert decode(*(data[i : i + 1] for i in range(len(data)))) == expected


def test_a_line_is_given_as_soon_as_it_is_complete() -> None:
    decoder = NdjsonDecoder()
    assert decoder.feed(b"1\n2") == [b"1"]
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\n") == [b"2"]
    assert decoder.close() == []


@settings(deadline=None, max_examples=500)
@given(
    text=st.lists(st.sampled_from([b"\n", b"\r", b" ", b"a", b'"', b"\xe2\x80\xa8", b"{}"])).map(b"".join),
    points=st.lists(st.integers(0, 40), max_size=10),
)
def test_cuts_do_not_matter(text: bytes, points: list[int]) -> None:
    edges = [0, *sorted(min(point, len(text)) for point in points), len(text)]
    parts = [text[start:end] for start, end in itertools.pairwise(edges)]
    assert decode(*parts) == [line for line in text.split(b"\n") if line.strip()]


LIMIT = 64


@pytest.mark.parametrize("size", [1, 7, 1 << 20], ids=["by byte", "by seven", "whole"])
@pytest.mark.parametrize("ended", [True, False], ids=["ended", "endless"])
@pytest.mark.parametrize("before", [b"", b"{}\n"], ids=["first", "later"])
def test_a_line_over_the_limit_is_refused(before: bytes, ended: bool, size: int) -> None:
    data = before + (b"x" * (LIMIT + 1) + b"\n" if ended else b"x" * LIMIT * 3)
    decoder = NdjsonDecoder(max_line=LIMIT)
    parts = iter([data[start : start + size] for start in range(0, len(data), size)])
    with pytest.raises(BrokenAnswerError) as caught:
        deque(map(decoder.feed, parts), maxlen=0)
    assert caught.value.kind is ErrorKind.LIMIT
    refused_at = len(data) - len(b"".join(parts))
    assert refused_at <= len(before) + LIMIT + size


@pytest.mark.parametrize("size", [1, 7, 1 << 20], ids=["by byte", "by seven", "whole"])
def test_lines_of_just_the_limit_are_taken(size: int) -> None:
    data = (b"x" * LIMIT + b"\n") * 10
    decoder = NdjsonDecoder(max_line=LIMIT)
    lines = [line for start in range(0, len(data), size) for line in decoder.feed(data[start : start + size])]
    assert lines == [b"x" * LIMIT] * 10
