"""`LocalProvider`: Ollama over its native API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Literal

from ollm_daemon.domain import ChatRequest, InfillRequest, ModelInfo, ProviderEvent, ProviderSettings
from ollm_daemon.errors import ErrorKind, ProviderError, RefusedError
from ollm_daemon.providers._http_provider import HttpProvider, find_model
from ollm_daemon.providers._infill import GENERATE, InfillDecoder, encode_generate
from ollm_daemon.providers._json import value_at
from ollm_daemon.providers._life_cycle import open_change
from ollm_daemon.providers._ollama_dialect import (
    ChatDecoder,
    decode_capabilities,
    decode_entries,
    decode_model,
    encode_chat,
    encode_window,
    trained_window,
)
from ollm_daemon.providers.backends import BACKENDS
from ollm_daemon.providers.base import Capabilities, ChatStream, ModelChange, count, decode_stream
from ollm_daemon.providers.facts import ModelAction


class LocalProvider(HttpProvider):
    """Ollama."""

    streaming_format: Literal["ndjson", "sse"] = "ndjson"
    capabilities = Capabilities(
        list_models=True,
        actions=frozenset(BACKENDS["ollama"].actions),
        tools=True,
        images=True,
        response_formats=frozenset({"text", *BACKENDS["ollama"].formats}),
    )

    def __init__(self, settings: ProviderSettings) -> None:
        super().__init__(settings, BACKENDS["ollama"])

    def chat_stream(self, request: ChatRequest) -> ChatStream:
        """As `ProviderAdapter.chat_stream`, from `POST /api/chat`."""
        return self._open_chat(request)

    @asynccontextmanager
    async def _open_chat(self, request: ChatRequest) -> AsyncIterator[AsyncIterator[list[ProviderEvent]]]:
        body = encode_chat(request, self.settings.context_length)
        async with self.http.open_stream("POST", "/api/chat", body, self.settings.timeouts) as stream:
            yield decode_stream(stream, ChatDecoder())

    async def takes_parts(self, model: str) -> bool:
        """As `ProviderAdapter.takes_parts`: where Ollama says that the model can `insert`."""
        known = await self._known(model)
        return (
            known is not None and "insert" in (known.capabilities or ()) and model not in self._without_infill
        )

    def infill_stream(self, request: InfillRequest) -> ChatStream:
        """As `ProviderAdapter.infill_stream`, from `POST /api/generate`."""
        return self._open_infill(request)

    @asynccontextmanager
    async def _open_infill(self, request: InfillRequest) -> AsyncIterator[AsyncIterator[list[ProviderEvent]]]:
        body = encode_generate(request, self.settings.context_length)
        try:
            async with self.http.open_stream("POST", GENERATE.path, body, self.settings.timeouts) as stream:
                decoder = InfillDecoder(self.backend.title, GENERATE)
                yield decode_stream(stream, decoder)
        except RefusedError as error:
            if request.prompt is None and error.kind is ErrorKind.UNSUPPORTED:
                raise self._has_no_infill(request.model) from error
            raise

    async def prepare_chat(self, request: ChatRequest) -> tuple[ChatRequest, tuple[str, ...]]:
        """As `ProviderAdapter.prepare_chat`; Ollama itself refuses what does not fit."""
        request, said = await super().prepare_chat(request)
        if request.tools and request.tool_choice not in (None, "auto", "none"):
            said = (*said, "Ollama cannot be told to call a tool; the model decides.")
        return request, (*said, *await self._reload_notice(request))

    def _is_window_ours(self) -> bool:
        return False

    async def list_models(self) -> list[ModelInfo]:
        """As `ProviderAdapter.list_models`, from `GET /api/tags`; what is in memory from `/api/ps`."""
        tags = await self.http.get_json("/api/tags")
        loaded = await self._loaded_models()
        return [decode_model(entry, loaded, self.settings.context_length) for entry in decode_entries(tags)]

    async def show_model(self, model: str) -> ModelInfo:
        """As `ProviderAdapter.show_model`, from the list and `POST /api/show`."""
        shown = await self.http.call("POST", "/api/show", {"model": model})
        listed = find_model(await self.list_models(), model) or ModelInfo(model)
        return replace(
            listed,
            max_context_length=trained_window(shown) or listed.max_context_length,
            capabilities=decode_capabilities(shown) or listed.capabilities,
        )

    def change_model(
        self, action: ModelAction, model: str, keep_alive: str | float | None = None
    ) -> ModelChange:
        """As `ProviderAdapter.change_model`; a model is loaded with the window that requests will ask for."""
        self._models = None
        extra: dict[str, Any] = {}
        if action == "load":
            # Another value of `shift` or of the window loads the model anew (server/sched.go, v0.33).
            extra = {"shift": False, "options": encode_window(self.settings.context_length)}
            if keep_alive is not None:
                extra["keep_alive"] = keep_alive
        return open_change(self.http, self.backend, action, model, extra)

    async def is_loading(self, model: str) -> bool:
        """Whether `model` is not in memory yet."""
        loaded = await self._loaded_models()
        return loaded is not None and model not in loaded and f"{model}:latest" not in loaded

    async def _reload_notice(self, request: ChatRequest) -> tuple[str, ...]:
        """What to say before a request that makes Ollama load a model anew."""
        own = value_at(dict(request.options.extra_body), ("options", "num_ctx"))
        wanted = count(own) or self.settings.context_length
        if wanted is None:
            return ()
        loaded = await self._loaded_models() or {}
        window = loaded.get(request.model) or loaded.get(f"{request.model}:latest")
        if window is None or window == wanted:
            return ()
        return (f"Ollama loads {request.model} anew: its window changes from {window} to {wanted} tokens.",)

    async def _loaded_models(self) -> dict[str, int | None] | None:
        """Names in memory with the window each was loaded with, or `None` when that is not known."""
        try:
            document = await self.http.get_json("/api/ps")
        except ProviderError:
            return None
        return {entry["name"]: count(entry.get("context_length")) for entry in decode_entries(document)}
