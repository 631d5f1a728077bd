"""A server that runs one request at a time: who types need not wait for every chat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.fakes.peer import chat_params, flags, in_memory
from tests.fakes.upstream import Reply, Request, ScriptedUpstream, chunk, head, json_reply, sse_reply

pytestmark = pytest.mark.anyio

CHAT, INFILL = "/v1/chat/completions", "/infill"
BEGUN = chunk(b'data: {"choices":[{"index":0,"delta":{"content":"so"}}]}\n\n')
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
OVER = chunk(END) + chunk(b"")


def llama(slots: Any, gate: anyio.Event) -> Any:
    """A llama.cpp whose chats go on when the gate opens."""

    def reply(request: Request) -> Reply:
        if request.path == CHAT:
            start = head(200, "Content-Type: text/event-stream", "Transfer-Encoding: chunked")
            return Reply(start, BEGUN, gate, OVER)
        if request.path == INFILL:
            return sse_reply([{"content": "x()", "stop": True, "stop_type": "eos"}])
        return json_reply(200, {"total_slots": slots})

    return reply


def paths(upstream: ScriptedUpstream) -> list[str]:
    return [request.path for request in upstream.requests if request.method == "POST"]


async def test_a_second_chat_waits_and_what_is_typed_does_not(tmp_path: Path) -> None:
    gate = anyio.Event()
    async with ScriptedUpstream(llama(1, gate)) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url, backend="llamacpp"))
        first = peer.ask("ollm/chat", chat_params(streamToken=1))
        await peer.until(lambda: peer.deltas(1))
        second, third = (peer.ask("ollm/chat", chat_params()) for _ in range(2))
        await upstream.until(lambda: any(request.path == "/props" for request in upstream.requests))
        typed = await peer.request("ollm/infill", {"prefix": "a = ", "suffix": ""})
        assert typed["text"] == "x()"
        assert paths(upstream) == [CHAT, INFILL]
        peer.notify("$/cancelRequest", {"id": third})
        assert (await peer.answer(third))["error"]["code"] == -32800
        gate.set()
        assert (await peer.answer(first))["result"]["message"]["content"] == "so"
        assert (await peer.answer(second))["result"]["message"]["content"] == "so"
        assert paths(upstream) == [CHAT, INFILL, CHAT]


async def test_a_chat_that_is_cancelled_gives_its_turn_away(tmp_path: Path) -> None:
    gate = anyio.Event()
    async with ScriptedUpstream(llama(1, gate)) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url, backend="llamacpp"))
        first = peer.ask("ollm/chat", chat_params(streamToken=1))
        await peer.until(lambda: peer.deltas(1))
        peer.ask("ollm/chat", chat_params(streamToken=2))
        await upstream.until(lambda: any(request.path == "/props" for request in upstream.requests))
        peer.notify("$/cancelRequest", {"id": first})
        await peer.until(lambda: peer.deltas(2))


@pytest.mark.parametrize("slots", [4, None, "1"])
async def test_a_server_with_more_slots_or_none_known_gets_all_at_once(tmp_path: Path, slots: Any) -> None:
    gate = anyio.Event()
    async with ScriptedUpstream(llama(slots, gate)) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url, backend="llamacpp"))
        for token in range(3):
            peer.ask("ollm/chat", chat_params(streamToken=token))
        await peer.until(lambda: all(peer.deltas(token) for token in range(3)))
        gate.set()
