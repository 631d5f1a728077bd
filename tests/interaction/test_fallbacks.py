"""Who answers when a provider does not: only along the user's list, only before the first word, and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.captures import OLLAMA, capture
from tests.fakes.peer import chat_params, in_memory
from tests.fakes.upstream import End, Reply, ScriptedUpstream, json_reply, sse_reply

pytestmark = pytest.mark.anyio

GOOD = Reply(capture(OLLAMA, "chat-stream"))
ANSWER = "The most obvious colour is white"
CLOSED = "http://127.0.0.1:9"


def chunk(text: str) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


def two(first: str, second: str, **more: Any) -> dict[str, Any]:
    """`first` is the provider `box`; the user lets `spare`, an Ollama at `second`, answer in its place."""
    flags = {
        "provider": "box",
        "model": "m",
        "providers": {
            "box": {"kind": "openai-compatible", "backend": "generic", "baseUrl": first},
            "spare": {"kind": "local", "baseUrl": second},
        },
        "fallbacks": {"box": ["spare/smollm2"]},
        **more,
    }
    return {"flags": flags}


async def test_an_unreachable_provider_is_stood_in_for_and_the_client_is_told(tmp_path: Path) -> None:
    async with ScriptedUpstream(GOOD) as spare, in_memory(tmp_path) as peer:
        await peer.initialize(options=two(CLOSED, spare.url))
        result = await peer.chat(streamToken="t")
        assert (result["provider"], result["message"]["content"]) == ("spare", ANSWER)
        assert spare.requests[0].json()["model"] == "smollm2"
        [status] = [delta["delta"] for delta in peer.deltas("t") if delta["delta"]["kind"] == "status"]
        assert status["state"] == "fallback"
        assert "Asking spare instead." in status["message"]
        assert any("spare answered instead" in warning for warning in result["warnings"])


@pytest.mark.parametrize(
    "reply",
    [
        Reply(End.CLOSE),
        json_reply(502, {"error": "bad gateway"}, "Retry-After: 3600"),
        json_reply(503, {"error": "busy"}, "Retry-After: 3600"),
        sse_reply([{"error": {"message": "engine died"}}]),
    ],
    ids=["closes", "502", "503", "error in stream"],
)
async def test_failures_about_the_provider(tmp_path: Path, reply: Reply) -> None:
    async with (
        ScriptedUpstream(reply) as box,
        ScriptedUpstream(GOOD) as spare,
        in_memory(tmp_path) as peer,
    ):
        await peer.initialize(options=two(box.url, spare.url))
        assert (await peer.chat())["provider"] == "spare"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (json_reply(401, {"error": "Unauthorized"}), "auth"),
        (json_reply(404, {"error": {"message": "model m not found"}}), "not_found"),
        (json_reply(400, {"error": {"message": "maximum context length is 10 tokens"}}), "context_length"),
        (json_reply(400, {"error": {"message": "no"}}), "invalid"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_failures_about_the_request_are_not_hidden(tmp_path: Path, reply: Reply, kind: str) -> None:
    async with (
        ScriptedUpstream(reply) as box,
        ScriptedUpstream(GOOD) as spare,
        in_memory(tmp_path) as peer,
    ):
        await peer.initialize(options=two(box.url, spare.url))
        error = await peer.error("ollm/chat", chat_params())
        assert (error["data"]["kind"], error["data"]["provider"]) == (kind, "box")
        assert spare.connections == []


async def test_nobody_stands_in_once_a_word_was_said(tmp_path: Path) -> None:
    said = sse_reply([chunk("Once"), {"error": {"message": "engine died"}}])
    async with (
        ScriptedUpstream(said) as box,
        ScriptedUpstream(GOOD) as spare,
        in_memory(tmp_path) as peer,
    ):
        await peer.initialize(options=two(box.url, spare.url))
        error = await peer.error("ollm/chat", chat_params())
        assert error["data"]["partialText"] == "Once"
        assert spare.connections == []


async def test_an_alias_has_fallbacks_of_its_own_and_the_last_failure_is_told(tmp_path: Path) -> None:
    options = two(
        CLOSED, CLOSED, aliases={"fast": "box/m"}, model="fast", fallbacks={"fast": ["box/other", "spare"]}
    )
    async with in_memory(tmp_path) as peer:
        await peer.initialize(options=options)
        error = await peer.error("ollm/chat", chat_params(streamToken="t"))
        assert error["data"]["provider"] == "spare"
        states = [delta["delta"]["state"] for delta in peer.deltas("t")]
        assert states.count("fallback") == 2


async def test_a_workspace_cannot_say_who_else_gets_to_see_a_prompt(tmp_path: Path) -> None:
    async with ScriptedUpstream(GOOD) as spare, in_memory(tmp_path) as peer:
        options = two(CLOSED, spare.url, fallbacks={})
        options["workspaceSettings"] = {"fallbacks": {"box": ["spare"]}}
        await peer.initialize(options=options)
        error = await peer.error("ollm/chat", chat_params())
        assert error["data"]["provider"] == "box"
        assert spare.connections == []
        problems = (await peer.request("ollm/config/get", {}))["problems"]
        assert any("a workspace cannot set `fallbacks.box`" in problem["message"] for problem in problems)


async def test_a_fallback_that_nobody_has_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    async with in_memory(tmp_path) as peer:
        await peer.initialize(options=two(CLOSED, CLOSED, fallbacks={"box": ["spair"]}))
        error = await peer.error("ollm/chat", chat_params())
        assert error["data"]["kind"] == "config"
        assert "`spare`" in error["data"]["hint"]


async def test_ollama_by_default_has_fallbacks_too(tmp_path: Path) -> None:
    async with ScriptedUpstream(GOOD) as spare, in_memory(tmp_path, {"OLLAMA_HOST": CLOSED}) as peer:
        options = two(CLOSED, spare.url, fallbacks={"local": ["spare/smollm2"]})
        del options["flags"]["provider"]
        await peer.initialize(options=options)
        assert (await peer.chat())["provider"] == "spare"
