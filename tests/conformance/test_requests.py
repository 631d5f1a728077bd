"""What each server is sent: constraints and images in its own words, and nothing that it stumbles over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ollm_daemon.domain import GenerationOptions, ImagePart, Message, ResponseFormat, TextPart
from ollm_daemon.errors import ErrorKind, UnsupportedError
from ollm_daemon.generation import Candidate, run_chat
from tests.conformance.captured import OLLAMA_WIRE
from tests.conformance.documented import koboldcpp, lmstudio, tabbyapi
from tests.conformance.evidence import Case, documented, scenario, unsupported
from tests.conformance.subjects import WIRE, WIRES
from tests.conformance.wire import QUESTION, Wire
from tests.fakes.upstream import json_reply
from tests.providers.asking import ask

pytestmark = pytest.mark.anyio

OPENAI_SET = ("lmstudio", "localai", "koboldcpp", "llamacpp", "embedded", "fastchat", "generic")
VLLM_SET = ("vllm", "aphrodite", "production-stack", "vllm-router", "ray-serve")


async def sent(wire: Wire, **changes: Any) -> dict[str, Any]:
    """The body of the one request to the chat."""
    async with wire.serving(wire.chat.reply) as (upstream, provider):
        await ask(provider, replace(QUESTION, **changes))
    [body] = [request.json() for request in upstream.requests if request.path == wire.chat_path]
    assert isinstance(body, dict)
    return body


# Constraints

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
WANTED = {
    "json": ResponseFormat("json"),
    "jsonSchema": ResponseFormat("jsonSchema", SCHEMA),
    "regex": ResponseFormat("regex", "[a-c]+\\."),
    "choice": ResponseFormat("choice", ["yes", 'no "way"']),
    "grammar": ResponseFormat("grammar", 'root ::= "a"'),
}
_OBJECT: dict[str, Any] = {"response_format": {"type": "json_object"}}
_SCHEMA: dict[str, Any] = {
    "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
}
_ANY: dict[str, Any] = {
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}},
    }
}
_CHOICE = 'root ::= "yes" | "no \\"way\\""'
_GBNF: dict[str, dict[str, Any]] = {
    "json": _OBJECT,
    "jsonSchema": _SCHEMA,
    "choice": {"grammar": _CHOICE},
    "grammar": {"grammar": 'root ::= "a"'},
}
_STRUCTURED: dict[str, dict[str, Any]] = {
    "json": _OBJECT,
    "jsonSchema": _SCHEMA,
    "regex": {"structured_outputs": {"regex": "[a-c]+\\."}},
    "choice": {"structured_outputs": {"choice": ["yes", 'no "way"']}},
    "grammar": {"structured_outputs": {"grammar": 'root ::= "a"'}},
}
FORMATS: dict[str, dict[str, dict[str, Any]]] = {
    "ollama": {"json": {"format": "json"}, "jsonSchema": {"format": SCHEMA}},  # api/types.go, v0.33
    **dict.fromkeys(VLLM_SET, _STRUCTURED),  # sampling_params.py:103-141, v0.33
    "lmstudio": {"json": _ANY, "jsonSchema": _SCHEMA},  # bug-tracker #189
    "localai": _GBNF,  # chat.go:297, v4.9
    "koboldcpp": _GBNF,  # koboldcpp.py:4132-4150, v1.115
    **dict.fromkeys(("llamacpp", "embedded"), _GBNF),  # server-common.cpp, b11434
    "tabbyapi": {  # common/sampling.py and OAI/router.py:144-149, e632af4
        "json": {"response_format": {"type": "json"}},
        "jsonSchema": _SCHEMA,
        "regex": {"regex_pattern": "[a-c]+\\."},
        "choice": {"regex_pattern": 'yes|no\\ "way"'},
        "grammar": {"grammar_string": 'root ::= "a"'},
    },
    "textgen": {  # typing.py:60, v4.9
        "choice": {"grammar_string": _CHOICE},
        "grammar": {"grammar_string": 'root ::= "a"'},
    },
    "generic": {"json": _OBJECT, "jsonSchema": _SCHEMA},
    "fastchat": {},
}
_FORMAT_KEYS = {
    "response_format",
    "structured_outputs",
    "grammar",
    "grammar_string",
    "regex_pattern",
    "format",
    "json_schema",
}


def _formats() -> list[tuple[str, Case]]:
    rows = []
    for wire in WIRES:
        for name in WANTED:
            expected = FORMATS[wire.backend].get(name)
            if wire.backend == "textgen" and name in ("json", "jsonSchema"):
                expected = {"grammar_string": None}
            make = unsupported if expected is None else documented
            rows.append((name, make(wire.backend, (wire, name, expected))))
    return rows


async def check_format(case: tuple[Wire, str, dict[str, Any] | None]) -> None:
    wire, name, expected = case
    wanted = WANTED[name]
    if expected is None:
        async with wire.serving() as (upstream, provider):
            with pytest.raises(UnsupportedError, match=f"cannot constrain an answer by {name}") as caught:
                await ask(provider, replace(QUESTION, response_format=wanted))
        assert caught.value.hint.startswith("It can do: ")
        assert upstream.requests == []
        return
    body = await sent(wire, response_format=wanted)
    found = {key: body[key] for key in _FORMAT_KEYS & body.keys()}
    if expected == {"grammar_string": None}:  # any JSON; a schema is held against the answer here
        assert list(found) == ["grammar_string"]
        assert found["grammar_string"].startswith("root ::= value\n")
    else:
        assert found == expected


@scenario("constraint: json", [row for name, row in _formats() if name == "json"])
async def test_json(case: Any) -> None:
    await check_format(case)


@scenario("constraint: JSON Schema", [row for name, row in _formats() if name == "jsonSchema"])
async def test_json_schema(case: Any) -> None:
    await check_format(case)


@scenario("constraint: regex", [row for name, row in _formats() if name == "regex"])
async def test_regex(case: Any) -> None:
    await check_format(case)


@scenario("constraint: choice", [row for name, row in _formats() if name == "choice"])
async def test_choice(case: Any) -> None:
    await check_format(case)


@scenario("constraint: grammar", [row for name, row in _formats() if name == "grammar"])
async def test_grammar(case: Any) -> None:
    await check_format(case)


# Images

DOT = "iVBORw0KGgo="
SEEING = (Message("user", (TextPart("What is this?"), ImagePart("image/png", DOT))),)
_PARTS = [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DOT}"}},
]


@scenario("images", [documented(wire.backend, wire) for wire in WIRES])
async def test_images(case: Wire) -> None:
    [message] = (await sent(case, messages=SEEING))["messages"]
    if case.backend == "ollama":  # base64 alone beside a text (api/types.go, v0.33)
        assert message == {"role": "user", "content": "What is this?", "images": [DOT]}
    else:
        assert message == {"role": "user", "content": _PARTS}


@scenario("text in several parts", [documented(wire.backend, wire) for wire in WIRES])
async def test_text_parts(case: Wire) -> None:
    """Without an image they go as one text: templates of many servers know nothing else."""
    parts = (TextPart("What is "), TextPart("this?"))
    [message] = (await sent(case, messages=(Message("user", parts),)))["messages"]
    assert message == {"role": "user", "content": "What is this?"}


BLIND = [OLLAMA_WIRE, lmstudio.WIRE, koboldcpp.WIRE, tabbyapi.WIRE, WIRE["llamacpp"]]


@scenario(
    "images to a model that sees none",
    [
        *(unsupported(wire.backend, (wire, wire.models[0].id)) for wire in BLIND),
        *(unsupported(wire.backend, (wire, "gpt-4"), "any name") for wire in BLIND[1:]),
    ],
)
async def test_blind(case: tuple[Wire, str]) -> None:
    """Refused here, also where any name means the one model that is loaded."""
    wire, model = case
    async with wire.serving(wire.chat.reply) as (upstream, provider):
        with pytest.raises(UnsupportedError, match="cannot see images") as caught:
            await run_chat([Candidate(provider, model)], replace(QUESTION, messages=SEEING))
    assert caught.value.kind is ErrorKind.UNSUPPORTED
    assert caught.value.hint
    assert all(request.method == "GET" for request in upstream.requests)


# Options


PENALTY = {
    **dict.fromkeys(OPENAI_SET, "repeat_penalty"),
    **dict.fromkeys((*VLLM_SET, "textgen", "tabbyapi"), "repetition_penalty"),
}


@scenario("options in the server's spelling", [documented(wire.backend, wire) for wire in WIRES])
async def test_options(case: Wire) -> None:
    options = GenerationOptions(
        temperature=0.5,
        top_p=0.9,
        max_tokens=9,
        seed=7,
        repeat_penalty=1.1,
        stop=("", "x"),
        presence_penalty=0.1,
    )
    body = await sent(case, options=options)
    if case.backend == "ollama":
        assert body["options"] == {
            "temperature": 0.5,
            "top_p": 0.9,
            "num_predict": 9,
            "seed": 7,
            "repeat_penalty": 1.1,
            "presence_penalty": 0.1,
            "stop": ["x"],
        }
        assert (body["truncate"], body["shift"]) == (False, False)
        return
    expected = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 9, "presence_penalty": 0.1, "stop": ["x"]}
    if case.backend != "fastchat":  # it knows neither (0.2.36)
        expected |= {"seed": 7, PENALTY[case.backend]: 1.1, "stream_options": {"include_usage": True}}
    fixed = {"model": "m", "stream": True, "messages": body["messages"]}
    assert {key: value for key, value in body.items() if key != "genkey"} == {**fixed, **expected}
    assert ("genkey" in body) == (case.backend == "koboldcpp")


@scenario("a limit where the server needs one", [documented("tabbyapi", tabbyapi.WIRE)])
async def test_limit(case: Wire) -> None:
    assert (await sent(case))["max_tokens"] > 0


# What no server is ever sent

STRAY_HEADERS = ("x-request-id", "origin", "x-conversation-id", "referer", "cookie")


def nulls(value: object, path: str = "") -> list[str]:
    """Where there is a null, or an empty list of tools or of stop strings."""
    if isinstance(value, dict):
        found = [f"{path}.{key}" for key in ("tools", "stop") if value.get(key) == []]
        return found + [place for key, item in value.items() for place in nulls(item, f"{path}.{key}")]
    if isinstance(value, list):
        return [place for item in value for place in nulls(item, path)]
    return [path] if value is None else []


@scenario("nothing that a server stumbles over", [documented(wire.backend, wire) for wire in WIRES])
async def test_stray(case: Wire) -> None:
    """A random request id defeats a router's affinity, an origin is refused, a null is a 500 at TabbyAPI."""
    requests = [
        replace(QUESTION, session="s-1"),
        replace(QUESTION, stream=False),
        replace(QUESTION, messages=(Message("assistant", ""), Message("user", "a"))),
    ]
    async with case.serving(case.chat.reply, key=True) as (upstream, provider):
        for request in requests:
            await ask(provider, request)
        await provider.list_models()
        await provider.identify()
    assert len(upstream.requests) > len(requests)
    for sent_request in upstream.requests:
        assert [name for name in STRAY_HEADERS if sent_request.header(name) is not None] == []
        assert sent_request.header("accept-encoding") == "identity"
        if sent_request.body:
            assert nulls(sent_request.json()) == []
            assert sent_request.header("content-length") == str(len(sent_request.body))
            assert "stream_options" not in sent_request.json() or sent_request.json()["stream"]


@scenario(
    "one conversation on one replica",
    [
        *(documented(name, WIRE[name]) for name in VLLM_SET),
        *(unsupported(wire.backend, wire) for wire in WIRES if wire.backend not in VLLM_SET),
    ],
)
async def test_session(case: Wire) -> None:
    async with case.serving(case.chat.reply) as (upstream, provider):
        await ask(provider, replace(QUESTION, session="doc-1"))
        await ask(provider, QUESTION)
    chats = [request for request in upstream.requests if request.path == case.chat_path]
    assert [request.header("x-session-id") for request in chats] == [
        "doc-1" if case.backend in VLLM_SET else None,
        None,
    ]


async def test_an_image_refused_by_the_server_is_not_sent_again() -> None:
    """llama.cpp without a projector answers 500 (seen with b11434); it will never be otherwise."""
    said = "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
    refusal = json_reply(500, {"error": {"code": 500, "message": said, "type": "server_error"}})
    async with WIRE["generic"].serving(refusal) as (upstream, provider):
        answer = await ask(provider, replace(QUESTION, messages=SEEING))
    assert answer.error
    assert (answer.error.kind, answer.error.retryable) == (ErrorKind.UNSUPPORTED, False)
    assert len(upstream.requests) == 1
