"""llama.cpp's real server, as a provider finds it and as the daemon's own child."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from ollm_daemon.domain import (
    ChatRequest,
    Credentials,
    GenerationOptions,
    Identity,
    Message,
    ResponseFormat,
    ToolCall,
)
from ollm_daemon.errors import ErrorKind, UnsupportedError
from ollm_daemon.generation import Candidate, run_chat
from ollm_daemon.providers._openai_dialect import encode_format
from ollm_daemon.providers.backends import BACKENDS
from ollm_daemon.providers.base import ProviderAdapter
from ollm_daemon.providers.catalog import KINDS
from ollm_daemon.providers.embedded import bundled_model
from ollm_daemon.urls import parse_base_url
from tests.conformance.evidence import Evidence, case, scenario, unsupported
from tests.conformance.json_tools import TEMPLATE
from tests.conformance.test_requests import SEEING
from tests.conformance.test_tools import WEATHER
from tests.fakes.llama_server import LlamaServer, llama_server, loading_llama_server
from tests.fakes.tiny_model import CONTEXT
from tests.providers.asking import ask, settings_for

pytestmark = [pytest.mark.anyio, pytest.mark.real]

KEY = "sk-real-llama"
PATIENCE = 40.0
SHORT = ChatRequest(
    "any", (Message("user", "the"),), GenerationOptions(max_tokens=8, seed=1, temperature=0.0)
)
ENDLESS = replace(SHORT, options=GenerationOptions(extra_body={"ignore_eos": True, "n_predict": CONTEXT}))
BOTH = [case(name, Evidence.REAL, name) for name in ("llamacpp", "embedded")]
SERVER = [case("llamacpp", Evidence.REAL, "llamacpp")]


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[LlamaServer]:
    with llama_server(tiny_model, api_key=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def talker() -> Iterator[LlamaServer]:
    """A real model of words, which calls tools under this template."""
    model = bundled_model()
    if model is None:
        pytest.skip("the bundled model is not installed")
    with llama_server(model, template=TEMPLATE) as running:
        yield running


@dataclass
class Bench:
    """Providers for the server and for the child."""

    server: LlamaServer
    model: Path

    @asynccontextmanager
    async def provider(
        self, name: str, *, key: str | None = KEY, backend: str = "llamacpp"
    ) -> AsyncIterator[ProviderAdapter]:
        """The provider called so, closed at the end."""
        if name == "embedded":
            settings = settings_for("http://127.0.0.1:1", "embedded", "embedded", model_path=str(self.model))
        else:
            credentials = Credentials(parse_base_url(self.server.url).origin, SecretStr(key)) if key else None
            settings = settings_for(self.server.url, backend=backend, credentials=credentials)
        provider = KINDS[settings.kind](settings)
        try:
            with anyio.fail_after(PATIENCE):
                yield provider
        finally:
            await provider.aclose()


@pytest.fixture
def bench(server: LlamaServer, tiny_model: Path) -> Bench:
    return Bench(server, tiny_model)


@scenario("identified, open", SERVER)
async def test_open(case: str, talker: LlamaServer, tiny_model: Path) -> None:
    async with Bench(talker, tiny_model).provider(case, key=None) as provider:
        identity = await provider.identify()
    assert (identity.backend, identity.state) == ("llamacpp", "ready")
    assert identity.version


@scenario("identified without the key it wants", SERVER)
async def test_locked(case: str, bench: Bench) -> None:
    async with bench.provider(case) as provider:
        assert await provider.identify() == Identity("llamacpp", None, "locked")


@scenario("identified while it loads", SERVER)
async def test_loading(case: str, tmp_path: Path) -> None:
    with loading_llama_server(tmp_path / "never.gguf") as loading:
        async with Bench(loading, tmp_path).provider(case, key=None) as provider:
            assert await provider.identify() == Identity("llamacpp", None, "loading")


@scenario("busy, or not ready", SERVER)
async def test_not_ready(case: str, tmp_path: Path) -> None:
    with loading_llama_server(tmp_path / "never.gguf") as loading:
        async with Bench(loading, tmp_path).provider(case, key=None) as provider:
            error = (await ask(provider, SHORT)).error
    assert error
    assert (error.kind, error.loading, error.retryable) == (ErrorKind.OVERLOADED, True, True)


@scenario("list of models", BOTH)
async def test_models(case: str, bench: Bench) -> None:
    async with bench.provider(case) as provider:
        [model] = await provider.list_models()
    assert Path(model.id).stem == "tiny"
    assert model.size_bytes


@scenario("window that is allocated", SERVER)
async def test_window(case: str, bench: Bench) -> None:
    async with bench.provider(case) as provider:
        [model] = await provider.list_models()
    assert (model.context_length, model.max_context_length) == (CONTEXT, CONTEXT)
    assert model.capabilities == ("completion", "tools")


@scenario("tokens counted by the server", BOTH)
async def test_count(case: str, bench: Bench) -> None:
    async with bench.provider(case) as provider:
        finished = (await ask(provider, SHORT)).finished
        counted = await provider.count_tokens(SHORT)
    assert finished.usage
    assert (counted.tokens, counted.exact) == (finished.usage.prompt_tokens, True)


@scenario("chat, streamed", BOTH)
async def test_stream(case: str, bench: Bench) -> None:
    async with bench.provider(case) as provider:
        answer = await ask(provider, SHORT)
    assert answer.text
    assert answer.finished.reason in ("stop", "length")
    assert answer.finished.usage
    assert answer.finished.timings


@scenario("chat, in one piece", BOTH)
async def test_whole(case: str, bench: Bench) -> None:
    async with bench.provider(case) as provider:
        streamed, whole = await ask(provider, SHORT), await ask(provider, replace(SHORT, stream=False))
    assert (whole.text, whole.finished.reason) == (streamed.text, streamed.finished.reason)
    one, two = whole.finished.usage, streamed.finished.usage
    assert one
    assert two
    assert (one.prompt_tokens, one.completion_tokens) == (two.prompt_tokens, two.completion_tokens)


LONGER = replace(SHORT, options=GenerationOptions(max_tokens=64, seed=1))


@scenario("reasoning between tags, cut anywhere", BOTH)
async def test_tags(case: str, bench: Bench) -> None:
    """A grammar makes the model of noise think aloud."""
    thinking = ResponseFormat("grammar", 'root ::= "<think>the name</think>the system"')
    async with bench.provider(case) as provider:
        answer = await ask(provider, replace(LONGER, response_format=thinking))
    assert (answer.thinking, answer.text) == ("the name", "the system")


@scenario("probabilities", BOTH)
async def test_logprobs(case: str, bench: Bench) -> None:
    async with bench.provider(case) as provider:
        answer = await ask(provider, replace(SHORT, options=replace(SHORT.options, top_logprobs=3)))
    probable = answer.finished.logprobs
    assert probable
    assert all(len(one.top) == 3 and one.logprob <= 0 for one in probable)


@scenario("stop strings beyond the server's limit", BOTH)
async def test_stops(case: str, bench: Bench) -> None:
    constrained = replace(
        LONGER,
        response_format=ResponseFormat("grammar", 'root ::= "the name and the system"'),
        options=replace(LONGER.options, stop=("v", "w", "x", "y", " and")),
    )
    async with bench.provider(case) as provider:
        answer = await ask(provider, constrained)
    assert (answer.text, answer.finished.reason) == ("the name", "stop")


async def constrained(bench: Bench, name: str, wanted: ResponseFormat) -> str:
    async with bench.provider(name) as provider:
        result = await run_chat([Candidate(provider, "tiny")], replace(LONGER, response_format=wanted))
    assert not [said for said in result.warnings if "did not keep" in said]
    return result.text.strip()


@scenario("constraint: JSON Schema", BOTH)
async def test_json_schema(case: str, bench: Bench) -> None:
    assert await constrained(bench, case, ResponseFormat("jsonSchema", {"type": "boolean"})) in (
        "true",
        "false",
    )


@scenario("constraint: choice", BOTH)
async def test_choice(case: str, bench: Bench) -> None:
    assert await constrained(bench, case, ResponseFormat("choice", ['a "b"', "c\n"])) in ('a "b"', "c")


@scenario("constraint: grammar", BOTH)
async def test_grammar(case: str, bench: Bench) -> None:
    assert await constrained(bench, case, ResponseFormat("grammar", 'root ::= "yes" | "no"')) in ("yes", "no")


@scenario("constraint: json", BOTH)
async def test_json(case: str, bench: Bench) -> None:
    """Noise may fill an object up to the limit; then the warning says so."""
    async with bench.provider(case) as provider:
        request = replace(LONGER, response_format=ResponseFormat("json"))
        result = await run_chat([Candidate(provider, "tiny")], request)
    assert result.text.lstrip().startswith("{")
    assert (result.finish_reason == "length") == ("was cut at the token limit" in " ".join(result.warnings))


async def test_the_grammar_of_json_is_one(bench: Bench) -> None:
    """What servers without `response_format` are sent: llama.cpp takes it, and gives JSON or is cut."""
    grammar = ResponseFormat(
        "grammar", encode_format(ResponseFormat("json"), BACKENDS["textgen"])["grammar_string"]
    )
    async with bench.provider("llamacpp") as provider:
        for seed in range(8):
            options = GenerationOptions(max_tokens=200, seed=seed, temperature=1.5)
            answer = await ask(provider, replace(LONGER, response_format=grammar, options=options))
            if answer.finished.reason == "stop":
                json.loads(answer.text)


@scenario("constraint: regex", [unsupported(name, name) for name in ("llamacpp", "embedded")])
async def test_regex(case: str, bench: Bench) -> None:
    async with bench.provider(case) as provider:
        with pytest.raises(UnsupportedError, match="cannot constrain an answer by regex"):
            await ask(provider, replace(SHORT, response_format=ResponseFormat("regex", "a")))


EXAMPLE = (
    Message("user", "What is the weather in Oslo?"),
    Message("assistant", "", (ToolCall("call_0", "get_weather", '{"city": "Oslo"}'),)),
    Message("tool", "18C", tool_call_id="call_0"),
    Message("assistant", "18C."),
    Message("user", "What is the weather in Paris?"),
)
CITY = replace(
    WEATHER,
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Oslo"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
CALLING = ChatRequest(
    "any", EXAMPLE, GenerationOptions(max_tokens=60, temperature=0.0, seed=1), tools=(CITY,)
)


async def called(bench: Bench, choice: str | None) -> list[tuple[str, str]]:
    async with bench.provider("llamacpp", key=None) as provider:
        result = await run_chat([Candidate(provider, "any")], replace(CALLING, tool_choice=choice))
    assert result.finish_reason == "toolCalls"
    return [(call.name, call.arguments.replace(" ", "")) for call in result.tool_calls]


@scenario("tool calls", SERVER)
async def test_calls(case: str, talker: LlamaServer, tiny_model: Path) -> None:
    assert await called(Bench(talker, tiny_model), None) == [("get_weather", '{"city":"Paris"}')]


@scenario("one tool by its name", SERVER)
async def test_named_tool(case: str, talker: LlamaServer, tiny_model: Path) -> None:
    assert await called(Bench(talker, tiny_model), "get_weather") == [("get_weather", '{"city":"Paris"}')]


@scenario("results of tools sent back", SERVER)
async def test_results(case: str, talker: LlamaServer, tiny_model: Path) -> None:
    async with Bench(talker, tiny_model).provider(case, key=None) as provider:
        assert (await ask(provider, replace(CALLING, messages=EXAMPLE[:3], tool_choice="none"))).text


@scenario("images to a model that sees none", [unsupported(name, name) for name in ("llamacpp", "embedded")])
async def test_blind(case: str, bench: Bench) -> None:
    """Refused here where the server tells, and by the server, once, where it does not."""
    async with bench.provider(case) as provider:
        with pytest.raises(Exception, match="image") as caught:
            await run_chat([Candidate(provider, "any")], replace(SHORT, messages=SEEING))
    assert getattr(caught.value, "kind", None) is ErrorKind.UNSUPPORTED


@scenario("prompt too long, refused by the server", BOTH)
async def test_too_long(case: str, bench: Bench) -> None:
    async with bench.provider(case) as provider:
        error = (await ask(provider, replace(SHORT, messages=(Message("user", "the " * 5000),)))).error
    assert error
    assert error.kind is ErrorKind.CONTEXT_LENGTH
    assert "exceeds the available context size" in str(error)


@scenario("unknown model", [unsupported("llamacpp", "llamacpp")])
async def test_unknown_model(case: str, bench: Bench) -> None:
    async with bench.provider(case) as provider:
        result = await run_chat([Candidate(provider, "nobody")], SHORT)
    assert "does not look at the model's name" in " ".join(result.warnings)


@scenario("wrong key", SERVER)
async def test_wrong_key(case: str, bench: Bench) -> None:
    async with bench.provider(case, key="sk-wrong") as provider:
        error = (await ask(provider, SHORT)).error
    assert error
    assert (error.kind, error.hint.startswith("Correct the key")) == (ErrorKind.AUTH, True)


@scenario("no key", SERVER)
async def test_no_key(case: str, bench: Bench) -> None:
    async with bench.provider(case, key=None) as provider:
        error = (await ask(provider, SHORT)).error
    assert error
    assert (error.kind, error.hint.startswith("The server wants a key")) == (ErrorKind.AUTH, True)


@scenario("cut in mid-answer", BOTH)
async def test_killed(case: str, tiny_model: Path) -> None:
    """The process is gone between two words."""
    with llama_server(tiny_model) as doomed:
        async with Bench(doomed, tiny_model).provider(case, key=None) as provider:
            child: Any = provider

            def kill() -> None:
                os.kill(child._server._process.pid if case == "embedded" else doomed.pid, signal.SIGKILL)

            answer = await ask(provider, ENDLESS, at_first_text=kill)
    assert answer.error
    assert (answer.error.kind, bool(answer.text)) == (ErrorKind.STREAM_TRUNCATED, True)


@scenario("cancelled by closing", BOTH)
async def test_cancel(case: str, bench: Bench) -> None:
    """As many as there are slots, at most two; one more is served only if they stopped."""
    async with bench.provider(case) as provider:
        for _ in range(2):
            begun = anyio.Event()
            task = asyncio.create_task(ask(provider, ENDLESS, at_first_text=begun.set))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (await ask(provider, SHORT)).text


@scenario("load", [unsupported("llamacpp", "llamacpp")])
async def test_load(case: str, bench: Bench) -> None:
    async with bench.provider(case) as provider:
        with pytest.raises(UnsupportedError) as caught:
            async with provider.change_model("load", "tiny") as progress:
                assert [step async for step in progress] == []
    assert "serves the model it was started with" in caught.value.hint


@scenario("found out before the first chat", SERVER)
async def test_auto(case: str, bench: Bench) -> None:
    async with bench.provider(case, backend="auto") as provider:
        await run_chat([Candidate(provider, "tiny")], SHORT)
        assert provider.backend.title == "llama.cpp"


@scenario("a wrong `backend` corrected", SERVER)
async def test_wrong_hint(case: str, bench: Bench) -> None:
    async with bench.provider(case, backend="koboldcpp") as provider:
        await provider.connect_ahead()
        [notice] = provider.notices
        assert "is llama.cpp, not KoboldCpp" in notice
        assert (await ask(provider, SHORT)).text
