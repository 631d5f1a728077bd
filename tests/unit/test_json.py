"""JSON from servers: the grammar to the letter, and one named error for all that is outside it."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollm_daemon.errors import BrokenAnswerError, ErrorKind
from ollm_daemon.providers._json import decode_json

VALUES: dict[str, tuple[bytes, Any]] = {
    "object": (b'{"a": [1, 2.5, true, false, null, "x"]}', {"a": [1, 2.5, True, False, None, "x"]}),
    "spaces around": (b" \t\r\n1\r\n ", 1),
    "the last of equal keys": (b'{"a":1,"a":2}', {"a": 2}),
    "64 bits and more": (b"123456789012345678901234567890", 123456789012345678901234567890),
    "escapes": (rb'"\"\\\/\b\f\n\r\t\u0041"', '"\\/\b\f\n\r\tA'),
    "escaped NUL": (rb'"\u0000"', "\0"),
    "a pair of surrogates": (rb'"\ud83d\ude00"', "\U0001f600"),
    "a lone high surrogate": (rb'"a\ud800b"', "a\ufffdb"),
    "a lone low surrogate": (rb'"a\udc00b"', "a\ufffdb"),
    "surrogates in the wrong order": (rb'"\udc00\ud800"', "\ufffd\ufffd"),
    "a high surrogate before another escape": (rb'"\ud83d\u0041"', "\ufffdA"),
    "a lone surrogate in a key": (rb'{"\ud800": 1}', {"\ufffd": 1}),
    "a lone surrogate beside good text": (
        '{"a": "\\ud800", "b": "\u00e9\U0001f600"}'.encode(),
        {"a": "\ufffd", "b": "\u00e9\U0001f600"},
    ),
    "separators of Unicode": ('"a\u2028b\u2029c\u0085d"'.encode(), "a\u2028b\u2029c\u0085d"),
    "a byte that is not UTF-8": (b'"a\xffb"', "a\ufffdb"),
    "half a character": (b'{"a":"\xe2\x82"}', {"a": "\ufffd"}),
    "nesting that a person could write": (b"[" * 100 + b"]" * 100, json.loads("[" * 100 + "]" * 100)),
}

REFUSED: dict[str, bytes] = {
    "nothing": b"",
    "only space": b" \n",
    "NaN": b"NaN",
    "NaN inside": b'{"a": NaN}',
    "Infinity": b"[Infinity]",
    "-Infinity": b"-Infinity",
    "NaN beside a lone surrogate": rb'["\ud800", NaN]',
    "two values": b"{}{}",
    "rest after a value": b"{}x",
    "NUL after a value": b"{}\0",
    "comma at the end": b'{"a":1,}',
    "single quotes": b"{'a':1}",
    "bare key": b"{a:1}",
    "comment": b"1 // one",
    "leading zero": b"01",
    "no digit after the point": b"1.",
    "no digit before the point": b".5",
    "plus": b"+1",
    "unknown escape": rb'"\x41"',
    "raw line end in a string": b'"a\nb"',
    "raw control character in a string": b'"\x01"',
    "unfinished": b'{"a": [1, 2',
    "unfinished string": b'"abc',
    "capitals": b"True",
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "a number of 5,000 digits": b"9" * 5000,
    "100,000 open brackets": b"[" * 100_000,
    "100,000 brackets": b"[" * 100_000 + b"]" * 100_000,
    "100,000 objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "brackets after a lone surrogate": rb'["\ud800",' + b"[" * 100_000,
    "300 brackets after a lone surrogate": rb'["\ud800",' + b"[" * 300 + b"]" * 301,
    "HTML": b"<!doctype html><html></html>",
}


@pytest.mark.parametrize("name", VALUES)
def test_values(name: str) -> None:
    data, expected = VALUES[name]
    assert decode_json(data) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises(BrokenAnswerError) as caught:
        decode_json(REFUSED[name])
    assert caught.value.kind is ErrorKind.PROTOCOL
    assert len(str(caught.value)) < 500


def test_text_is_decoded_like_bytes() -> None:
    assert decode_json('{"a": "\u00e9"}') == {"a": "\u00e9"}


@settings(deadline=None, max_examples=100)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
        ),
    )
)
def test_what_python_writes_is_read_back(value: Any) -> None:
    assert decode_json(json.dumps(value)) == value
    assert decode_json(json.dumps(value, ensure_ascii=False).encode()) == value


@settings(deadline=None, max_examples=100)
@given(st.text(st.characters(categories=["Cs", "Lu"], max_codepoint=0xFFFF)))
def test_lone_surrogates_go_and_letters_stay(text: str) -> None:
    [decoded] = decode_json(json.dumps([text]))
    letters = [char for char in decoded if char < "\U00010000" and char != "\ufffd"]
    assert letters == [char for char in text if not is_surrogate(char)]


def is_surrogate(char: str) -> bool:
    return "\ud800" <= char <= "\udfff"


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=40) | st.text(st.sampled_from('{}[],:"\\u0d8e1-.tfn ')).map(str.encode))
def test_anything_else_is_the_named_error(data: bytes) -> None:
    with contextlib.suppress(BrokenAnswerError):
        decode_json(data)
