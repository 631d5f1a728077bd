"""vLLM's own router 0.1.17 in front of two vLLMs: what passes through it, and where it sends a session."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.peer import chat_params
from tests.heavy import servers
from tests.heavy.conftest import KEY
from tests.heavy.servers import CONTEXT, RUNNING, Server, until
from tests.heavy.talking import VIA, Place, Refused, Talk, daemon, talk

pytestmark = [pytest.mark.heavy, pytest.mark.anyio, pytest.mark.timeout(300, func_only=True)]

GENERATED = "vllm:generation_tokens_total"
PROMPT = "the sea"
SHORT = {"temperature": 0, "maxTokens": 8, "extraBody": {"ignore_eos": True}}
ENDLESS: dict[str, Any] = {"maxTokens": 2000, "extraBody": {"ignore_eos": True}}


@dataclass(frozen=True)
class Routed:
    """A router and what is behind it."""

    router: Server
    workers: tuple[Server, ...]

    def answered(self) -> list[int]:
        """How many requests each worker has finished."""
        return [int(worker.metric("vllm:request_success_total")) for worker in self.workers]


@pytest.fixture(scope="module")
def routed(
    router_here: None, start_tiny_vllm: Callable[[], AbstractContextManager[Server]], logs: Path
) -> Iterator[Routed]:
    with ExitStack() as running:
        workers = tuple(running.enter_context(start_tiny_vllm()) for _ in range(2))
        router = running.enter_context(servers.router(logs, workers, "consistent_hash"))
        yield Routed(router, workers)


@pytest.fixture
def place(routed: Routed) -> Place:
    return Place(routed.router.url, "vllm", "tiny", key=KEY)


@pytest.fixture(params=VIA)
async def model(request: pytest.FixtureRequest, place: Place, tmp_path: Path) -> AsyncIterator[Talk]:
    async with talk(request.param, place, tmp_path) as way:
        yield way


async def test_an_answer_streamed_and_whole(model: Talk) -> None:
    streamed = (await model.chat(PROMPT, options=SHORT)).good
    assert streamed.text
    assert streamed.reason == "length"
    assert streamed.usage is not None
    assert streamed.usage[1] == SHORT["maxTokens"]
    assert (await model.chat(PROMPT, stream=False, options=SHORT)).good == streamed


async def test_models(model: Talk) -> None:
    assert await model.models() == [("tiny", CONTEXT)]


async def test_a_constraint_for_the_version_behind_it(model: Talk) -> None:
    wanted = {"type": "regex", "pattern": r"[A-F]{3}-[0-9]{4}"}
    bound = (await model.chat(PROMPT, responseFormat=wanted, options={"maxTokens": 32})).good
    assert re.fullmatch(wanted["pattern"], bound.text)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_errors(model: Talk, stream: bool) -> None:
    unknown = (await model.chat(PROMPT, stream=stream, model="nope")).error
    assert (unknown.kind, unknown.status) == ("not_found", 404)
    long = (await model.chat("the " * 2 * CONTEXT, stream=stream)).error
    assert (long.kind, long.status) == ("context_length", 400)
    unreadable = {"extraBody": {"guided_json": {"type": "nonsense"}}}
    assert (await model.chat(PROMPT, stream=stream, options=unreadable)).error.kind == "invalid"


@pytest.mark.parametrize("via", VIA)
async def test_key(place: Place, tmp_path: Path, via: str) -> None:
    async with talk(via, replace(place, key="sk-wrong"), tmp_path) as way:
        error = (await way.chat(PROMPT)).error
        assert (error.kind, error.status) == ("auth", 401)
        with pytest.raises(Refused) as refused:
            await way.models()
        assert refused.value.failure.kind == "auth"


@pytest.mark.parametrize("via", VIA)
async def test_a_session_stays_where_it_began(routed: Routed, place: Place, tmp_path: Path, via: str) -> None:
    """The prompt's cache is with the worker that has read it. The router knows a session by a header."""
    homes = set()
    for session in range(12):
        headers = (("X-Session-ID", f"{via}-{session}"),)
        before = routed.answered()
        async with talk(via, replace(place, headers=headers), tmp_path) as way:
            for turn in range(3):
                assert (await way.chat(f"{PROMPT} {turn}", options=SHORT)).good.text
        counts = [now - then for now, then in zip(routed.answered(), before, strict=True)]
        assert sorted(counts) == [0, 3]
        homes.add(counts.index(3))
    assert homes == {0, 1}, "sessions are spread"


async def test_cancelling_stops_the_engine(
    router_here: None, vllm: Place, vllm_server: Server, logs: Path, tmp_path: Path
) -> None:
    """Behind the router is an engine that takes its time: the tiny ones are done before a cancel arrives."""
    with servers.router(logs, (vllm_server,), "round_robin") as router:
        async with daemon(replace(vllm, url=router.url), tmp_path) as peer:
            before = vllm_server.metric(GENERATED)
            identifier = peer.ask(
                "ollm/chat", chat_params(PROMPT, model=vllm.model, options=ENDLESS, streamToken=1)
            )
            await peer.until(lambda: peer.text(1))
            peer.notify("$/cancelRequest", {"id": identifier})
            assert (await peer.answer(identifier))["error"]["code"] == -32800
            await until(lambda: vllm_server.metric(RUNNING) == 0)
            assert vllm_server.metric(GENERATED) - before < ENDLESS["maxTokens"] / 2


async def test_a_worker_that_dies_in_mid_answer(routed: Routed, place: Place, tmp_path: Path) -> None:
    """The last of them, for it leaves one worker; what is asked next goes to that one."""
    place = replace(place, headers=(("X-Session-ID", "short-lived"),))
    async with talk("daemon", place, tmp_path) as way:
        before = routed.answered()
        assert (await way.chat(PROMPT, options=SHORT)).good
        home = next(i for i, answered in enumerate(routed.answered()) if answered > before[i])

        error = (await way.chat(PROMPT, options=ENDLESS, at_first_text=routed.workers[home].kill)).error
        assert error.kind == "stream_truncated"
        assert error.partial
        assert (await way.chat(PROMPT, options=SHORT)).good.text
