"""A cancelled answer: the socket closes, and a server that would go on is told to stop."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from tests.conformance.documented import koboldcpp
from tests.conformance.evidence import case, documented, scenario
from tests.conformance.subjects import WIRES
from tests.conformance.wire import QUESTION, Wire, bytes_of
from tests.fakes.upstream import End, Reply, json_reply
from tests.providers.asking import ask

pytestmark = pytest.mark.anyio


def unended(wire: Wire) -> Reply:
    """A chat up to its first text, and then the server thinks on."""
    begun = bytes_of(wire.failures["cut in mid-answer"][0].reply)
    return Reply(begun.removesuffix(b"0\r\n\r\n"), End.STALL)


async def cancel(wire: Wire, posts: dict[str, Reply]) -> list[tuple[str, dict[str, object]]]:
    """Cancel a chat after its first text; path and body of all requests."""
    async with wire.serving({**posts, wire.chat_path: unended(wire)}) as (upstream, provider):
        begun = anyio.Event()
        task = asyncio.create_task(ask(provider, QUESTION, at_first_text=begun.set))
        with anyio.fail_after(5):
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await upstream.connections[0].peer_closed()
        return [(request.path, request.json()) for request in upstream.requests]


@scenario("cancelled by closing", [case(wire.backend, wire.evidence, wire) for wire in WIRES])
async def test_cancel(case: Wire) -> None:
    sent = await cancel(case, {"/api/extra/abort": json_reply(200, {"success": "true", "done": "true"})})
    others = [path for path, _ in sent if path != case.chat_path]
    assert others == (["/api/extra/abort"] if case.backend == "koboldcpp" else [])


@scenario("stopped by its name", [documented("koboldcpp", koboldcpp.WIRE)])
async def test_abort(case: Wire) -> None:
    """Without the name the route stops whatever runs, another's work too (koboldcpp.py:6358, v1.115)."""
    keys = []
    for _ in range(2):
        chat, abort = await cancel(case, {"/api/extra/abort": json_reply(200, {"success": "true"})})
        assert abort == ("/api/extra/abort", {"genkey": chat[1]["genkey"]})
        keys.append(chat[1]["genkey"])
    assert len(set(keys)) == 2


async def test_a_route_that_fails_does_not_hold_a_cancel_up() -> None:
    with anyio.fail_after(5):
        assert len(await cancel(koboldcpp.WIRE, {"/api/extra/abort": Reply(End.CLOSE)})) == 2
