"""The servers, each started once for all tests that only ask it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.heavy import installing, servers
from tests.heavy.servers import FastChat, Server
from tests.heavy.talking import Place

KEY = "sk-heavy"
TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "llama3_json")


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where servers write. From now on a run that is told to end takes them along."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def vllm_here() -> None:
    """There is a vLLM with models, or the tests that want it are left out."""
    _install(installing.vllm, installing.models)


@pytest.fixture(scope="session")
def vllm_server(vllm_here: None, logs: Path) -> Iterator[Server]:
    """vLLM with a model that writes English, a key and tools."""
    with servers.vllm(logs, "smollm2", *TOOLS, api_key=KEY) as server:
        yield server


@pytest.fixture
def vllm(vllm_server: Server) -> Place:
    """That vLLM, as the adapter made for it finds it."""
    return Place(vllm_server.url, "vllm", "smollm2", key=KEY)


@pytest.fixture(scope="session")
def start_tiny_vllm(vllm_here: None, logs: Path) -> Callable[[], AbstractContextManager[Server]]:
    """Starts a vLLM with random weights, for a test to do away with."""
    return lambda: servers.vllm(logs, "tiny", api_key=KEY)


@pytest.fixture(scope="session")
def router_here(vllm_here: None) -> None:
    """There is a router too, or the tests that want it are left out."""
    _install(installing.router)


@pytest.fixture(scope="session")
def fastchat_here() -> None:
    """There is a FastChat with a model, or the tests that want it are left out."""
    _install(installing.fastchat, installing.models)


@pytest.fixture(scope="session")
def fastchat_server(fastchat_here: None, logs: Path) -> Iterator[FastChat]:
    """FastChat with a model that writes English, and a key."""
    with servers.fastchat(logs, "smollm2-4", KEY) as server:
        yield server


@pytest.fixture
def fastchat(fastchat_server: FastChat) -> Place:
    """That FastChat, as a client finds it."""
    return Place(fastchat_server.api.url, "openai-compatible", "smollm2-4", "fastchat", KEY)


def _install(*parts: Callable[[], Path]) -> None:
    try:
        for part in parts:
            part()
    except installing.LeftOut as error:
        pytest.skip(f"left out: {error}")
