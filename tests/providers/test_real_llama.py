"""llama.cpp's real server: as a provider finds it on the network, and as the daemon's own child."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process
from pydantic import SecretStr

from ollm_daemon.checkup import check_provider
from ollm_daemon.domain import (
    ChatRequest,
    ContextFile,
    Credentials,
    Finished,
    GenerationOptions,
    InfillRequest,
    Message,
    ProviderSettings,
    ResponseFormat,
)
from ollm_daemon.errors import ConfigError, ErrorKind, UnreachableError
from ollm_daemon.providers._infill import encode_parts
from ollm_daemon.providers.embedded import EmbeddedProvider, bundled_model
from ollm_daemon.providers.openai_compatible import OpenAICompatibleProvider
from ollm_daemon.urls import parse_base_url
from tests.fakes.llama_server import LlamaServer, llama_server, loading_llama_server
from tests.fakes.tiny_model import CONTEXT
from tests.providers.asking import ask, settings_for

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PATIENCE = 20.0
KEY = "sk-llama"
SHORT = ChatRequest(
    "any", (Message("user", "the"),), GenerationOptions(max_tokens=8, seed=1, temperature=0.0)
)
ENDLESS = replace(SHORT, options=GenerationOptions(extra_body={"ignore_eos": True, "n_predict": CONTEXT}))


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[LlamaServer]:
    with llama_server(tiny_model, api_key=KEY, parallel=2) as running:
        yield running


@asynccontextmanager
async def provider_for(server: LlamaServer, key: str | None = KEY) -> AsyncIterator[OpenAICompatibleProvider]:
    origin = parse_base_url(server.url).origin
    credentials = Credentials(origin, SecretStr(key)) if key else None
    provider = OpenAICompatibleProvider(settings_for(server.url, backend="llamacpp", credentials=credentials))
    try:
        with anyio.fail_after(PATIENCE):
            yield provider
    finally:
        await provider.aclose()
    assert provider.open_connections == 0


async def test_stream(server: LlamaServer) -> None:
    async with provider_for(server) as provider:
        answer = await ask(provider, SHORT)
        assert answer.text
        assert answer.finished.reason in ("stop", "length")
        assert answer.finished.usage is not None
        assert 0 < answer.finished.usage.completion_tokens <= 8
        assert answer.finished.timings is not None


async def test_the_same_in_one_piece(server: LlamaServer) -> None:
    async with provider_for(server) as provider:
        streamed, whole = await ask(provider, SHORT), await ask(provider, replace(SHORT, stream=False))
        assert whole.text == streamed.text
        assert whole.finished.reason == streamed.finished.reason


async def test_a_constraint_is_obeyed(server: LlamaServer) -> None:
    wanted = {
        "yes or no": (ResponseFormat("grammar", 'root ::= "yes" | "no"'), {"yes", "no"}),
        "a boolean": (ResponseFormat("jsonSchema", {"type": "boolean"}), {"true", "false"}),
    }
    longer = replace(SHORT, options=GenerationOptions(max_tokens=64))
    async with provider_for(server) as provider:
        for name, (constraint, possible) in wanted.items():
            answer = await ask(provider, replace(longer, response_format=constraint))
            assert answer.text.strip() in possible, name


async def test_models(server: LlamaServer, tiny_model: Path) -> None:
    async with provider_for(server) as provider:
        [model] = await provider.list_models()
        assert model.id.endswith("tiny.gguf")
        assert model.context_length == CONTEXT
        assert model.size_bytes is not None
        assert 0 < model.size_bytes <= tiny_model.stat().st_size


@pytest.mark.parametrize(
    ("key", "hint"),
    [(None, "The server wants a key: set "), ("sk-wrong", "Correct the key in ")],
    ids=["none", "wrong"],
)
async def test_key(server: LlamaServer, key: str | None, hint: str) -> None:
    async with provider_for(server, key) as provider:
        error = (await ask(provider, SHORT)).error
        assert error is not None
        assert (error.kind, error.status) == (ErrorKind.AUTH, 401)
        assert error.hint.startswith(hint)
        assert "`providers.here.apiKey`" in error.hint


async def test_a_prompt_that_does_not_fit(server: LlamaServer) -> None:
    async with provider_for(server) as provider:
        error = (await ask(provider, replace(SHORT, messages=(Message("user", "the " * CONTEXT),)))).error
        assert error is not None
        assert error.kind is ErrorKind.CONTEXT_LENGTH
        assert f"({CONTEXT} tokens)" in str(error)
        assert "Shorten the prompt" in error.hint


async def test_one_connection_serves_many_chats(server: LlamaServer) -> None:
    async with provider_for(server) as provider:
        for _ in range(5):
            await ask(provider, SHORT)
        assert provider.open_connections == 1


async def test_cancelling_stops_the_server(server: LlamaServer) -> None:
    """Both slots are set to work without end; a third chat is served only if they stopped."""
    async with provider_for(server) as provider:
        for _ in range(2):
            async with provider.chat_stream(ENDLESS) as batches:
                async for _ in batches:
                    break
        assert provider.open_connections == 0
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(ask, provider, SHORT)


async def test_loading(tmp_path: Path) -> None:
    with loading_llama_server(tmp_path / "never.gguf") as server:
        async with provider_for(server) as provider:
            error = (await ask(provider, SHORT)).error
            assert error is not None
            assert (error.kind, error.status, error.loading) == (ErrorKind.OVERLOADED, 503, True)
            assert error.retryable


async def test_a_server_that_dies_in_mid_answer(tiny_model: Path) -> None:
    with llama_server(tiny_model) as server:
        async with provider_for(server, key=None) as provider:
            answer = await ask(provider, ENDLESS, at_first_text=lambda: os.kill(server.pid, signal.SIGKILL))
            assert answer.text
            assert answer.error is not None
            assert answer.error.kind is ErrorKind.STREAM_TRUNCATED
            error = (await ask(provider, SHORT)).error
            assert isinstance(error, UnreachableError)


# The daemon's own child


def embedded_settings(model: Path | str | None) -> ProviderSettings:
    return settings_for("http://127.0.0.1:1", "embedded", "embedded", model_path=model and str(model))


@asynccontextmanager
async def embedded(model: Path | str | None) -> AsyncIterator[EmbeddedProvider]:
    provider = EmbeddedProvider(embedded_settings(model))
    try:
        with anyio.fail_after(PATIENCE):
            yield provider
    finally:
        child = provider._server._process
        await provider.aclose()
    assert child is None or not is_alive(child)


def child_of(provider: EmbeddedProvider) -> Process:
    child = provider._server._process
    assert child is not None
    return child


def is_alive(child: Process) -> bool:
    """Whether there is still such a process, be it one that was not waited for."""
    return Path(f"/proc/{child.pid}").exists()


async def test_embedded(tiny_model: Path) -> None:
    async with embedded(tiny_model) as provider:
        [model] = await provider.list_models()
        assert (model.id, model.loaded, model.size_bytes) == ("tiny", False, tiny_model.stat().st_size)
        assert await provider.is_loading("tiny")
        await provider.connect_ahead()
        assert provider._server._process is None, "the child starts with the first request"

        answer = await ask(provider, SHORT)
        assert answer.text
        assert answer.finished.model == "tiny"
        assert not await provider.is_loading("tiny")
        assert (await provider.list_models())[0].loaded

        child = child_of(provider)
        await ask(provider, SHORT)
        assert child_of(provider) is child, "one child serves all"


async def test_embedded_starts_once_for_many() -> None:
    if bundled_model() is None:
        pytest.skip("the bundled model is not installed")
    async with embedded(None) as provider:
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(ask, provider, SHORT)
        assert provider._server._starts == 1


async def test_the_childs_key_is_its_own(tiny_model: Path) -> None:
    async with embedded(tiny_model) as provider:
        await ask(provider, SHORT)
        stranger = OpenAICompatibleProvider(settings_for(provider.base_url))
        error = (await ask(stranger, SHORT)).error
        await stranger.aclose()
        assert error is not None
        assert error.kind is ErrorKind.AUTH
        credentials = provider.http.settings.credentials
        assert credentials is not None
        assert credentials.api_key is not None
        key = credentials.api_key.get_secret_value()
        process = Path(f"/proc/{child_of(provider).pid}")
        assert key.encode() not in (process / "cmdline").read_bytes()
        assert key.encode() not in (process / "environ").read_bytes()


async def test_a_child_that_crashes_is_started_once_more(tiny_model: Path) -> None:
    async with embedded(tiny_model) as provider:
        first = await ask(provider, SHORT)
        await crash(provider)
        assert (await ask(provider, SHORT)).text == first.text
        await crash(provider)
        error = (await ask(provider, SHORT)).error
        assert isinstance(error, UnreachableError)
        assert "crashed twice" in str(error)
        assert "Restart the daemon" in error.hint


async def test_it_is_tried_out_before_anybody_has_asked_it(tiny_model: Path) -> None:
    async with embedded(tiny_model) as provider:
        checkup = await check_provider(provider, None, generate=True)
        assert checkup.state == "ready", checkup.problems
        assert checkup.trial is not None
        assert checkup.trial.model == "tiny"


async def crash(provider: EmbeddedProvider) -> None:
    child_of(provider).kill()
    await child_of(provider).wait()


async def test_a_child_that_crashes_in_mid_answer(tiny_model: Path) -> None:
    async with embedded(tiny_model) as provider:
        answer = await ask(provider, ENDLESS, at_first_text=lambda: child_of(provider).kill())
        assert answer.text
        assert answer.error is not None
        assert answer.error.kind is ErrorKind.STREAM_TRUNCATED
        assert (await ask(provider, SHORT)).text


async def test_cancelling_while_it_loads_is_no_crash(tiny_model: Path) -> None:
    async with embedded(tiny_model) as provider:
        for _ in range(3):
            task = asyncio.create_task(ask(provider, SHORT))
            while provider._server._process is None:  # noqa: ASYNC110 - nothing tells that it was started
                await asyncio.sleep(0)
            child = child_of(provider)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not is_alive(child)
        assert (await ask(provider, SHORT)).text


async def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    model = tmp_path / "broken.gguf"
    model.write_bytes(b"GGUF" + b"\0" * 100)
    async with embedded(model) as provider:
        error = (await ask(provider, SHORT)).error
        assert isinstance(error, UnreachableError)
        assert "broken.gguf did not start: " in str(error)
        assert "GGUF" in error.hint
        assert provider._server._process is None


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no model file .*none\.gguf"):
        EmbeddedProvider(embedded_settings(tmp_path / "none.gguf"))


async def test_the_child_ends_with_its_standard_input(tiny_model: Path) -> None:
    """So it does not outlive a daemon that was killed."""
    order = json.dumps({"model": str(tiny_model), "alias": "tiny", "apiKey": "k"})
    process = await anyio.open_process(
        [sys.executable, "-m", "ollm_daemon.providers._embedded_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    async with process:
        assert process.stdin is not None
        assert process.stdout is not None
        with anyio.fail_after(PATIENCE):
            await process.stdin.send(order.encode() + b"\n")
            said = b""
            while b"LISTENING http://127.0.0.1:" not in said:
                said += await process.stdout.receive()
            await process.stdin.aclose()
            assert await process.wait() == 0


async def test_what_is_read_ahead_is_not_read_again(tiny_model: Path) -> None:
    """An infill of no tokens leaves its files in the server's cache."""
    extra = (ContextFile("helpers.py", "the words of another file " * 6),)
    ahead = InfillRequest("any", "", "", extra, GenerationOptions(temperature=0.0, max_tokens=0))
    with llama_server(tiny_model, batch=256) as large:
        async with provider_for(large, key=None) as provider:
            async with provider.infill_stream(ahead) as batches:
                events = [event async for batch in batches for event in batch]
            assert isinstance(events[-1], Finished)
            body = {**encode_parts(replace(ahead, prefix="the "), provider.backend), "stream": False}
            seen = await provider.http.call("POST", "/infill", {**body, "n_predict": 1})
    assert events[-1].usage
    assert events[-1].usage.prompt_tokens > 100
    assert seen["timings"]["prompt_n"] < 20
