"""Servers found on this machine in little time, and a provider that finds out who its server is."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import anyio
import pytest

from ollm_daemon.discovery import find_servers
from ollm_daemon.providers.backends import BACKENDS
from tests.conformance.documented import koboldcpp, tabbyapi
from tests.conformance.evidence import case, documented, scenario
from tests.conformance.subjects import SERVERS, WIRE
from tests.conformance.wire import QUESTION, Wire
from tests.fakes.upstream import End, Reply, ScriptedUpstream
from tests.providers.asking import ask

pytestmark = pytest.mark.anyio

LIMIT_SECONDS = 1.5


def closed_port() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """An address at which connections are neither made nor refused: its queue is full."""
    with contextlib.ExitStack() as stack:
        hole = stack.enter_context(socket.socket())
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(hole.getsockname())
        yield f"http://127.0.0.1:{hole.getsockname()[1]}"


async def test_all_ports_closed() -> None:
    started = time.monotonic()
    assert await find_servers([closed_port() for _ in range(12)]) == []
    assert time.monotonic() - started < LIMIT_SECONDS


async def test_servers_that_do_not_answer() -> None:
    """One accepts nothing, one says nothing, one says half a head; the one that answers is found."""
    half = Reply(b"HTTP/1.1 200 OK\r\nContent-", End.STALL)
    async with (
        ScriptedUpstream(Reply(End.STALL)) as mute,
        ScriptedUpstream(half) as slow,
        ScriptedUpstream(tabbyapi.WIRE.answers()) as tabby,
    ):
        with black_hole() as hole:
            started = time.monotonic()
            found = await find_servers([hole, mute.url, slow.url, closed_port(), tabby.url])
            assert time.monotonic() - started < LIMIT_SECONDS
    names = {str(server.base_url): server.identity.backend for server in found}
    assert names == {mute.url: None, slow.url: None, tabby.url: "tabbyapi"}


async def test_a_server_that_is_slow_after_its_sign_is_known_all_the_same() -> None:
    """FastChat asks all its workers for each list; a sign seen before is not forgotten."""
    stalled = replace(tabbyapi.WIRE, gets={**tabbyapi.WIRE.gets, "/v1/models": Reply(End.STALL)})
    async with ScriptedUpstream(stalled.answers()) as upstream:
        [found] = await find_servers([upstream.url])
    assert found.identity.backend == "tabbyapi"


FOUND = [wire for wire in SERVERS if wire.kind == "openai-compatible" and wire.known_as == wire.backend]


@scenario("found out before the first chat", [case(wire.backend, wire.evidence, wire) for wire in FOUND])
async def test_auto(case: Wire) -> None:
    """`backend: auto` is resolved once, by the first thing that needs it."""
    async with case.serving(case.chat.reply, backend="auto") as (upstream, provider):
        request, _ = await provider.prepare_chat(QUESTION)
        assert provider.backend is BACKENDS[case.backend]
        await ask(provider, request)
        probes = len(upstream.requests)
        await provider.prepare_chat(QUESTION)
        await ask(provider, request)
        assert len(upstream.requests) <= probes + 3, "it is not asked again"
    assert provider.notices == ()


@scenario("found out from a list of models", [case(wire.backend, wire.evidence, wire) for wire in FOUND])
async def test_auto_list(case: Wire) -> None:
    async with case.serving(backend="auto") as (_, provider):
        assert tuple(await provider.list_models()) == case.models


@scenario("a wrong `backend` corrected", [case(wire.backend, wire.evidence, wire) for wire in FOUND])
async def test_wrong_hint(case: Wire) -> None:
    """The server wins, and the user is told once which setting to correct."""
    hint = "koboldcpp" if case.backend != "koboldcpp" else "llamacpp"
    async with case.serving(case.chat.reply, backend=hint) as (_, provider):
        await provider.connect_ahead()
        assert provider.backend is BACKENDS[case.backend]
        [notice] = provider.notices
    title = BACKENDS[case.backend].title
    assert f"is {title}, not {BACKENDS[hint].title}" in notice
    assert "`providers.here.backend`" in notice


@scenario("a right `backend` believed", [case(wire.backend, wire.evidence, wire) for wire in SERVERS])
async def test_right_hint(case: Wire) -> None:
    async with case.serving(case.chat.reply) as (_, provider):
        await provider.connect_ahead()
        assert provider.backend is BACKENDS[case.backend]
        assert provider.notices == ()


@scenario(
    "what stands in front of vLLM",
    [documented(name, WIRE[name]) for name in ("production-stack", "ray-serve")],
)
async def test_fronts(case: Wire) -> None:
    """A provider of kind `vllm` tells a router from vLLM, whose version the router's is not."""
    async with replace(case, kind="vllm").serving(case.chat.reply) as (_, provider):
        await provider.connect_ahead()
        assert provider.backend is BACKENDS[case.backend]
        assert provider.notices == ()


async def test_another_kind_of_server_behind_a_provider_of_kind_vllm() -> None:
    async with replace(koboldcpp.WIRE, kind="vllm").serving() as (_, provider):
        await provider.connect_ahead()
        [notice] = provider.notices
    assert "is KoboldCpp, not vLLM; choose a provider of kind openai-compatible" in notice


async def test_nobody_there_is_no_failure_of_getting_ready() -> None:
    from tests.conformance.wire import provider_for

    provider = provider_for(tabbyapi.WIRE, closed_port(), backend="auto")
    with anyio.fail_after(5):
        await provider.connect_ahead()
    assert provider.notices == ()
    await provider.aclose()
