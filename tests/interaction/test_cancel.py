"""Cancelling closes the upstream socket at once, answers once, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import functools
import random
import statistics
from pathlib import Path

import anyio
import pytest

from tests.fakes.peer import chat_params, flags, in_memory
from tests.fakes.upstream import End, Reply, Request, ScriptedUpstream, sse_reply

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
BEGUN = HEAD + b"%x\r\n%b\r\n" % (len(TOKEN), TOKEN)
DONE = sse_reply([{"choices": [{"index": 0, "delta": {"content": "ok"}, "finish_reason": "stop"}]}])
STAGES = {
    "before the head": Reply(End.STALL),
    "before the first token": Reply(HEAD, End.STALL),
    "in mid-stream": Reply(BEGUN, End.STALL),
    "in mid-line": Reply(BEGUN[:-30], End.STALL),
}


@pytest.mark.parametrize("stage", STAGES)
async def test_cancel_closes_the_upstream_within_100_ms(tmp_path: Path, stage: str) -> None:
    loop = asyncio.get_running_loop()
    async with ScriptedUpstream(STAGES[stage]) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url))
        delays = []
        for number in range(20):
            identifier = peer.ask("ollm/chat", chat_params(streamToken=number))
            await upstream.request(number)
            if stage == "in mid-stream":
                await peer.until(functools.partial(peer.text, number))
            before = loop.time()
            peer.notify("$/cancelRequest", {"id": identifier})
            delays.append(await upstream.connections[number].peer_closed() - before)
            assert (await peer.answer(identifier))["error"]["code"] == -32800
        assert statistics.median(delays) < 0.1
        assert sum(message.get("id") is not None for message in peer.messages) == 21


@pytest.mark.slow
async def test_two_thousand_cancels_leave_the_pool_healthy(tmp_path: Path) -> None:
    """Cancelled at every point there is: before anything happens, while connecting, in mid-stream."""
    random.seed(7)
    stages = list(STAGES.values())
    cancelled = 2000

    def reply(request: Request) -> Reply:
        return DONE if b"the last one" in request.body else random.choice(stages)

    async with ScriptedUpstream(reply) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url))
        tasks_before = len(asyncio.all_tasks())
        for _ in range(cancelled // 20):
            ids = [peer.ask("ollm/chat", chat_params(streamToken=1)) for _ in range(20)]
            for _ in range(random.randrange(12)):
                await asyncio.sleep(0)
            for identifier in ids:
                peer.notify("$/cancelRequest", {"id": identifier})
            for identifier in ids:
                assert (await peer.answer(identifier))["error"]["code"] == -32800
            peer.messages.clear()
        assert (await peer.chat("the last one"))["message"]["content"] == "ok"
        with anyio.fail_after(5):
            await upstream.until(lambda: upstream.open_connections <= 1)
        assert len(asyncio.all_tasks()) <= tasks_before + 1
        assert (await peer.request("ollm/status"))["upstreamConnections"] <= 1


async def test_a_client_that_leaves_cancels_what_it_began(tmp_path: Path) -> None:
    async with ScriptedUpstream(STAGES["in mid-stream"]) as upstream:
        async with in_memory(tmp_path) as peer:
            await peer.initialize(options=flags(upstream.url))
            peer.ask("ollm/chat", chat_params(streamToken=1))
            await peer.until(lambda: peer.text(1))
        await upstream.connections[0].peer_closed()
