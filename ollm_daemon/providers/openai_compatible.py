"""`OpenAICompatibleProvider`: any server that speaks OpenAI's chat dialect over server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from ollm_daemon.domain import ChatRequest, ModelInfo, ProviderEvent, ProviderSettings
from ollm_daemon.providers._http_provider import HttpProvider
from ollm_daemon.providers._openai_dialect import ChatDecoder, decode_models, encode_chat
from ollm_daemon.providers.backends import BACKENDS, Backend
from ollm_daemon.providers.base import Capabilities, ChatStream, decode_stream


class OpenAICompatibleProvider(HttpProvider):
    """LM Studio, LocalAI, text-generation-webui, KoboldCpp, llama.cpp, Aphrodite, TabbyAPI, FastChat
    and whatever else answers `POST /v1/chat/completions`.
    """

    streaming_format: Literal["ndjson", "sse"] = "sse"

    def __init__(self, settings: ProviderSettings, backend: Backend | None = None) -> None:
        super().__init__(settings, backend or BACKENDS.get(settings.backend, BACKENDS["generic"]))

    @property
    def capabilities(self) -> Capabilities:
        """What the backend's record says."""
        return Capabilities(
            list_models=True,
            pull_models=False,
            delete_models=False,
            tools=self.backend.tools,
            images=True,
            response_formats=frozenset({"text", *self.backend.formats}),
        )

    def chat_stream(self, request: ChatRequest) -> ChatStream:
        """As `ProviderAdapter.chat_stream`."""
        return self._open_chat(request)

    @asynccontextmanager
    async def _open_chat(self, request: ChatRequest) -> AsyncIterator[AsyncIterator[list[ProviderEvent]]]:
        body = await self.encode(request)
        async with self.http.open_stream(
            "POST", "/v1/chat/completions", body, self.settings.timeouts
        ) as stream:
            # TabbyAPI may be set to answer a request for a stream with plain JSON.
            whole = stream.content_type == "application/json"
            yield decode_stream(stream, ChatDecoder(self.backend, is_json=whole))

    async def encode(self, request: ChatRequest) -> dict[str, Any]:
        """The request body.

        Raises:
            UnsupportedError: The backend cannot do what the request asks.
        """
        return encode_chat(request, self.backend)

    async def list_models(self) -> list[ModelInfo]:
        """As `ProviderAdapter.list_models`, from `GET /v1/models`."""
        return decode_models(await self.http.get_json("/v1/models"))

    async def is_loading(self, model: str) -> bool:
        """Servers of this dialect have no common way to tell."""
        return False
