"""A constraint that the server did not keep to becomes a warning in the result."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ollm_daemon.domain import ResponseFormat
from ollm_daemon.errors import UnsupportedError
from ollm_daemon.generation import Candidate, run_chat
from tests.conformance.captured import OLLAMA_WIRE
from tests.conformance.documented import koboldcpp, lmstudio, localai, tabbyapi, textgen
from tests.conformance.documented._shapes import choice, fastapi_events
from tests.conformance.evidence import case, documented, scenario, unsupported
from tests.conformance.subjects import WIRE, WIRES
from tests.conformance.wire import QUESTION, Wire
from tests.fakes.upstream import Reply, ndjson_reply

pytestmark = pytest.mark.anyio

JSON = replace(QUESTION, response_format=ResponseFormat("json"))
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


async def warnings(wire: Wire, reply: Reply, wanted: ResponseFormat) -> tuple[str, ...]:
    async with wire.serving(reply) as (_, provider):
        request = replace(QUESTION, response_format=wanted)
        return (await run_chat([Candidate(provider, wire.models[0].id)], request)).warnings


@scenario(
    "an answer that is no JSON",
    [
        *(case(wire.backend, wire.evidence, wire) for wire in WIRES if wire.backend != "fastchat"),
        unsupported("fastchat", WIRE["fastchat"]),
    ],
)
async def test_no_json(case: Wire) -> None:
    if case.backend == "fastchat":
        with pytest.raises(UnsupportedError):
            await warnings(case, case.chat.reply, JSON.response_format)
        return
    said = " ".join(await warnings(case, case.chat.reply, JSON.response_format))
    assert "is not valid JSON" in said
    cut = "was cut at the token limit" if case.chat.reason == "length" else "did not keep to the constraint"
    assert cut in said


def _text(wire: Wire, text: str) -> Reply:
    """An answer of that text in the framing of the server."""
    if wire is OLLAMA_WIRE:
        last = {"model": "m", "message": {"content": ""}, "done": True, "done_reason": "stop"}
        return ndjson_reply([{"model": "m", "message": {"content": text}, "done": False}, last])
    if wire is koboldcpp.WIRE:
        return koboldcpp.events(koboldcpp.said(text), koboldcpp.end("stop"), koboldcpp.DONE)
    if wire is tabbyapi.WIRE:
        return tabbyapi.events(tabbyapi.chunk({"content": text}), tabbyapi.END, tabbyapi.DONE)
    return fastapi_events(choice({"content": text}), choice({}, "stop"), b"[DONE]")


# Those that are known to leave a schema out in silence.
FORGETFUL = [OLLAMA_WIRE, lmstudio.WIRE, localai.WIRE, textgen.WIRE, koboldcpp.WIRE, tabbyapi.WIRE]


@scenario("an answer that breaks its schema", [documented(wire.backend, wire) for wire in FORGETFUL])
async def test_broken_schema(case: Wire) -> None:
    wanted = ResponseFormat("jsonSchema", SCHEMA)
    said = await warnings(case, _text(case, '{"a": "one"}'), wanted)
    assert "breaks its schema at $.a (type)" in " ".join(said)


@scenario("an answer that breaks its pattern", [documented("tabbyapi", tabbyapi.WIRE)])
async def test_broken_pattern(case: Wire) -> None:
    said = await warnings(case, _text(case, "abd"), ResponseFormat("regex", "[a-c]+"))
    assert "does not match the pattern" in " ".join(said)


CHOOSING = [localai.WIRE, textgen.WIRE, koboldcpp.WIRE, tabbyapi.WIRE, WIRE["vllm"], WIRE["aphrodite"]]


@scenario("an answer that is none of the choices", [documented(wire.backend, wire) for wire in CHOOSING])
async def test_no_choice(case: Wire) -> None:
    wanted = ResponseFormat("choice", ["yes", "no"])
    assert "is none of the choices" in " ".join(await warnings(case, _text(case, "maybe"), wanted))
    assert not [said for said in await warnings(case, _text(case, "yes"), wanted) if "did not keep" in said]
