"""Lists of models with all that a server tells, the window it really has, and how it counts tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from ollm_daemon.domain import ModelInfo
from ollm_daemon.errors import ErrorKind, ProviderError
from tests.conformance.captured import OLLAMA_WIRE, VLLM_WIRE
from tests.conformance.captured_others import LLAMACPP_WIRE
from tests.conformance.documented import aphrodite, koboldcpp, lmstudio, localai, tabbyapi, textgen
from tests.conformance.documented._shapes import fastapi
from tests.conformance.evidence import Evidence, case, documented, scenario, unsupported
from tests.conformance.subjects import SERVERS
from tests.conformance.wire import QUESTION, Wire
from tests.fakes.captures import LLAMA_CPP, OLLAMA, VLLM
from tests.fakes.upstream import Reply, capture_reply, json_reply

pytestmark = pytest.mark.anyio


@scenario("list of models", [case(wire.backend, wire.evidence, wire) for wire in SERVERS])
async def test_models(case: Wire) -> None:
    posts = {"/api/show": capture_reply(OLLAMA, "show")}
    async with case.serving(posts, key=True) as (upstream, provider):
        assert tuple(await provider.list_models()) == case.models
        for request in upstream.requests:
            assert request.method == "GET"
            assert request.header("authorization"), "only probes go without the key"
        assert await provider.show_model(case.models[0].id)


def has_window(wire: Wire) -> bool:
    return wire.models[0].context_length is not None


@scenario(
    "window that is allocated",
    [
        case(wire.backend, wire.evidence, wire) if has_window(wire) else unsupported(wire.backend, wire)
        for wire in SERVERS
    ],
)
async def test_window(case: Wire) -> None:
    """The window of the loaded model, not the one it was trained for; the user's where nobody tells."""
    async with case.serving(context_length=4096) as (_, provider):
        [model, *_] = await provider.list_models()
        assert model.context_length == case.models[0].context_length


@scenario(
    "list of models, other versions",
    [
        documented(
            "lmstudio", (lmstudio.WIRE, {"/api/v0/models": lmstudio.document(lmstudio.MODELS_V0)}), "0.3.6"
        ),
        documented("lmstudio", (lmstudio.WIRE, {}), "before"),
    ],
)
async def test_older_lists(case: tuple[Wire, dict[str, Reply]]) -> None:
    """What the newest route is called on a version that lacks it: 200 with an error."""
    wire, gets = case
    kept = {path: reply for path, reply in wire.gets.items() if path != "/api/v1/models"}
    async with replace(wire, gets=kept).serving(gets=gets) as (_, provider):
        [model] = await provider.list_models()
    expected = (
        ModelInfo(
            "qwen-vl",
            4096,
            32768,
            quantization="Q4_K_M",
            capabilities=("completion", "tools", "vision"),
            loaded=True,
        )
        if gets
        else ModelInfo("qwen")
    )
    assert model == expected


@scenario("list of models to choose from", [documented("llamacpp", LLAMACPP_WIRE)])
async def test_choice_of_models(case: Wire) -> None:
    """Started without one, it tells which are in memory (server-models.cpp, b11434)."""
    states = {"a": "loaded", "b": "unloaded", "c": "sleeping", "d": "loading"}
    data = [
        {"id": name, "object": "model", "owned_by": "llamacpp", "status": {"value": state}}
        for name, state in states.items()
    ]
    async with case.serving(gets={"/v1/models": json_reply(200, {"object": "list", "data": data})}) as (
        _,
        provider,
    ):
        models = await provider.list_models()
    assert {model.id: model.loaded for model in models} == {"a": True, "b": False, "c": True, "d": False}


@scenario(
    "an adapter and its base model",
    [
        documented(wire.backend, wire)  # openai/models/serving.py:149-165, v0.33
        for wire in (VLLM_WIRE, aphrodite.WIRE)
    ],
)
async def test_adapters(case: Wire) -> None:
    """The window of an adapter is null: nobody invents one."""
    base = {"id": "base", "object": "model", "owned_by": case.known_as, "parent": None, "max_model_len": 8192}
    lora = {**base, "id": "lora", "parent": "base", "max_model_len": None}
    listed = fastapi({"object": "list", "data": [base, lora]})
    async with case.serving(gets={"/v1/models": listed}) as (_, provider):
        models = await provider.list_models()
    assert [(model.id, model.context_length) for model in models] == [("base", 8192), ("lora", None)]


@dataclass(frozen=True)
class Counter:
    """A route that counts: what it is sent besides, and what it answers."""

    wire: Wire
    path: str
    body: dict[str, Any]
    answer: Reply
    tokens: int


_MESSAGES = [{"role": "user", "content": "Say something."}]
_TEXT = "Say something."


def _counter(wire: Wire, path: str, body: dict[str, Any], answer: object, tokens: int = 3) -> Counter:
    return Counter(wire, path, body, answer if isinstance(answer, Reply) else json_reply(200, answer), tokens)


COUNTERS = [
    case(
        "vllm",
        Evidence.CAPTURE,
        _counter(
            VLLM_WIRE, "/tokenize", {"messages": _MESSAGES, "model": "m"}, capture_reply(VLLM, "tokenize"), 5
        ),
    ),
    case(
        "llamacpp",
        Evidence.CAPTURE,
        _counter(
            LLAMACPP_WIRE,
            "/v1/chat/completions/input_tokens",
            {"messages": _MESSAGES},
            capture_reply(LLAMA_CPP, "count-tokens"),
            21,
        ),
    ),
    documented(
        "aphrodite",
        _counter(
            aphrodite.WIRE,
            "/tokenize",
            {"messages": _MESSAGES, "model": "m"},
            {"count": 3, "tokens": [1, 2, 3]},
        ),
    ),
    documented(
        "koboldcpp",
        _counter(
            koboldcpp.WIRE, "/api/extra/tokencount", {"messages": _MESSAGES}, {"value": 3, "ids": [1, 2, 3]}
        ),
    ),
    documented(
        "tabbyapi",
        _counter(tabbyapi.WIRE, "/v1/token/encode", {"text": _MESSAGES}, {"tokens": [1, 2, 3], "length": 3}),
    ),
    documented("textgen", _counter(textgen.WIRE, "/v1/internal/token-count", {"text": _TEXT}, {"length": 3})),
    documented(
        "localai",
        _counter(localai.WIRE, "/v1/tokenize", {"content": _TEXT, "model": "m"}, {"tokens": [1, 2, 3]}),
    ),
]
_COUNTING = {param.subject for param in COUNTERS}


@scenario(
    "tokens counted by the server",
    [*COUNTERS, *(unsupported(wire.backend, wire) for wire in SERVERS if wire.backend not in _COUNTING)],
)
async def test_count(case: Counter | Wire) -> None:
    if isinstance(case, Wire):  # an estimate that says that it is one
        async with case.serving() as (upstream, provider):
            counted = await provider.count_tokens(QUESTION)
        assert not counted.exact
        assert 0 < counted.tokens < len(_TEXT)
        assert upstream.requests == []
        return
    async with case.wire.serving({case.path: case.answer}) as (upstream, provider):
        counted = await provider.count_tokens(QUESTION)
    [request] = upstream.requests
    assert (request.method, request.path, request.json()) == ("POST", case.path, case.body)
    assert (counted.tokens, counted.exact) == (case.tokens, True)


@scenario(
    "list of models, refused",
    [
        case(wire.backend, wire.evidence, wire)
        for wire in SERVERS
        if wire.locked_state == "locked" and {"*", "/v1/models"} & wire.locked.keys()
    ],
)
async def test_refused_list(case: Wire) -> None:
    """A list behind a key that is missing is a question of the key, not of the address."""
    locked = {
        path: case.locked.get(path) or case.locked["*"]
        for path in case.gets
        if path in case.locked or "*" in case.locked
    }
    async with case.serving(gets=locked) as (_, provider):
        with pytest.raises(ProviderError) as caught:
            await provider.list_models()
    assert caught.value.kind is ErrorKind.AUTH
    assert caught.value.hint.startswith("The server wants a key: set `providers.here.apiKey`")


async def test_ollamas_show() -> None:
    shown = {
        "capabilities": ["completion", "tools", "thinking"],
        "model_info": {"general.architecture": "llama", "llama.context_length": 8192},
    }
    async with OLLAMA_WIRE.serving({"/api/show": json_reply(200, shown)}) as (_, provider):
        model = await provider.show_model("smollm2")
    assert (model.capabilities, model.max_context_length) == (("completion", "tools", "thinking"), 8192)
    assert (model.context_length, model.loaded) == (2048, True)
