"""The HTTP transport against answers that were valid once: mutated, cut at random, ended in any way.

Whatever arrives, a request ends in a body or in a named error, the connection is not used for another
request unless it is clean, and nothing is left open. Where h11 takes the same bytes for a whole answer, and
we do, both read the same.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import h11
import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.upstream import End, Reply, ScriptedUpstream, body_reply, chunk
from tests.providers.test_transport import client_for, read_through

NEXT = b"the next answer"
EXAMPLES = 300
SILENCE = 0.05
"""Seconds after which an answer that does not go on counts as stalled."""

TOKENS = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\r\n\r\n",
        b"0\r\n\r\n",
        b"5\r\nevil!\r\n",
        b"-1",
        b"+2",
        b"0x2",
        b"fffffffffffffffff",
        b"\0",
        b" ",
        b":",
        b";",
        b"\xff",
        b"Content-Length: 3\r\n",
        b"Content-Length: -3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Connection: close\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"X: y\r\n" * 12_000,
    ]
)


@dataclass(frozen=True)
class Answer:
    """A valid answer: its bytes, its body, and whether the end of the connection is its end."""

    data: bytes
    body: bytes
    closes: bool


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Valid answers in every framing."""
    parts = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=5))
    body = b"".join(parts)
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.0"]))
    before = draw(
        st.sampled_from([b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nA: b\r\n\r\n"])
    )
    framings = ["length", "close"] + (["chunked"] * 3 if version == b"1.1" else [])
    framing = draw(st.sampled_from(framings))
    headers = draw(st.sampled_from([b"", b"X-Name: value\r\n", b"Content-Type: text/event-stream\r\n"]))
    if framing == "length":
        headers += b"Content-Length: %d\r\n" % len(body)
        payload = body
    elif framing == "chunked":
        headers += b"Transfer-Encoding: chunked\r\n"
        trailer = draw(st.sampled_from([b"", b"X-Sum: 1\r\n"]))
        payload = b"".join(map(chunk, parts)) + b"0\r\n" + trailer + b"\r\n"
    else:
        payload = body
    start = b"HTTP/%b 200 OK\r\n" % version if before == b"" else b"HTTP/1.1 200 OK\r\n"
    return Answer(before + start + headers + b"\r\n" + payload, body, framing == "close")


@st.composite
def mutations(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes with up to three things done to them."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 8)))
        what = draw(st.sampled_from(["replace", "remove", "insert", "repeat", "cut off"]))
        match what:
            case "replace":
                data = data[:start] + draw(st.binary(min_size=end - start, max_size=end - start)) + data[end:]
            case "remove":
                data = data[:start] + data[end:]
            case "insert":
                data = data[:start] + draw(TOKENS) + data[start:]
            case "repeat":
                data = data[:end] + data[start:]
            case "cut off":
                data = data[:start]
    return data


async def play(data: bytes, cuts: list[int], end: End | None) -> tuple[int, bytes] | httpx.HTTPError:
    """Status and body, or the error, of one answer. Then the same client asks again and gets its own."""
    replies = [Reply(*([data] if data else []), *([end] if end else [])).cut_at(*cuts)]
    replies += [body_reply(200, NEXT)] * 2
    outcome: tuple[int, bytes] | httpx.HTTPError
    async with ScriptedUpstream(replies) as upstream:
        async with client_for(read=SILENCE) as (client, transport):
            try:
                async with client.stream("GET", upstream.url) as response:
                    outcome = response.status_code, b"".join([part async for part in response.aiter_raw()])
            except httpx.HTTPError as error:
                outcome = error
                assert transport.open_connections == 0
            assert await read_through(client, upstream.url) == NEXT
            assert transport.open_connections == 1
        assert transport.open_connections == 0
        await upstream.until(lambda: upstream.open_connections == 0)
    return outcome


def reference(data: bytes, end: End | None) -> tuple[int, bytes] | None:
    """Status and body as h11 reads them, where that is a whole answer."""
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    reader.send(h11.EndOfMessage())
    status, body = 0, b""
    try:
        reader.receive_data(data)
        if end is End.CLOSE:
            reader.receive_data(b"")
        while True:
            event = reader.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, body
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None


CUTS = st.lists(st.integers(1, 200), max_size=6)
bounded = settings(
    deadline=None,
    derandomize=True,
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@bounded
@given(answers(), CUTS)
def test_a_valid_answer_is_read_whole(answer: Answer, cuts: list[int]) -> None:
    end = End.CLOSE if answer.closes else None
    assert asyncio.run(play(answer.data, cuts, end)) == (200, answer.body)
    assert reference(answer.data, end) == (200, answer.body)


@bounded
@given(st.data(), answers(), CUTS, st.sampled_from([End.CLOSE, End.CLOSE, End.RESET, End.HALF_CLOSE, None]))
def test_a_broken_answer_ends_and_leaves_nothing_behind(
    source: st.DataObject, answer: Answer, cuts: list[int], end: End | None
) -> None:
    data = source.draw(mutations(answer.data))
    outcome = asyncio.run(play(data, cuts, end))
    theirs = reference(data, End.CLOSE if end is End.HALF_CLOSE else end)
    if isinstance(outcome, tuple) and theirs is not None:
        assert outcome == theirs
