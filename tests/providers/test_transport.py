"""The HTTP transport against exact bytes: framing, reuse, broken peers, cancellation, back-pressure, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
import ssl
import statistics
import struct
import warnings
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import httpx
import pytest
import trustme

from ollm_daemon.providers import _transport
from ollm_daemon.providers._transport import HIGH_WATER, MAX_HEAD, MAX_IDLE, READ_BUFFER, StreamTransport
from tests.fakes.upstream import End, Reply, ScriptedUpstream, body_reply, chunk, head, stream_reply

pytestmark = pytest.mark.anyio

PATIENCE = 10.0
OK = body_reply(200, b"ok")


@contextlib.asynccontextmanager
async def client_for(
    transport: StreamTransport | None = None,
    *,
    read: float | None = None,
    connect: float | None = 5.0,
    patience: float = PATIENCE,
) -> AsyncIterator[tuple[httpx.AsyncClient, StreamTransport]]:
    transport = transport or StreamTransport()
    timeout = httpx.Timeout(None, read=read, connect=connect)
    with anyio.fail_after(patience):
        async with httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False) as client:
            yield client, transport


async def read_through(client: httpx.AsyncClient, url: str) -> bytes:
    """The body as it was on the wire, whatever its encoding."""
    async with client.stream("GET", url) as response:
        return b"".join([part async for part in response.aiter_raw()])


# Framing

CHUNKED = head(200, "Transfer-Encoding: chunked")
LENGTH_2 = head(200, "Content-Length: 2")

# steps → body, and whether the connection serves the next request
FRAMINGS: dict[str, tuple[Reply, bytes, bool]] = {
    "length": (Reply(LENGTH_2 + b"ok"), b"ok", True),
    "length of nothing": (Reply(head(200, "Content-Length: 0")), b"", True),
    "chunked": (Reply(CHUNKED + b"2\r\nok\r\n0\r\n\r\n"), b"ok", True),
    "chunked, nothing": (Reply(CHUNKED + b"0\r\n\r\n"), b"", True),
    "chunked, many": (Reply(CHUNKED + b"1\r\no\r\n" * 1000 + b"0\r\n\r\n"), b"o" * 1000, True),
    "chunked, hexadecimal": (
        Reply(CHUNKED, b"1A\r\n" + b"x" * 26 + b"\r\n", b"0a\r\n" + b"y" * 10 + b"\r\n", b"0\r\n\r\n"),
        b"x" * 26 + b"y" * 10,
        True,
    ),
    "chunk extension": (Reply(CHUNKED + b"2;a=b\r\nok\r\n0;c\r\n\r\n"), b"ok", True),
    "trailers": (Reply(CHUNKED + b"2\r\nok\r\n0\r\nX-Sum: 1\r\nX-Size: 9\r\n\r\n"), b"ok", True),
    "a chunk that looks like framing": (
        Reply(CHUNKED + chunk(b"\r\n0\r\n\r\n") + b"0\r\n\r\n"),
        b"\r\n0\r\n\r\n",
        True,
    ),
    "until the close": (Reply(head(200) + b"ok", End.CLOSE), b"ok", False),
    "until the close, slowly": (Reply(head(200), b"o", b"k", End.CLOSE), b"ok", False),
    "until half a close": (Reply(head(200) + b"ok", End.HALF_CLOSE), b"ok", False),
    "HTTP/1.0 until the close": (Reply(b"HTTP/1.0 200 OK\r\n\r\nok", End.CLOSE), b"ok", False),
    "HTTP/1.0 that says it stays": (
        Reply(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nok", End.CLOSE),
        b"ok",
        False,
    ),
    "HTTP/1.0 with a length": (Reply(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"), b"ok", False),
    "HTTP/1.0 that stays": (
        Reply(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"),
        b"ok",
        True,
    ),
    "100 first": (Reply(b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH_2 + b"ok"), b"ok", True),
    "103 with headers first": (
        Reply(b"HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\nLink: x\r\n\r\n" + LENGTH_2 + b"ok"),
        b"ok",
        True,
    ),
    "several 1xx, apart": (Reply(*[b"HTTP/1.1 102 Processing\r\n\r\n"] * 3, LENGTH_2, b"ok"), b"ok", True),
    "204": (Reply(head(204)), b"", True),
    "304": (Reply(head(304, "Content-Length: 5")), b"", True),
    "no reason phrase": (Reply(b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"), b"ok", True),
    "says that it closes": (Reply(head(200, "Content-Length: 2", "Connection: close") + b"ok"), b"ok", False),
    "closes after a length": (Reply(LENGTH_2 + b"ok", End.CLOSE), b"ok", False),
}


# What arrives with the end of an answer but does not belong to it; nobody can tell when it comes later.
BEHIND_THE_END: dict[str, bytes] = {
    "data": b"more",
    "another last chunk": b"0\r\n\r\n",
    "a second answer": head(500, "Content-Length: 3", "X-Second: 1") + b"bad",
    "half a second answer": b"HTTP/1.1 500 Internal",
    "an interim answer": b"HTTP/1.1 100 Continue\r\nX-Interim: 1\r\n\r\n",
}


@pytest.mark.parametrize("way", ["whole", "by byte"])
@pytest.mark.parametrize("name", FRAMINGS)
async def test_framing(name: str, way: str) -> None:
    reply, body, is_kept = FRAMINGS[name]
    replies = [reply if way == "whole" else reply.in_pieces(1), OK]
    expected_status = int(name) if name.isdigit() else 200
    async with ScriptedUpstream(replies) as upstream, client_for() as (client, transport):
        async with client.stream("GET", upstream.url) as response:
            received = b"".join([part async for part in response.aiter_raw()])
        assert (response.status_code, received) == (expected_status, body)
        assert await read_through(client, upstream.url) == b"ok"
        assert len(upstream.connections) == (1 if is_kept else 2)
        if not is_kept:
            await upstream.until(lambda: not upstream.connections[0].is_open)
        assert transport.open_connections == 1
    assert transport.open_connections == 0


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("name", BEHIND_THE_END)
async def test_what_comes_behind_the_end_is_not_the_answer(name: str, framing: str) -> None:
    whole = LENGTH_2 + b"ok" if framing == "length" else CHUNKED + b"2\r\nok\r\n0\r\n\r\n"
    replies = [Reply(whole + BEHIND_THE_END[name]), OK]
    async with ScriptedUpstream(replies) as upstream, client_for() as (client, transport):
        response = await client.get(upstream.url)
        expected = {"content-length": "2"} if framing == "length" else {"transfer-encoding": "chunked"}
        assert (response.status_code, response.content, dict(response.headers)) == (200, b"ok", expected)
        assert await read_through(client, upstream.url) == b"ok"
        assert len(upstream.connections) == 2
        assert transport.open_connections == 1


async def test_headers_are_those_of_the_answer() -> None:
    """Not of what came before it, nor of its trailers."""
    steps = (
        b"HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\n",
        head(200, "X-Name: a", "x-name: b", "Empty:", "Transfer-Encoding: chunked"),
        b"0\r\nX-Late: 1\r\n\r\n",
    )
    for reply in (Reply(*steps), Reply(b"".join(steps))):
        async with ScriptedUpstream(reply) as upstream, client_for() as (client, _):
            response = await client.get(upstream.url)
            assert response.headers.multi_items() == [
                ("x-name", "a"),
                ("x-name", "b"),
                ("empty", ""),
                ("transfer-encoding", "chunked"),
            ]


async def test_the_request_is_written_as_it_was_built() -> None:
    async with ScriptedUpstream([OK, OK]) as upstream, client_for() as (client, _):
        body = bytes(range(256)) * 1000
        await client.post(f"{upstream.url}/a/b?c=d%20e", content=body, headers={"X-Key": "k"})
        await client.get(upstream.url)
        first, second = upstream.requests
        assert (first.method, first.path, first.body) == ("POST", "/a/b?c=d%20e", body)
        assert first.header("x-key") == "k"
        assert first.header("host") == f"127.0.0.1:{upstream.port}"
        assert (second.method, second.path, second.body) == ("GET", "/", b"")


async def test_three_hundred_random_cuts() -> None:
    chosen = random.Random(1)
    body = bytes(chosen.randrange(256) for _ in range(2000))
    edges = sorted(chosen.sample(range(1, len(body)), 20))
    framed = b"".join(
        chunk(body[start:end]) for start, end in zip([0, *edges], [*edges, len(body)], strict=True)
    )
    whole = Reply(CHUNKED + framed + b"0\r\nX-Trailer: 1\r\n\r\n")
    size = len(CHUNKED) + len(framed)
    async with (
        ScriptedUpstream(lambda _: whole.cut_at(*chosen.sample(range(1, size), 6))) as upstream,
        client_for() as (client, _),
    ):
        for _ in range(300):
            assert await read_through(client, upstream.url) == body
        assert len(upstream.connections) == 1


async def test_one_read_gives_one_piece() -> None:
    """However many chunks it held: a consumer is woken once for each read, not for each chunk."""
    reply = Reply(CHUNKED, b"1\r\na\r\n" * 50, b"1\r\nb\r\n" * 50 + b"0\r\n\r\n")
    async with ScriptedUpstream(reply) as upstream, client_for() as (client, _):
        async with client.stream("GET", upstream.url) as response:
            assert [part async for part in response.aiter_raw()] == [b"a" * 50, b"b" * 50]


# Reuse


async def test_connections_are_shared_out() -> None:
    go = anyio.Event()
    async with (
        ScriptedUpstream(lambda _: Reply(LENGTH_2, go, b"ok")) as upstream,
        client_for() as (client, transport),
    ):
        async with anyio.create_task_group() as tasks:
            for _ in range(MAX_IDLE + 4):
                tasks.start_soon(read_through, client, upstream.url)
            await upstream.until(lambda: len(upstream.requests) == MAX_IDLE + 4)
            assert transport.open_connections == MAX_IDLE + 4
            go.set()
        assert transport.open_connections == MAX_IDLE
        await upstream.until(lambda: upstream.open_connections == MAX_IDLE)


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
async def test_a_kept_connection_that_drops_a_safe_request_costs_one_more_try(end: End) -> None:
    async with (
        ScriptedUpstream([OK, Reply(end), OK]) as upstream,
        client_for() as (client, transport),
    ):
        for _ in range(2):
            assert await read_through(client, upstream.url) == b"ok"
        assert [len(connection.requests) for connection in upstream.connections] == [2, 1]
        assert transport.open_connections == 1


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
async def test_what_the_server_may_have_processed_is_not_sent_again(end: End) -> None:
    """It read the request and closed: nobody can tell what it did in between."""
    async with (
        ScriptedUpstream([OK, Reply(end), OK]) as upstream,
        client_for() as (client, transport),
    ):
        await client.post(upstream.url, content=b"1")
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(upstream.url, content=b"2")
        assert [request.body for request in upstream.requests] == [b"1", b"2"]
        assert transport.open_connections == 0
        assert (await client.post(upstream.url, content=b"3")).content == b"ok"


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
async def test_what_may_be_done_twice_is_sent_again_on_a_new_connection(end: End) -> None:
    async with (
        ScriptedUpstream([OK, Reply(end), OK]) as upstream,
        client_for() as (client, _),
    ):
        for body in (b"1", b"2"):
            request = client.build_request("POST", upstream.url, content=body)
            request.extensions["repeatable"] = True
            assert (await client.send(request)).content == b"ok"
        assert [request.body for request in upstream.requests] == [b"1", b"2", b"2"]


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
async def test_a_kept_connection_that_was_closed_is_seen_before_anything_is_sent(end: End) -> None:
    """The server closes while our loop is busy, so that nothing has told us yet."""
    go = anyio.Event()
    with ScriptedUpstream.in_thread([OK.then(go, end), OK]) as upstream:
        async with client_for() as (client, transport):
            await client.post(upstream.url, content=b"1")
            upstream.set(go)
            upstream.until(lambda: not upstream.connections[0].is_open)
            assert transport.open_connections == 1
            assert (await client.post(upstream.url, content=b"2")).content == b"ok"
            assert [len(connection.requests) for connection in upstream.connections] == [1, 1]
            assert transport.open_connections == 1


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
async def test_a_fresh_connection_gets_no_second_try(end: End) -> None:
    async with ScriptedUpstream([Reply(end)]) as upstream, client_for() as (client, transport):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(upstream.url)
        assert len(upstream.requests) == 1
        assert transport.open_connections == 0


async def test_a_kept_connection_that_has_begun_to_answer_gets_no_second_try() -> None:
    replies = [OK, Reply(b"HTTP/1.1 200", End.CLOSE)]
    async with ScriptedUpstream(replies) as upstream, client_for() as (client, transport):
        await client.get(upstream.url)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(upstream.url)
        assert len(upstream.requests) == 2
        assert transport.open_connections == 0


async def test_a_connection_that_closed_while_idle_is_not_tried() -> None:
    go = anyio.Event()
    replies = [OK.then(go, End.CLOSE), OK]
    async with ScriptedUpstream(replies) as upstream, client_for() as (client, transport):
        await client.get(upstream.url)
        go.set()
        await upstream.until(lambda: upstream.open_connections == 0)
        await until_closed(transport)
        await client.get(upstream.url)
        assert len(upstream.requests) == 2


async def test_bytes_nobody_asked_for_end_an_idle_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_transport, "IDLE_SECONDS", 6 * PATIENCE)
    go = anyio.Event()
    replies = [OK.then(go, head(200, "Content-Length: 4") + b"evil"), OK]
    async with ScriptedUpstream(replies) as upstream, client_for() as (client, transport):
        await client.get(upstream.url)
        go.set()
        await upstream.connections[0].peer_closed()
        assert transport.open_connections == 0
        assert await read_through(client, upstream.url) == b"ok"


async def test_an_idle_connection_is_dropped_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_transport, "IDLE_SECONDS", 0.02)
    async with ScriptedUpstream(OK) as upstream, client_for() as (client, transport):
        await client.get(upstream.url)
        assert transport.open_connections == 1
        await upstream.connections[0].peer_closed()
        assert transport.open_connections == 0


async def test_connecting_ahead() -> None:
    async with ScriptedUpstream(OK) as upstream, client_for() as (client, transport):
        for _ in range(2):
            await transport.connect_ahead(httpx.URL(upstream.url), 5.0)
        await client.get(upstream.url)
        assert len(upstream.connections) == 1


async def test_closing_bytes_may_follow_a_finished_answer() -> None:
    go = anyio.Event()
    reply = Reply(CHUNKED + chunk(b"data: [DONE]"), go, chunk(b""))
    async with ScriptedUpstream(reply) as upstream, client_for() as (client, transport):
        for _ in range(2):
            async with client.stream("GET", upstream.url) as response:
                async for _ in response.aiter_raw():
                    break
                response.extensions["finish"]()
            go.set()
            await until(lambda: bool(transport._idle) and any(transport._idle.values()))
        assert len(upstream.connections) == 1


async def test_closing_bytes_are_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_transport, "DRAIN_SECONDS", 0.02)
    reply = Reply(CHUNKED + chunk(b"data: [DONE]"), End.STALL)
    async with ScriptedUpstream(reply) as upstream, client_for() as (client, transport):
        async with client.stream("GET", upstream.url) as response:
            async for _ in response.aiter_raw():
                break
            response.extensions["finish"]()
        await upstream.connections[0].peer_closed()
        assert transport.open_connections == 0


async def test_closing_the_transport_ends_a_running_answer() -> None:
    reply = Reply(CHUNKED + chunk(b"a"), End.STALL)
    async with ScriptedUpstream(reply) as upstream, client_for() as (client, transport):
        async with client.stream("GET", upstream.url) as response:
            parts = response.aiter_raw()
            assert await anext(parts) == b"a"
            await transport.aclose()
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(parts)
        await upstream.connections[0].peer_closed()


# Broken answers

BROKEN: dict[str, Reply] = {
    "another protocol": Reply(b"SSH-2.0-OpenSSH_9.6\r\n", End.STALL),
    "TLS": Reply(b"\x15\x03\x01\x00\x02\x02\x46", End.CLOSE),
    "a page without a head": Reply(b"<html></html>", End.CLOSE),
    "JSON without a head": Reply(b'{"error": "x"}\r\n\r\n', End.CLOSE),
    "NUL bytes": Reply(b"\0" * 100, End.STALL),
    "version that does not exist": Reply(b"HTTP/7.3 200 OK\r\n\r\n", End.STALL),
    "status of letters": Reply(b"HTTP/1.1 OK\r\n\r\n", End.STALL),
    "an upgrade": Reply(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", End.STALL
    ),
    "header without a colon": Reply(b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", End.STALL),
    "length of letters": Reply(head(200, "Content-Length: ten"), End.STALL),
    "negative length": Reply(head(200, "Content-Length: -1"), End.STALL),
    "two lengths": Reply(head(200, "Content-Length: 2", "Content-Length: 3") + b"ok", End.STALL),
    "length and chunks": Reply(
        head(200, "Content-Length: 2", "Transfer-Encoding: chunked") + b"0\r\n\r\n", End.STALL
    ),
    "chunk size of letters": Reply(CHUNKED + b"xyz\r\nok\r\n", End.STALL),
    "negative chunk size": Reply(CHUNKED + b"-1\r\nok\r\n", End.STALL),
    "chunk size over 64 bits": Reply(CHUNKED + b"fffffffffffffffff\r\nok\r\n", End.STALL),
    "chunk size too small": Reply(CHUNKED + b"1\r\nok\r\n0\r\n\r\n", End.STALL),
    "closed before the answer": Reply(End.CLOSE),
    "reset before the answer": Reply(End.RESET),
    "half closed before the answer": Reply(End.HALF_CLOSE),
    "closed in the status line": Reply(b"HTTP/1.", End.CLOSE),
    "closed in the headers": Reply(b"HTTP/1.1 200 OK\r\nContent-", End.CLOSE),
    "closed after an interim answer": Reply(b"HTTP/1.1 100 Continue\r\n\r\n", End.CLOSE),
    "closed before the length": Reply(head(200, "Content-Length: 3") + b"ok", End.CLOSE),
    "half closed before the length": Reply(head(200, "Content-Length: 3") + b"ok", End.HALF_CLOSE),
    "reset before the length": Reply(head(200, "Content-Length: 3") + b"ok", End.RESET),
    "closed in a chunk": Reply(CHUNKED + b"5\r\nok", End.CLOSE),
    "closed in a chunk size": Reply(CHUNKED + b"2\r\nok\r\n5", End.CLOSE),
    "closed between chunks": Reply(CHUNKED + b"2\r\nok\r\n", End.CLOSE),
    "closed in the last chunk": Reply(CHUNKED + b"2\r\nok\r\n0\r\n", End.CLOSE),
    "half closed in a chunk": Reply(CHUNKED + b"5\r\nok", End.HALF_CLOSE),
    "reset in a chunk": Reply(CHUNKED + b"5\r\nok", End.RESET),
    "reset where the close would be the end": Reply(head(200) + b"ok", End.RESET),
    "200,000 headers": Reply(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200_000 + b"\r\n", End.STALL),
    "headers without end": Reply(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200_000, End.STALL),
    "one header over the limit": Reply(head(200, "X: " + "y" * MAX_HEAD, "Content-Length: 0"), End.STALL),
    "a header without end": Reply(b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEAD * 9, End.STALL),
    "a reason without end": Reply(b"HTTP/1.1 200 " + b"y" * MAX_HEAD * 9, End.STALL),
    "interim answers without end": Reply(b"HTTP/1.1 100 Continue\r\n\r\n" * 40_000, End.STALL),
}


@pytest.mark.parametrize("way", ["whole", "in pieces"])
@pytest.mark.parametrize("name", BROKEN)
async def test_broken_answer(name: str, way: str) -> None:
    reply = BROKEN[name]
    size = sum(len(step) for step in reply.steps if isinstance(step, bytes))
    if way == "in pieces":
        reply = reply.in_pieces(7 if size < 1000 else 1000)
    async with ScriptedUpstream([reply, OK]) as upstream, client_for() as (client, transport):
        with pytest.raises(httpx.RemoteProtocolError):
            await read_through(client, upstream.url)
        assert transport.open_connections == 0
        await upstream.until(lambda: upstream.open_connections == 0)
        assert upstream.connections[0].sent <= MAX_HEAD + (1 << 22), "read on and on"
        assert await read_through(client, upstream.url) == b"ok"


async def test_headers_up_to_the_limit_are_taken() -> None:
    reply = Reply(head(200, "X: " + "y" * (MAX_HEAD - 1000), "Content-Length: 2") + b"ok")
    for way in (reply, reply.in_pieces(10_000)):
        async with ScriptedUpstream(way) as upstream, client_for() as (client, _):
            response = await client.get(upstream.url)
            assert len(response.headers["x"]) == MAX_HEAD - 1000


@pytest.mark.parametrize("name", ["length", "chunked", "until the close"])
async def test_a_slow_peer_is_timed(name: str) -> None:
    start = {"length": LENGTH_2, "chunked": CHUNKED, "until the close": head(200)}[name]
    for reply in (Reply(End.STALL), Reply(start[:9], End.STALL), Reply(start, End.STALL)):
        async with ScriptedUpstream(reply) as upstream, client_for(read=0.02) as (client, transport):
            with pytest.raises(httpx.ReadTimeout):
                await client.get(upstream.url)
            await upstream.connections[0].peer_closed()
            assert transport.open_connections == 0


async def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with client_for() as (client, transport):
        with pytest.raises(httpx.ConnectError) as caught:
            await client.get(f"http://127.0.0.1:{port}")
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)
        assert transport.open_connections == 0


@pytest.mark.parametrize("host", ["a" * 64, "a" * 300, "name.invalid"])
async def test_a_name_that_cannot_be_found(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that the resolver refuses to ask for."""
    ask = socket.getaddrinfo

    def offline(name: str, *rest: object, **more: object) -> object:
        if name.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ask(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    async with client_for() as (client, transport):
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://{host}:9")
        assert transport.open_connections == 0


# Cancellation


@contextlib.asynccontextmanager
async def stalled(step: str) -> AsyncIterator[tuple[ScriptedUpstream, str, Callable[[], bool]]]:
    """A server that holds a request at `step`, the URL to ask, and whether it is held there."""
    replies = {
        "connecting": Reply(End.STALL),
        "before the head": Reply(End.STALL),
        "in the head": Reply(b"HTTP/1.1 200", End.STALL),
        "in the body": Reply(CHUNKED + chunk(b"a"), End.STALL),
    }
    greeting = Reply(End.STALL) if step == "connecting" else Reply()
    async with ScriptedUpstream(replies[step], greeting) as upstream:
        if step == "connecting":
            # Plain silence to a client that speaks TLS: it is connecting until the handshake is done.
            yield upstream, upstream.url.replace("http", "https"), lambda: bool(upstream.open_connections)
        else:
            yield upstream, upstream.url, lambda: bool(upstream.open_connections and upstream.requests)


@pytest.mark.parametrize("step", ["connecting", "before the head", "in the head", "in the body"])
async def test_cancelling_closes_the_socket(step: str) -> None:
    context = ssl.create_default_context()
    async with (
        stalled(step) as (upstream, url, is_held),
        client_for(StreamTransport(lambda: context)) as (client, transport),
    ):
        delays = []
        for _ in range(50):
            upstream.requests.clear()
            read = anyio.Event()
            task = asyncio.create_task(read_noting(client, url, read))
            await upstream.until(is_held)
            if step == "in the body":
                await read.wait()
            cancelled_at = asyncio.get_running_loop().time()
            task.cancel()
            delays.append(await upstream.connections[-1].peer_closed() - cancelled_at)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert transport.open_connections == 0
        assert statistics.median(delays) < 0.1
        assert len(upstream.connections) == 50


async def read_noting(client: httpx.AsyncClient, url: str, read: anyio.Event) -> None:
    async with client.stream("GET", url) as response:
        async for _ in response.aiter_raw():
            read.set()


async def test_cancelling_while_the_request_is_written() -> None:
    """What the server has not taken yet is not sent any more."""
    loop = asyncio.get_running_loop()
    size = 32 << 20
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        async with client_for() as (client, transport):
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
            task = asyncio.create_task(client.post(url, content=bytes(size)))
            peer, _ = await loop.sock_accept(server)
            with peer:
                peer.setblocking(False)
                received = len(await loop.sock_recv(peer, 1000))
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()
                assert transport.open_connections == 0
                while data := await loop.sock_recv(peer, 1 << 20):
                    received += len(data)
                assert received < size


@pytest.mark.slow
async def test_two_thousand_cancelled_requests() -> None:
    """At any moment of their life, some twice; then one succeeds and nothing is left of the others."""
    chosen = random.Random(3)
    replies = {"/stall": Reply(CHUNKED, chunk(b"a"), End.STALL), "/ok": OK}
    async with ScriptedUpstream(replies) as upstream, client_for(patience=50) as (client, transport):
        assert await read_through(client, f"{upstream.url}/ok") == b"ok"
        tasks_before, files_before = len(asyncio.all_tasks()), open_files()
        with warnings.catch_warnings(record=True) as lost:
            warnings.simplefilter("always", ResourceWarning)
            for _ in range(2000):
                task = asyncio.create_task(read_through(client, f"{upstream.url}/stall"))
                for _ in range(chosen.randint(0, 12)):
                    await asyncio.sleep(0)
                for _ in range(chosen.randint(1, 2)):
                    task.cancel()
                    await asyncio.sleep(0)
                await asyncio.wait([task])
                assert task.cancelled()
            gc.collect()
        assert [str(warning.message) for warning in lost] == [], "left to the garbage collector"
        assert transport.open_connections == 0
        assert await read_through(client, f"{upstream.url}/ok") == b"ok"
        await upstream.until(lambda: upstream.open_connections == 1)
        await until(lambda: len(asyncio.all_tasks()) <= tasks_before)
        assert transport.open_connections == 1
        assert open_files() == files_before
        assert len(upstream.connections) > 100, "hardly any was cancelled after it had connected"
        assert len(upstream.requests) > 100, "hardly any was cancelled after it was sent"


async def test_leaving_an_answer_early_closes_the_socket() -> None:
    reply = Reply(CHUNKED + chunk(b"a"), End.STALL)
    async with ScriptedUpstream(reply) as upstream, client_for() as (client, transport):
        async with client.stream("GET", upstream.url):
            pass
        await upstream.connections[0].peer_closed()
        assert transport.open_connections == 0


async def test_connecting_is_timed() -> None:
    context = ssl.create_default_context()
    async with (
        stalled("connecting") as (upstream, url, is_held),
        client_for(StreamTransport(lambda: context), connect=0.1) as (client, transport),
    ):
        with pytest.raises(httpx.ConnectTimeout):
            await client.get(url)
        await upstream.until(lambda: upstream.connections and not is_held())
        assert transport.open_connections == 0


# Back-pressure


async def test_a_consumer_that_stops_reading_stops_the_server() -> None:
    size = 48 << 20
    reply = stream_reply("text/plain", [b"x" * (1 << 20)] * 48)
    async with ScriptedUpstream(reply) as upstream, client_for() as (client, transport):
        async with client.stream("GET", upstream.url) as response:
            parts = response.aiter_raw()
            received = len(await anext(parts))
            [connection] = upstream.connections
            still = sent = 0
            while still < 200:
                await asyncio.sleep(0)
                still = still + 1 if connection.sent == sent else 0
                sent = connection.sent
            assert sent < size, "everything was read although nobody wanted it"
            waiting = sum(len(part) for [kept] in [list(transport._all)] for part in kept._parts)
            assert waiting <= HIGH_WATER + READ_BUFFER
            async for part in parts:
                assert len(part) <= HIGH_WATER + READ_BUFFER
                received += len(part)
        assert received == size


async def test_a_paused_connection_is_closed_at_once() -> None:
    reply = stream_reply("text/plain", [b"x" * (1 << 20)] * 48)
    async with ScriptedUpstream(reply) as upstream, client_for() as (client, transport):
        async with client.stream("GET", upstream.url):
            await until(lambda: any(kept._paused for kept in transport._all))
        await upstream.connections[0].peer_closed()
        assert transport.open_connections == 0


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> StreamTransport:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return StreamTransport(lambda: context)


async def test_tls(authority: trustme.CA) -> None:
    async with (
        ScriptedUpstream([OK, OK], tls=server_context(authority)) as upstream,
        client_for(trusting(authority)) as (client, transport),
    ):
        for _ in range(2):
            assert await read_through(client, upstream.url) == b"ok"
        assert len(upstream.connections) == 1
        assert transport.open_connections == 1


@pytest.mark.parametrize("size", [10, 20_000, 1_000_000])
async def test_tls_carries_every_byte(authority: trustme.CA, size: int) -> None:
    """Answers that arrive as several records in one read, too."""
    body = random.Random(size).randbytes(size)
    async with (
        ScriptedUpstream(body_reply(200, body), tls=server_context(authority)) as upstream,
        client_for(trusting(authority)) as (client, _),
    ):
        assert await read_through(client, upstream.url) == body


async def test_tls_cancellation_closes_the_socket(authority: trustme.CA) -> None:
    async with (
        ScriptedUpstream(Reply(CHUNKED + chunk(b"a"), End.STALL), tls=server_context(authority)) as upstream,
        client_for(trusting(authority)) as (client, transport),
    ):
        async with client.stream("GET", upstream.url) as response:
            assert await anext(response.aiter_raw()) == b"a"
        await upstream.connections[0].peer_closed()
        assert transport.open_connections == 0


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
@pytest.mark.parametrize(
    "start", [b"", LENGTH_2 + b"o", CHUNKED + b"5\r\nok"], ids=["no", "length", "chunked"]
)
async def test_tls_that_breaks_in_mid_answer(authority: trustme.CA, start: bytes, end: End) -> None:
    replies = [Reply(start, end), OK]
    async with (
        ScriptedUpstream(replies, tls=server_context(authority)) as upstream,
        client_for(trusting(authority)) as (client, transport),
    ):
        with pytest.raises(httpx.RemoteProtocolError):
            await read_through(client, upstream.url)
        assert transport.open_connections == 0
        await upstream.until(lambda: upstream.open_connections == 0)
        assert await read_through(client, upstream.url) == b"ok"


@pytest.mark.parametrize("stage", ["in the hello", "after the hello"])
async def test_tls_that_is_reset_in_the_handshake(authority: trustme.CA, stage: str) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        async with client_for(trusting(authority)) as (client, transport):
            url = f"https://127.0.0.1:{server.getsockname()[1]}"
            task = asyncio.create_task(client.get(url))
            peer, _ = await loop.sock_accept(server)
            with peer:
                peer.setblocking(False)
                await loop.sock_recv(peer, 5 if stage == "in the hello" else 1 << 16)
                if stage == "after the hello":
                    await loop.sock_sendall(peer, b"\x16\x03\x03\x00\x7a\x02")
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with pytest.raises(httpx.ConnectError):
                await task
            assert transport.open_connections == 0


async def test_tls_by_byte(authority: trustme.CA) -> None:
    """A record for each byte of the answer."""
    body = b"0123456789" * 10
    reply = Reply(CHUNKED + chunk(body) + b"0\r\n\r\n").in_pieces(1)
    async with (
        ScriptedUpstream(reply, tls=server_context(authority)) as upstream,
        client_for(trusting(authority)) as (client, _),
    ):
        for _ in range(2):
            assert await read_through(client, upstream.url) == body
        assert len(upstream.connections) == 1


@pytest.mark.parametrize("name", ["another authority", "another name", "no TLS at all", "closed", "reset"])
async def test_tls_that_fails(authority: trustme.CA, name: str) -> None:
    context: ssl.SSLContext | None = None
    greeting = Reply()
    match name:
        case "another authority":
            context = server_context(trustme.CA())
        case "another name":
            context = server_context(authority, "elsewhere.test")
        case "no TLS at all":
            greeting = Reply(head(400, "Content-Length: 0"), End.CLOSE)
        case "closed":
            greeting = Reply(End.CLOSE)
        case "reset":
            greeting = Reply(End.RESET)
    async with (
        ScriptedUpstream(OK, greeting, context) as upstream,
        client_for(trusting(authority)) as (client, transport),
    ):
        with pytest.raises(httpx.ConnectError):
            await client.get(f"https://127.0.0.1:{upstream.port}/secret")
        assert upstream.requests == []
        assert transport.open_connections == 0


async def until(predicate: Callable[[], bool]) -> None:
    """Let the loop run until `predicate` holds."""
    with anyio.fail_after(PATIENCE):
        while not predicate():  # noqa: ASYNC110 - nothing tells of a change in the pool
            await asyncio.sleep(0)


async def until_closed(transport: StreamTransport) -> None:
    await until(lambda: transport.open_connections == 0)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
