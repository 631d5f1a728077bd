"""FastChat 0.2.36, asked by the adapter and through the daemon."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.peer import chat_params
from tests.heavy import servers
from tests.heavy.talking import VIA, Place, Refused, Talk, daemon, talk

pytestmark = [pytest.mark.heavy, pytest.mark.anyio, pytest.mark.timeout(300, func_only=True)]

PROMPT = "Write one sentence about the sea."
SHORT = {"temperature": 0, "maxTokens": 6}
TOOL = {"name": "get_weather", "description": "The weather."}


@pytest.fixture(params=VIA)
async def model(request: pytest.FixtureRequest, fastchat: Place, tmp_path: Path) -> AsyncIterator[Talk]:
    async with talk(request.param, fastchat, tmp_path) as way:
        yield way


@pytest.fixture(params=VIA)
def via(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(("tokens", "reason"), [(6, "length"), (60, "stop")])
async def test_an_answer_streamed_and_whole(model: Talk, tokens: int, reason: str) -> None:
    options = {"temperature": 0, "maxTokens": tokens}
    streamed = (await model.chat(PROMPT, options=options)).good
    whole = (await model.chat(PROMPT, stream=False, options=options)).good
    assert re.search(r"\bsea\b", streamed.text)
    assert whole.text.strip() == streamed.text.strip()
    assert (streamed.reason, whole.reason) == (reason, reason)


async def test_models(model: Talk) -> None:
    assert [name for name, _ in await model.models()] == ["smollm2-4"]


async def test_a_model_it_does_not_have(model: Talk) -> None:
    error = (await model.chat(PROMPT, model="nope")).error
    assert (error.kind, error.status) == ("not_found", 400)
    assert "nope" in error.message or "smollm2-4" in error.message


@pytest.mark.parametrize("key", [None, "sk-wrong"], ids=["none", "wrong"])
async def test_key(fastchat: Place, via: str, key: str | None, tmp_path: Path) -> None:
    async with talk(via, replace(fastchat, key=key), tmp_path) as way:
        error = (await way.chat(PROMPT)).error
        assert (error.kind, error.status) == ("auth", 401)
        with pytest.raises(Refused) as refused:
            await way.models()
        assert refused.value.failure.kind == "auth"


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_prompt_that_does_not_fit(model: Talk, stream: bool) -> None:
    error = (await model.chat("the " * 20000, stream=stream)).error
    assert (error.kind, error.status) == ("context_length", 400)
    assert len(re.findall(r"\b\d{4,}\b", error.message)) >= 2, error.message


@pytest.mark.parametrize(
    ("wish", "word"),
    [
        ({"tools": [TOOL]}, "tool"),
        ({"responseFormat": {"type": "json"}}, "json"),
        ({"responseFormat": {"type": "choice", "choices": ["a", "b"]}}, "choice"),
    ],
    ids=["tools", "json", "choice"],
)
async def test_what_it_would_ignore_is_not_sent(model: Talk, wish: dict[str, Any], word: str) -> None:
    error = (await model.chat(PROMPT, **wish)).error
    assert (error.kind, error.status) == ("unsupported", None)
    assert "FastChat" in error.message
    assert word in error.message


async def test_cancel(fastchat: Place, tmp_path: Path) -> None:
    """The worker serves a new chat at once, so it is not still busy with what nobody waits for."""
    async with daemon(fastchat, tmp_path) as peer:
        long = chat_params(PROMPT, model="smollm2-4", streamToken=1, options={"maxTokens": 1000})
        identifier = peer.ask("ollm/chat", long)
        await peer.until(lambda: peer.text(1))
        peer.notify("$/cancelRequest", {"id": identifier})
        assert (await peer.answer(identifier))["error"]["code"] == -32800
        again = await peer.chat(PROMPT, model="smollm2-4", options=SHORT)
        assert again["message"]["content"].strip()


async def test_no_worker(fastchat_here: None, logs: Path, via: str, tmp_path: Path) -> None:
    with servers.fastchat(logs, None) as empty:
        place = Place(empty.api.url, "openai-compatible", "smollm2-4", "fastchat")
        async with talk(via, place, tmp_path) as way:
            error = (await way.chat(PROMPT)).error
            assert error.kind == "not_found"
            assert "smollm2-4" in error.message
            assert "running workers" in error.hint
            assert await way.models() == []


async def test_a_worker_that_dies_in_mid_answer(
    fastchat_here: None, logs: Path, via: str, tmp_path: Path
) -> None:
    with servers.fastchat(logs, "smollm2-4") as running:
        assert running.worker
        place = Place(running.api.url, "openai-compatible", "smollm2-4", "fastchat")
        async with talk(via, place, tmp_path) as way:
            error = (
                await way.chat(PROMPT, options={"maxTokens": 1000}, at_first_text=running.worker.kill)
            ).error
            assert error.kind == "stream_truncated"
            assert error.partial
            after = (await way.chat(PROMPT)).error
            assert after.message, after
