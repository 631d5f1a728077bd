"""The HTTP transport against servers that others wrote: uvicorn over h11 and over httptools."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import httpx
import pytest
import uvicorn

from ollm_daemon.providers._transport import StreamTransport
from tests.providers.test_transport import client_for, read_through, until

pytestmark = pytest.mark.anyio

SERVERS = ("h11", "httptools")
SIZE = 3_000_000
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Application:
    """A small ASGI application that remembers who left in mid-answer."""

    def __init__(self) -> None:
        self.left = anyio.Event()

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Any], send: Send) -> None:
        assert scope["type"] == "http"
        match scope["path"]:
            case "/tokens":
                await self._stream(send, [b"data: %d\n\n" % number for number in range(500)])
            case "/large":
                await self._answer(send, bytes(SIZE))
            case "/echo":
                await self._answer(send, hashlib.sha256(await _body(receive)).hexdigest().encode())
            case "/nothing":
                await send({"type": "http.response.start", "status": 204, "headers": []})
                await send({"type": "http.response.body", "body": b""})
            case "/stall":
                await _begin(send)
                await send({"type": "http.response.body", "body": b"a", "more_body": True})
                while (await receive())["type"] != "http.disconnect":
                    pass
                self.left.set()
            case "/close":
                await self._answer(send, b"bye", (b"connection", b"close"))

    async def _stream(self, send: Send, parts: list[bytes]) -> None:
        await _begin(send)
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _answer(self, send: Send, body: bytes, *headers: tuple[bytes, bytes]) -> None:
        await _begin(send, (b"content-length", b"%d" % len(body)), *headers)
        await send({"type": "http.response.body", "body": body})


async def _begin(send: Send, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})


async def _body(receive: Callable[[], Any]) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


@contextlib.asynccontextmanager
async def serving(http: str) -> AsyncIterator[tuple[Application, str, httpx.AsyncClient, StreamTransport]]:
    """The application on a free port, and a client of it."""
    application = Application()
    config = uvicorn.Config(application, http=http, ws="none", lifespan="off", port=0, log_config=None)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with client_for() as (client, transport):
            yield application, f"http://127.0.0.1:{port}", client, transport
    finally:
        server.force_exit = True
        await server.shutdown()


@pytest.mark.parametrize("http", SERVERS)
async def test_every_kind_of_answer_over_one_connection(http: str) -> None:
    expected = {
        "/tokens": b"".join(b"data: %d\n\n" % number for number in range(500)),
        "/large": bytes(SIZE),
        "/nothing": b"",
    }
    async with serving(http) as (_, url, client, transport):
        for path, body in [*expected.items()] * 3:
            assert await read_through(client, f"{url}{path}") == body
            assert transport.open_connections == 1
        sent = bytes(range(256)) * 4000
        assert (await client.post(f"{url}/echo", content=sent)).text == hashlib.sha256(sent).hexdigest()
        assert await read_through(client, f"{url}/close") == b"bye"
        assert transport.open_connections == 0
        assert await read_through(client, f"{url}/nothing") == b""


@pytest.mark.parametrize("http", SERVERS)
async def test_many_at_once(http: str) -> None:
    async with serving(http) as (_, url, client, transport):
        answers = await asyncio.gather(*(read_through(client, f"{url}/tokens") for _ in range(50)))
        assert set(map(len, answers)) == {len(b"".join(b"data: %d\n\n" % number for number in range(500)))}
        await until(lambda: transport.open_connections <= 16)


@pytest.mark.parametrize("http", SERVERS)
async def test_the_server_learns_of_a_cancel(http: str) -> None:
    async with serving(http) as (application, url, client, transport):
        async with client.stream("GET", f"{url}/stall") as response:
            assert await anext(response.aiter_raw()) == b"a"
        await application.left.wait()
        assert transport.open_connections == 0
        assert await read_through(client, f"{url}/nothing") == b""
