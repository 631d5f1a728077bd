"""Server-sent events: the WHATWG algorithm to the letter, however the bytes are cut.

Each case runs whole and byte by byte; every one is cut at random by Hypothesis too. A second
implementation, which reads a finished text in the order of the standard, must agree on random streams.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollm_daemon.errors import BrokenAnswerError, ErrorKind
from ollm_daemon.providers._sse import SseDecoder, SseEvent

BOM = b"\xef\xbb\xbf"


def event(data: str | bytes, type: str = "message", last_event_id: str = "") -> SseEvent:
    return SseEvent(data.encode() if isinstance(data, str) else data, type, last_event_id)


STANDARD: dict[str, tuple[bytes, list[SseEvent]]] = {
    # line ends
    "LF": (b"data: a\n\ndata: b\n\n", [event("a"), event("b")]),
    "CR": (b"data: a\r\rdata: b\r\r", [event("a"), event("b")]),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [event("a"), event("b")]),
    "LF then CR": (b"data: a\n\rdata: b\n\r", [event("a"), event("b")]),
    "CR then LF is one end": (b"data: a\r\ndata: b\r\n\r\n", [event("a\nb")]),
    "CRLF then CR": (b"data: a\r\n\r", [event("a")]),
    "CRLF then LF": (b"data: a\r\n\n", [event("a")]),
    "LF then CRLF": (b"data: a\n\r\n", [event("a")]),
    "CR CR LF": (b"data: a\r\r\ndata: b\n\n", [event("a"), event("b")]),
    "a final lone CR dispatches": (b"data: a\r\r", [event("a")]),
    "all three in one stream": (
        b"data: a\ndata: b\rdata: c\r\n\r\ndata: d\n\n",
        [event("a\nb\nc"), event("d")],
    ),
    "line separators of Unicode end no line": (
        "data: a\u2028b\u2029c\u0085d\x0be\x0cf\n\n".encode(),
        [event("a\u2028b\u2029c\u0085d\x0be\x0cf")],
    ),
    "blank lines before and between": (b"\n\n\r\ndata: a\n\n\n\n\ndata: b\n\n", [event("a"), event("b")]),
    # byte order mark
    "BOM": (BOM + b"data: a\n\n", [event("a")]),
    "BOM twice: the second belongs to a name": (BOM + BOM + b"data: a\n\ndata: b\n\n", [event("b")]),
    "BOM on a later line": (b"data: a\n\n" + BOM + b"data: b\n\ndata: c\n\n", [event("a"), event("c")]),
    "BOM alone": (BOM, []),
    "BOM and a blank line": (BOM + b"\ndata: a\n\n", [event("a")]),
    "half a BOM": (b"\xef\xbbdata: a\n\ndata: b\n\n", [event("b")]),
    "BOM inside data": (b"data: " + BOM + b"a\n\n", [event(BOM + b"a")]),
    "UTF-16 is not known": (b"\xff\xfed\x00a\x00t\x00a\x00:\x00a\x00\n\x00\n\x00", []),
    # data
    "without a space": (b"data:a\n\n", [event("a")]),
    "one space is dropped": (b"data:  a\n\n", [event(" a")]),
    "a tab is kept": (b"data:\ta\n\n", [event("\ta")]),
    "trailing spaces are kept": (b"data: a  \n\n", [event("a  ")]),
    "several lines": (b"data: a\ndata: b\ndata: c\n\n", [event("a\nb\nc")]),
    "an empty line among several": (b"data: a\ndata:\ndata: b\n\n", [event("a\n\nb")]),
    "empty data": (b"data:\n\n", [event("")]),
    "empty data after a space": (b"data: \n\n", [event("")]),
    "no colon": (b"data\n\n", [event("")]),
    "no colon, twice": (b"data\ndata\n\n", [event("\n")]),
    "no colon among others": (b"data: a\ndata\ndata: b\n\n", [event("a\n\nb")]),
    "a colon in the value": (b"data: a: b\n\n", [event("a: b")]),
    "a colon first in the value": (b"data::a\n\n", [event(":a")]),
    "a value that looks like a field": (b"data: data: a\n\n", [event("data: a")]),
    "NUL in data": (b"data: a\0b\n\n", [event("a\0b")]),
    "bytes that are not UTF-8": (b"data: a\xffb\n\n", [event(b"a\xffb")]),
    "half a character at the end of a line": (b"data: \xe2\x82\n\n", [event(b"\xe2\x82")]),
    "characters of four bytes": ("data: \U0001f600\n\n".encode(), [event("\U0001f600")]),
    "[DONE] is data": (b"data: [DONE]\n\n", [event("[DONE]")]),
    # not dispatched
    "nothing": (b"", []),
    "only blank lines": (b"\n\n\r\r\r\n\r\n", []),
    "an unfinished line": (b"data: a\n\ndata: b", [event("a")]),
    "an unfinished block": (b"data: a\n\ndata: b\n", [event("a")]),
    "an unfinished [DONE]": (b"data: [DONE]", []),
    "a block without data": (b"event: x\nid: 1\n\ndata: a\n\n", [event("a", last_event_id="1")]),
    "a block of comments": (b": one\n: two\n\n", []),
    # comments and unknown fields
    "comment": (b": hi\ndata: a\n\n", [event("a")]),
    "empty comment": (b":\ndata: a\n\n", [event("a")]),
    "comment between data lines": (b"data: a\n: x\ndata: b\n\n", [event("a\nb")]),
    "comment that looks like data": (b":data: x\n\n", []),
    "comment that is not UTF-8": (b": \xff\xfe\ndata: a\n\n", [event("a")]),
    "ping in CRLF among LF": (b": ping\r\n\r\ndata: a\n\n", [event("a")]),
    "unknown field": (b"foo: x\ndata: a\n\n", [event("a")]),
    "unknown field without a colon": (b"foo\ndata: a\n\n", [event("a")]),
    "names are case-sensitive": (b"Data: a\nDATA: b\n\ndata: c\n\n", [event("c")]),
    "a space before the name": (b" data: a\n\ndata: b\n\n", [event("b")]),
    "a space after the name": (b"data : a\n\ndata: b\n\n", [event("b")]),
    "a longer name": (b"datax: a\ndata: b\n\n", [event("b")]),
    "a field of the former servers": (b"error: x\n\ndata: a\n\n", [event("a")]),
    "an unframed object": (b'{"error":"x"}\ndata: a\n\n', [event("a")]),
    # event
    "type": (b"event: ping\ndata: a\n\n", [event("a", "ping")]),
    "type after the data": (b"data: a\nevent: ping\n\n", [event("a", "ping")]),
    "the last type counts": (b"event: x\nevent: y\ndata: a\n\n", [event("a", "y")]),
    "an empty type resets": (b"event: x\nevent:\ndata: a\n\n", [event("a")]),
    "a type without a colon resets": (b"event: x\nevent\ndata: a\n\n", [event("a")]),
    "type holds for one block": (b"event: x\ndata: a\n\ndata: b\n\n", [event("a", "x"), event("b")]),
    "type of a block without data": (b"event: x\n\ndata: a\n\n", [event("a")]),
    "type keeps its spaces": (b"event:  x \ndata: a\n\n", [event("a", " x ")]),
    "type that is not UTF-8": (b"event: \xff\ndata: a\n\n", [event("a", "\ufffd")]),
    "broken UTF-8 is replaced by maximal parts": (
        b"event: \xf0\x9f\x98x\xe2\x82\xe2\ndata: a\n\n",
        [event("a", "\ufffdx\ufffd\ufffd")],
    ),
    # id
    "id": (b"id: 1\ndata: a\n\n", [event("a", last_event_id="1")]),
    "id is kept": (
        b"id: 1\ndata: a\n\ndata: b\n\n",
        [event("a", last_event_id="1"), event("b", last_event_id="1")],
    ),
    "an empty id clears": (
        b"id: 1\ndata: a\n\nid\ndata: b\n\nid: 2\ndata: c\n\nid:\ndata: d\n\n",
        [
            event("a", last_event_id="1"),
            event("b"),
            event("c", last_event_id="2"),
            event("d"),
        ],
    ),
    "id with NUL is ignored": (
        b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n",
        [event("a", last_event_id="1"), event("b", last_event_id="1")],
    ),
    "id after the data": (b"data: a\nid: 1\n\n", [event("a", last_event_id="1")]),
    "the last id counts": (b"id: 1\nid: 2\ndata: a\n\n", [event("a", last_event_id="2")]),
    "id keeps its spaces": (b"id:  1 \ndata: a\n\n", [event("a", last_event_id=" 1 ")]),
    # retry is not an event
    "retry among data": (b"data: a\nretry: 10\ndata: b\n\n", [event("a\nb")]),
    "retry alone": (b"retry: 10\n\n", []),
}

RETRY: dict[str, tuple[bytes, int | None]] = {
    "digits": (b"retry: 1500", 1500),
    "no space": (b"retry:7", 7),
    "zero": (b"retry: 0", 0),
    "leading zeros": (b"retry: 007", 7),
    "the last one counts": (b"retry: 1\nretry: 2", 2),
    "a bad one does not undo a good one": (b"retry: 1\nretry: x", 1),
    "Arabic digits": ("retry: \u0661\u0662".encode(), None),
    "superscript digits": ("retry: \u00b2".encode(), None),
    "plus": (b"retry: +5", None),
    "minus": (b"retry: -5", None),
    "underscore": (b"retry: 1_000", None),
    "trailing space": (b"retry: 5 ", None),
    "two spaces": (b"retry:  5", None),
    "fraction": (b"retry: 1.5", None),
    "hexadecimal": (b"retry: 0x10", None),
    "empty": (b"retry:", None),
    "no colon": (b"retry", None),
    "5,000 digits": (b"retry: " + b"9" * 5000, None),
}

EXTRAS: dict[str, tuple[bytes, list[SseEvent]]] = {
    "[DONE] without a line end": (b"data: a\n\ndata: [DONE]", [event("a"), event("[DONE]")]),
    "[DONE] with one line end": (b"data: a\n\ndata: [DONE]\n", [event("a"), event("[DONE]")]),
    "a whole value without a line end": (b'data: {"a":1}', [event('{"a":1}')]),
    "a whole value in two lines": (b'data: {"a":\ndata: 1}', [event('{"a":\n1}')]),
    "half a value": (b'data: {"a":', []),
    "half a value after a good one": (b'data: {"a":1}\n\ndata: {"b"', [event('{"a":1}')]),
    "half a field name": (b"data: a\n\ndat", [event("a")]),
    "text that is not JSON": (b"data: hello", []),
    "nesting without end": (b"data: " + b"[" * 100_000, []),
    "error field": (b'error: {"code":500}\n\n', [event('{"code":500}', "error")]),
    "error field, unfinished": (b'error: {"code":500}', [event('{"code":500}', "error")]),
    "error field, then [DONE]": (b"error: x\n\ndata: [DONE]\n\n", [event("x", "error"), event("[DONE]")]),
    "error event": (b'event: error\ndata: {"a":1}\n\n', [event('{"a":1}', "error")]),
    "unframed object": (b'data: a\n\n{"error":"x"}\n', [event("a"), event('{"error":"x"}', "unframed")]),
    "unframed object without a line end": (b'{"error":"x"}', [event('{"error":"x"}', "unframed")]),
    "unframed object leaves a block alone": (
        b'data: a\n{"error":"x"}\ndata: b\n\n',
        [event('{"error":"x"}', "unframed"), event("a\nb")],
    ),
}


def decode(parts: Iterable[bytes], *, extras: bool = False) -> tuple[list[SseEvent], int | None]:
    decoder = SseDecoder(extras=extras)
    events = [found for part in parts for found in decoder.feed(part)]
    return events + decoder.close(), decoder.retry_ms


def single_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def test_the_table_is_as_large_as_promised() -> None:
    assert len(STANDARD) >= 60


@pytest.mark.parametrize("name", STANDARD)
def test_standard(name: str) -> None:
    data, expected = STANDARD[name]
    assert decode([data])[0] == expected
    assert decode(single_bytes(data))[0] == expected
    assert reference(data)[0] == expected, "the reference implementation is wrong"


@pytest.mark.parametrize("name", RETRY)
def test_retry(name: str) -> None:
    field, expected = RETRY[name]
    data = field + b"\n\n"
    assert decode([data]) == ([], expected)
    assert decode(single_bytes(data)) == ([], expected)


@pytest.mark.parametrize("name", EXTRAS)
def test_extras(name: str) -> None:
    data, expected = EXTRAS[name]
    assert decode([data], extras=True)[0] == expected
    assert decode(single_bytes(data), extras=True)[0] == expected


@pytest.mark.parametrize("name", [name for name in STANDARD if not name.startswith(("a field", "an un"))])
def test_extras_change_nothing_in_a_finished_stream(name: str) -> None:
    data, expected = STANDARD[name]
    assert decode([data], extras=True)[0] == expected


def test_text_replaces_broken_utf8() -> None:
    assert event(b"a\xf0\x9f\x98b").text == "a\ufffdb"


def test_events_compare_by_all_that_they_carry() -> None:
    same = event("a", "x", "1")
    assert same == event("a", "x", "1")
    assert all(same != other for other in (event("b", "x", "1"), event("a", "y", "1"), event("a", "x", "2")))


# Limits

LINE, EVENT = 64, 256


def refused_at(data: bytes, size: int) -> int:
    """How many bytes were fed, `size` at a time, until the decoder had enough of them."""
    decoder = SseDecoder(extras=True, max_line=LINE, max_event=EVENT)
    parts = iter(pieces(data, size))
    with pytest.raises(BrokenAnswerError) as caught:
        deque(map(decoder.feed, parts), maxlen=0)
    assert caught.value.kind is ErrorKind.LIMIT
    return len(data) - len(b"".join(parts))


@pytest.mark.parametrize(
    "start", [b"data: ", b": ", b"event: ", b"id: ", b"retry: ", b"error: ", b"foo: ", b"{", b""]
)
@pytest.mark.parametrize("ended", [True, False], ids=["ended", "endless"])
@pytest.mark.parametrize("size", [1, 7, 1 << 20], ids=["by byte", "by seven", "whole"])
def test_a_line_over_the_limit_is_refused(start: bytes, ended: bool, size: int) -> None:
    line = start + b"x" * (LINE + 1 - len(start))
    assert refused_at(line + b"\n\n" if ended else line * 3, size) <= LINE + size


@pytest.mark.parametrize("size", [1, 7, 1 << 20], ids=["by byte", "by seven", "whole"])
def test_a_line_of_just_the_limit_is_taken(size: int) -> None:
    line = b"data: " + b"x" * (LINE - 6)
    decoder = SseDecoder(max_line=LINE, max_event=EVENT)
    events = [found for part in pieces(line + b"\n\n", size) for found in decoder.feed(part)]
    assert events == [event("x" * (LINE - 6))]


@pytest.mark.parametrize("line", [b"data: 1234567\n", b"data:\n", b"data\n", b"error: 1234567\n", b"error\n"])
@pytest.mark.parametrize("size", [1, 7, 1 << 20], ids=["by byte", "by seven", "whole"])
def test_an_event_over_the_limit_is_refused(line: bytes, size: int) -> None:
    """Whatever fields it grows by: each line counts at least as the line end it adds."""
    data = line * (EVENT + 2)
    assert refused_at(data, size) <= len(data)


def test_the_event_limit_is_for_one_event() -> None:
    decoder = SseDecoder(max_line=LINE, max_event=EVENT)
    data = (b"data: " + b"x" * 50 + b"\n") * 4 + b"\n"
    assert len(decoder.feed(data * 20)) == 20


# Random streams

FRAGMENTS = st.sampled_from(
    b"\n,\r,\r\n,\n\n,data: ,data:,data,event: ,id: ,retry: ,: ,error: ,x: ,a, ,:,7,\0,{},[DONE],"
    b"\xff,\xe2\x82,\xef,\xef\xbb\xbf".split(b",")
)
STREAMS = st.lists(FRAGMENTS, max_size=40).map(b"".join)


@st.composite
def rechunked(draw: st.DrawFn, streams: st.SearchStrategy[bytes]) -> list[bytes]:
    data = draw(streams)
    points = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    edges = [0, *points, len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@settings(deadline=None, max_examples=300)
@given(parts=rechunked(st.sampled_from([data for data, _ in (STANDARD | EXTRAS).values()])))
def test_cuts_do_not_change_the_table(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    assert decode(parts) == decode([whole])
    assert decode(parts, extras=True) == decode([whole], extras=True)


@settings(deadline=None, max_examples=500)
@given(parts=rechunked(STREAMS))
def test_random_streams_agree_with_the_reference(parts: list[bytes]) -> None:
    assert decode(parts) == reference(b"".join(parts))


@settings(deadline=None, max_examples=300)
@given(parts=rechunked(STREAMS))
def test_cuts_do_not_change_what_the_extras_find(parts: list[bytes]) -> None:
    assert decode(parts, extras=True) == decode([b"".join(parts)], extras=True)


def reference(stream: bytes) -> tuple[list[SseEvent], int | None]:
    """The standard's steps over a whole stream, with its buffers under its names."""
    events: list[SseEvent] = []
    data_buffer = event_type_buffer = last_event_id_buffer = ""
    reconnection_time: int | None = None
    # One character for each byte keeps invalid UTF-8 as it is; every rule below concerns ASCII only.
    text = stream.removeprefix(BOM).decode("latin-1")
    for line in re.split("\r\n|\n|\r", text)[:-1]:
        field, colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data_buffer:
                data = data_buffer.removesuffix("\n").encode("latin-1")
                kind = event_type_buffer.encode("latin-1").decode("utf-8", "replace")
                event_id = last_event_id_buffer.encode("latin-1").decode("utf-8", "replace")
                events.append(SseEvent(data, kind or "message", event_id))
            data_buffer = event_type_buffer = ""
        elif colon and not field:
            pass
        elif field == "event":
            event_type_buffer = value
        elif field == "data":
            data_buffer += value + "\n"
        elif field == "id" and "\0" not in value:
            last_event_id_buffer = value
        elif field == "retry" and value and set(value) <= set("0123456789"):
            reconnection_time = int(value)
    return events, reconnection_time


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]
