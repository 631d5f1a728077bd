"""The typed client against a daemon that ends, or that is newer than the client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from ollm_daemon.client import ChatStream, Daemon, DaemonError, DaemonGone
from ollm_daemon.protocol.chat import ChatParams, Message
from ollm_daemon.protocol.state import NoParams, StatusResult

pytestmark = pytest.mark.anyio

PARAMS = ChatParams(messages=[Message(role="user", content="x")])
RESULT = {
    "message": {"role": "assistant", "content": "hi"},
    "finishReason": "stop",
    "provider": "p",
    "model": "m",
    "timings": {"totalMs": 1},
}


class Socket:
    """A daemon that says what the test feeds, and hears nothing."""

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader()

    def feed(self, **message: Any) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.reader.feed_data(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    def write(self, data: bytes) -> None:
        """What the client says."""

    def close(self) -> None:
        """The client leaves."""


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Daemon, Socket]]:
    socket = Socket()
    daemon = Daemon(socket.reader, socket)  # type: ignore[arg-type]
    async with anyio.create_task_group() as task_group:
        task_group.start_soon(daemon.read_on)
        with anyio.fail_after(5):
            yield daemon, socket
        task_group.cancel_scope.cancel()


async def kinds(stream: ChatStream) -> list[str]:
    return [delta.kind async for delta in stream]


async def test_a_request_after_the_end_fails_at_once() -> None:
    async with connected() as (daemon, socket):
        socket.reader.feed_eof()
        with pytest.raises(DaemonGone):
            await daemon.request("ollm/status", NoParams(), StatusResult)
        with pytest.raises(DaemonGone):
            await daemon.request("ollm/status", None, StatusResult)
        with pytest.raises(DaemonGone):
            async with daemon.chat(PARAMS):
                pass


@pytest.mark.parametrize(
    "data", [b"Content-Length: x\r\n\r\n", b"nonsense\r\n\r\n", b"Content-Length: 1\r\n\r\n{"]
)
async def test_bytes_that_are_no_messages_end_the_connection(data: bytes) -> None:
    async with connected() as (daemon, socket):
        socket.reader.feed_data(data)
        with pytest.raises(DaemonGone):
            await daemon.request("ollm/status", None, StatusResult)


async def test_a_kind_of_delta_that_is_not_known_is_passed_over() -> None:
    async with connected() as (daemon, socket), daemon.chat(PARAMS) as stream:
        for delta in ({"kind": "audio", "x": 1}, {"kind": "text", "text": "hi"}):
            socket.feed(method="ollm/completion/delta", params={"streamToken": 0, "seq": 0, "delta": delta})
        socket.feed(id=0, result=RESULT)
        assert await kinds(stream) == ["text"]
        assert stream.result.message.content == "hi"


async def test_a_reason_that_is_not_known_is_an_unknown_one() -> None:
    async with connected() as (daemon, socket), daemon.chat(PARAMS) as stream:
        socket.feed(id=0, result={**RESULT, "finishReason": "newReason"})
        assert await kinds(stream) == []
        assert stream.result.finish_reason == "unknown"


async def test_an_answer_that_is_none_is_an_error() -> None:
    async with connected() as (daemon, socket), daemon.chat(PARAMS) as stream:
        socket.feed(id=0, result={"no": "answer"})
        with pytest.raises(DaemonError):
            await kinds(stream)


async def test_an_error_of_a_kind_that_is_not_known_keeps_its_sentence_and_hint() -> None:
    async with connected() as (daemon, socket), daemon.chat(PARAMS) as stream:
        socket.feed(id=0, error={"code": -32803, "message": "No.", "data": {"kind": "new", "hint": "Do."}})
        with pytest.raises(DaemonError, match="No") as caught:
            await kinds(stream)
        assert caught.value.data
        assert (caught.value.data.kind, caught.value.data.hint) == ("internal", "Do.")
