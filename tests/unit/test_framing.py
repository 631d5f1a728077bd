"""Frames survive any cut, and a header that can be read two ways is refused."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollm_daemon.server.framing import MAX_BODY, FrameDecoder, FramingError, encode_frame


def decode(*pieces: bytes, strict: bool = False) -> list[bytes]:
    decoder = FrameDecoder(strict=strict)
    bodies = []
    for piece in pieces:
        decoder.add(piece)
        while (body := decoder.take()) is not None:
            bodies.append(body)
    return bodies


@given(st.lists(st.binary(max_size=200), max_size=5), st.lists(st.integers(0, 1200)), st.booleans())
def test_any_cut_gives_the_same_bodies(bodies: list[bytes], cuts: list[int], strict: bool) -> None:
    data = b"".join(encode_frame(body) for body in bodies)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    assert decode(*pieces, strict=strict) == bodies


@given(st.binary(max_size=300))
def test_any_bytes_give_bodies_or_a_framing_error(data: bytes) -> None:
    with contextlib.suppress(FramingError):
        assert all(body in data for body in decode(data))


GOOD = [
    b"Content-Length: 2\r\n\r\n{}",
    b"content-length:2\r\n\r\n{}",
    b"CONTENT-LENGTH:  2  \r\n\r\n{}",
    b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    b"Content-Length: 002\r\n\r\n{}",
    b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}",
    b'Content-Length: 2\r\nContent-Type: x; charset="utf8"\r\n\r\n{}',
]


@pytest.mark.parametrize("data", GOOD)
@pytest.mark.parametrize("strict", [True, False])
def test_headers_that_mean_one_thing(data: bytes, strict: bool) -> None:
    assert decode(data, strict=strict) == [b"{}"]
    assert decode(*(bytes([byte]) for byte in data), strict=strict) == [b"{}"]


BAD = [
    (b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n", "two different values"),
    (b"Content-Length: 0x2\r\n\r\n", "not a number"),
    (b"Content-Length: \r\n\r\n", "not a number"),
    (b"Content-Length: 2.0\r\n\r\n", "not a number"),
    ("Content-Length: \u0662\r\n\r\n".encode(), "not a number"),
    (b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1), "64 MiB"),
    (b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", "not a number"),
    (b"Content-Type: x\r\n\r\n", "no Content-Length"),
    (b"Content-Length: 2\nContent-Type: x\r\n\r\n", "CRLF"),
    (b"Content-Length 2\r\n\r\n", "Name: value"),
    (b" Content-Length: 2\r\n\r\n", "Name: value"),
    (b"Content-Length: 2\r\n folded\r\n\r\n", "Name: value"),
    (b"Content-Length: 2\r\nContent-Type: x; charset=latin-1\r\n\r\n", "utf-8"),
    (b"a: b\r\n" * 33 + b"\r\n", "32 header fields"),
    (b"a" * 20_000, "16 KiB"),
]


@pytest.mark.parametrize(("data", "sentence"), BAD, ids=range(len(BAD)))
def test_headers_that_do_not(data: bytes, sentence: str) -> None:
    with pytest.raises(FramingError, match=sentence):
        decode(data)
    with pytest.raises(FramingError):
        decode(*(bytes([byte]) for byte in data))


@pytest.mark.parametrize(
    "data",
    [
        b"G",
        b"POST / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"Content-Length: 2\r\nHost: x\r\n\r\n{}",
        b"\r\n",
        b"Cx",
    ],
)
def test_another_protocol_is_told_by_its_first_bytes(data: bytes) -> None:
    with pytest.raises(FramingError) as caught:
        decode(data, strict=True)
    assert caught.value.foreign


def test_a_beginning_of_a_header_is_waited_for() -> None:
    decoder = FrameDecoder(strict=True)
    for piece in (b"C", b"ontent-Len", b"gth: 2\r", b"\n\r\n{"):
        decoder.add(piece)
        assert decoder.take() is None
        assert decoder.in_message
    decoder.add(b"}")
    assert decoder.take() == b"{}"
    assert not decoder.in_message
