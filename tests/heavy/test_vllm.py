"""vLLM 0.32.0, asked by its adapter and through the daemon."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.peer import chat_params
from tests.heavy.conftest import KEY
from tests.heavy.servers import CONTEXT, RUNNING, Server, until
from tests.heavy.talking import VIA, Place, Refused, Talk, daemon, talk

pytestmark = [pytest.mark.heavy, pytest.mark.anyio, pytest.mark.timeout(300, func_only=True)]

PROMPT = "Write one sentence about the sea."
GREEDY = {"temperature": 0, "maxTokens": 24}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
ENDLESS = {"maxTokens": 1900, "extraBody": {"ignore_eos": True}}


@pytest.fixture(params=VIA)
async def model(request: pytest.FixtureRequest, vllm: Place, tmp_path: Path) -> AsyncIterator[Talk]:
    async with talk(request.param, vllm, tmp_path) as way:
        yield way


@pytest.fixture(params=VIA)
def via(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_an_answer_streamed_and_whole(model: Talk) -> None:
    streamed = (await model.chat(PROMPT, options=GREEDY)).good
    whole = (await model.chat(PROMPT, stream=False, options=GREEDY)).good
    assert re.search(r"\b(sea|ocean|water)\b", streamed.text)
    assert whole == streamed
    assert streamed.reason == "length"
    assert streamed.usage is not None
    prompt_tokens, completion_tokens = streamed.usage
    assert 10 < prompt_tokens < 60
    assert completion_tokens == GREEDY["maxTokens"]


async def test_models(model: Talk) -> None:
    assert await model.models() == [("smollm2", CONTEXT)]


async def test_a_model_it_does_not_have(model: Talk) -> None:
    error = (await model.chat(PROMPT, model="nope")).error
    assert (error.kind, error.status) == ("not_found", 404)
    assert "nope" in error.message
    assert "ollm models" in error.hint


@pytest.mark.parametrize("key", [None, "sk-wrong"], ids=["none", "wrong"])
async def test_key(vllm: Place, via: str, key: str | None, tmp_path: Path) -> None:
    async with talk(via, replace(vllm, key=key), tmp_path) as way:
        error = (await way.chat(PROMPT)).error
        assert (error.kind, error.status) == ("auth", 401)
        assert "apiKey" in error.hint
        with pytest.raises(Refused) as refused:
            await way.models()
        assert refused.value.failure.kind == "auth"


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_prompt_that_does_not_fit(model: Talk, stream: bool) -> None:
    error = (await model.chat("the " * 2 * CONTEXT, stream=stream)).error
    assert (error.kind, error.status) == ("context_length", 400)
    assert f"maximum context length is {CONTEXT} tokens" in error.message
    assert f"at least {CONTEXT + 1} input tokens" in error.message
    assert "Shorten the prompt" in error.hint


async def test_stop(model: Talk) -> None:
    whole = (await model.chat(PROMPT, options=GREEDY)).good.text
    word = whole.split()[4]
    stopped = (await model.chat(PROMPT, options={**GREEDY, "stop": ["never said", word]})).good
    assert stopped.text == whole.partition(word)[0]
    assert stopped.reason == "stop"


async def test_seed(model: Talk) -> None:
    async def text(seed: int) -> str:
        return (
            await model.chat(PROMPT, options={"maxTokens": 24, "temperature": 1.2, "seed": seed})
        ).good.text

    assert await text(7) == await text(7)
    assert await text(7) != await text(8)


async def test_an_image_for_a_model_without_eyes(model: Talk) -> None:
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "data": PIXEL, "mediaType": "image/png"},
    ]
    error = (await model.chat("", messages=[{"role": "user", "content": content}])).error
    assert error.status == 400
    assert error.kind in ("invalid", "unsupported")
    assert "multimodal" in error.message


SHAPE = {
    "type": "object",
    "properties": {"wet": {"type": "boolean"}, "color": {"enum": ["blue", "green"]}},
    "required": ["wet", "color"],
    "additionalProperties": False,
}
CHOICES = ["certainly", "by no means"]
PATTERN = r"[A-F]{3}-[0-9]{4}"
GRAMMAR = 'root ::= "north" ("-" ("east" | "west"))?'


def fits_shape(text: str) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return (
        isinstance(value, dict)
        and value.keys() == {"wet", "color"}
        and isinstance(value["wet"], bool)
        and value["color"] in ("blue", "green")
    )


def is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


FITS: dict[str, Callable[[str], bool]] = {
    "json": is_json,
    "jsonSchema": fits_shape,
    "choice": lambda text: text in CHOICES,
    "regex": lambda text: re.fullmatch(PATTERN, text) is not None,
    "grammar": lambda text: re.fullmatch(r"north(-(east|west))?", text) is not None,
}
CONSTRAINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "guided_json": ("jsonSchema", {"extraBody": {"guided_json": SHAPE}}),
    "guided_choice": ("choice", {"extraBody": {"guided_choice": CHOICES}}),
    "guided_regex": ("regex", {"extraBody": {"guided_regex": PATTERN}}),
    "guided_grammar": ("grammar", {"extraBody": {"guided_grammar": GRAMMAR}}),
    "structured_outputs": ("choice", {"extraBody": {"structured_outputs": {"choice": CHOICES}}}),
    "json": ("json", {"responseFormat": {"type": "json"}}),
    "jsonSchema": ("jsonSchema", {"responseFormat": {"type": "jsonSchema", "schema": SHAPE}}),
    "choice": ("choice", {"responseFormat": {"type": "choice", "choices": CHOICES}}),
    "regex": ("regex", {"responseFormat": {"type": "regex", "pattern": PATTERN}}),
    "grammar": ("grammar", {"responseFormat": {"type": "grammar", "grammar": GRAMMAR}}),
}


@pytest.mark.parametrize("name", CONSTRAINTS)
async def test_a_constraint_is_obeyed(model: Talk, name: str) -> None:
    wanted, constraint = CONSTRAINTS[name]
    prompt = "Is the sea wet? Which color is it? Answer briefly, in JSON."
    options = {"temperature": 0, "maxTokens": 64}
    free = (await model.chat(prompt, options=options)).good
    assert not FITS[wanted](free.text), "the constraint would prove nothing"
    rest = {"responseFormat": constraint["responseFormat"]} if "responseFormat" in constraint else {}
    options["extraBody"] = constraint.get("extraBody", {})
    for stream in (True, False):
        bound = (await model.chat(prompt, stream=stream, options=options, **rest)).good
        assert FITS[wanted](bound.text), bound
        assert bound.reason == "stop"


UNREADABLE = {
    "guided_json": {"type": "nonsense"},
    "guided_regex": "[a-",
    "guided_grammar": "root ::= (",
}


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_constraint_it_cannot_read(model: Talk, name: str, stream: bool) -> None:
    error = (await model.chat(PROMPT, stream=stream, options={"extraBody": {name: UNREADABLE[name]}})).error
    assert error.kind == "invalid"
    assert re.search("Invalid type: nonsense|unclosed character class|Invalid grammar", error.message)


async def test_two_constraints(model: Talk) -> None:
    extra = {"guided_regex": PATTERN, "guided_choice": CHOICES}
    error = (await model.chat(PROMPT, options={"extraBody": extra})).error
    assert (error.kind, error.status) == ("unsupported", None)


async def test_beam_search(model: Talk) -> None:
    options = {"maxTokens": 4, "temperature": 0, "extraBody": {"use_beam_search": True, "n": 2}}
    refused = (await model.chat(PROMPT, options=options)).error
    assert (refused.kind, refused.status) == ("unsupported", None)
    assert refused.message == "vLLM cannot stream a beam search."
    found = (await model.chat(PROMPT, stream=False, options=options)).good
    assert found.text


async def test_best_of(model: Talk) -> None:
    options = {**GREEDY, "extraBody": {"best_of": 2}}
    error = (await model.chat(PROMPT, options=options)).error
    assert (error.kind, error.status) == ("unsupported", None)
    assert "best_of" in error.message
    assert (await model.chat(PROMPT, options={**GREEDY, "extraBody": {"best_of": 1}})).good.text


CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Oslo", "Paris"]}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"name": "get_weather", "description": "Get weather", "parameters": CITY}
TIME = {"name": "get_time", "description": "Get time", "parameters": CITY}
A_CALL_BEFORE = [
    {"role": "user", "content": "What is the weather in Oslo?"},
    {
        "role": "assistant",
        "content": "",
        "toolCalls": [{"id": "call_0", "name": "get_weather", "arguments": '{"city": "Oslo"}'}],
    },
    {"role": "tool", "content": "18C", "toolCallId": "call_0"},
    {"role": "assistant", "content": "18C."},
    {"role": "user", "content": "What is the weather in Paris?"},
]
"""A small model calls a function only after it has seen that done."""


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("choice", ["auto", "required", "get_time"])
async def test_tools(model: Talk, choice: str, stream: bool) -> None:
    called = (
        await model.chat(
            "",
            stream=stream,
            messages=A_CALL_BEFORE,
            tools=[WEATHER, TIME],
            toolChoice=choice,
            options={"temperature": 0, "maxTokens": 128},
        )
    ).good
    [(name, arguments)] = called.calls
    assert name == ("get_time" if choice == "get_time" else "get_weather")
    if choice == "get_time":
        # The arguments of a named function are JSON, but not held to its schema (0.32).
        assert isinstance(json.loads(arguments), dict)
    else:
        assert json.loads(arguments) == {"city": "Paris"}
    assert called.reason == "toolCalls"


async def test_tools_that_must_not_be_called(model: Talk) -> None:
    free = (
        await model.chat("", messages=A_CALL_BEFORE, tools=[WEATHER], toolChoice="none", options=GREEDY)
    ).good
    assert free.text
    assert not free.calls


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_cancelling_stops_the_engine(
    vllm: Place, vllm_server: Server, tmp_path: Path, stream: bool
) -> None:
    async with daemon(vllm, tmp_path) as peer:
        token = {"streamToken": 1} if stream else {}
        identifier = peer.ask("ollm/chat", chat_params(PROMPT, model="smollm2", options=ENDLESS, **token))
        if stream:
            await peer.until(lambda: peer.text(1))
        await until(lambda: vllm_server.metric(RUNNING) == 1)
        peer.notify("$/cancelRequest", {"id": identifier})
        assert (await peer.answer(identifier))["error"]["code"] == -32800
        await until(lambda: vllm_server.metric(RUNNING) == 0)


async def test_the_key_is_nowhere_in_an_error(vllm: Place, via: str, tmp_path: Path) -> None:
    async with talk(via, replace(vllm, key=f"{KEY}-not"), tmp_path) as way:
        error = (await way.chat(PROMPT)).error
        assert KEY not in error.message + error.hint
