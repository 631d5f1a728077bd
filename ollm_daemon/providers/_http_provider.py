"""What every provider that speaks HTTP to one server has, whatever the dialect."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from pydantic_core import to_json

from ollm_daemon.domain import (
    ChatRequest,
    Identity,
    ModelInfo,
    ProviderSettings,
    TokenCount,
)
from ollm_daemon.errors import ErrorKind, ProviderError, RefusedError, UnsupportedError
from ollm_daemon.providers._http import UpstreamClient
from ollm_daemon.providers._identify import identify
from ollm_daemon.providers._life_cycle import open_change
from ollm_daemon.providers.base import ModelChange
from ollm_daemon.providers.facts import Backend, ModelAction

KNOWN_SECONDS = 30.0
"""How long what a server said of its models is believed."""
FAILED_SECONDS = 5.0
"""How long it is not asked again after it failed to say."""
BYTES_PER_TOKEN = 3.5
"""Of English and of code, for servers that count nothing; other scripts have fewer."""
SMALLEST_WINDOW = 2048
"""Tokens that any model in use takes."""
MARGIN = 16
"""Tokens kept free, as templates add some that are not counted."""
TURN_BYTES = 16
"""What a template writes around one message, as far as an estimate is concerned."""


class HttpProvider:
    """Name, address, connections and models of a provider; subclasses add the dialect."""

    def __init__(self, settings: ProviderSettings, backend: Backend) -> None:
        self.settings = settings
        self.http = UpstreamClient(settings, backend)
        self.notices: tuple[str, ...] = ()
        self._models: tuple[float, list[ModelInfo]] | None = None
        self._without_infill: set[str] = set()

    @property
    def name(self) -> str:
        """The name it is registered under."""
        return self.settings.name

    @property
    def backend(self) -> Backend:
        """As `ProviderAdapter.backend`."""
        return self.http.backend

    @property
    def base_url(self) -> str:
        """The address it sends to."""
        return str(self.http.base_url)

    @property
    def sends_key(self) -> bool:
        """As `ProviderAdapter.sends_key`."""
        credentials = self.settings.credentials
        return bool(credentials and credentials.api_key and credentials.origin == self.http.base_url.origin)

    @property
    def limits_seconds(self) -> float:
        """How long a generation may wait for its first text."""
        return self.settings.timeouts.first_token

    @property
    def open_connections(self) -> int:
        """Sockets to its server, idle ones too."""
        return self.http.open_connections

    async def identify(self) -> Identity:
        """As `ProviderAdapter.identify`."""
        return await identify(self.http)

    async def connect_ahead(self) -> None:
        """As `ProviderAdapter.connect_ahead`."""
        await self.http.connect_ahead()

    async def aclose(self) -> None:
        """Close its connections."""
        await self.http.aclose()

    async def list_models(self) -> list[ModelInfo]:
        """As `ProviderAdapter.list_models`; subclasses know the route."""
        raise NotImplementedError

    async def show_model(self, model: str) -> ModelInfo:
        """As `ProviderAdapter.show_model`, from the list."""
        found = find_model(await self.list_models(), model)
        if found is None:
            raise RefusedError(
                f"{self.backend.title_first} at {self.base_url} does not have {model}.",
                kind=ErrorKind.NOT_FOUND,
                hint=self.backend.get_model,
            )
        return found

    def change_model(
        self, action: ModelAction, model: str, keep_alive: str | float | None = None
    ) -> ModelChange:
        """As `ProviderAdapter.change_model`; how long a model stays cannot be told."""
        self._models = None
        return open_change(self.http, self.backend, action, model)

    async def prepare_chat(self, request: ChatRequest) -> tuple[ChatRequest, tuple[str, ...]]:
        """As `ProviderAdapter.prepare_chat`."""
        images = any(message.images for message in request.messages)
        if images:
            await self._require(request.model, "vision", "see images")
        if request.tools:
            await self._require(request.model, "tools", "call tools")
        if self.backend.cuts_silently or self._is_window_ours():
            return await self._fit(request)
        return request, ()

    async def count_tokens(self, request: ChatRequest) -> TokenCount:
        """As `ProviderAdapter.count_tokens`: an estimate."""
        return TokenCount(int(_bytes_of(request) / BYTES_PER_TOKEN) + 1, exact=False)

    def with_tools(self, counted: TokenCount, request: ChatRequest) -> TokenCount:
        """The count of a route that takes no tools, with an estimate of those."""
        size = bytes_of_tools(request)
        if not size:
            return counted
        return TokenCount(counted.tokens + int(size / BYTES_PER_TOKEN) + 1, exact=False)

    def _is_window_ours(self) -> bool:
        """Whether the user told a window that the server does not guard."""
        return self.settings.context_length is not None

    async def _known(self, model: str) -> ModelInfo | None:
        """What the server said of a model a little while ago; `None` when it says nothing.

        Where any name means what is loaded, so does one that the server never heard of.
        """
        now = asyncio.get_running_loop().time()
        if self._models is None or now - self._models[0] > KNOWN_SECONDS:
            try:
                self._models = now, await self.list_models()
            except ProviderError:
                self._models = now - KNOWN_SECONDS + FAILED_SECONDS, []
        found = find_model(self._models[1], model)
        if found is None and self.backend.ignores_model:
            loaded = [known for known in self._models[1] if known.loaded is not False]
            return loaded[0] if len(loaded) == 1 else None
        return found

    async def _require(self, model: str, capability: str, what: str) -> None:
        """Refuse what the model is known not to do.

        Raises:
            UnsupportedError: The server lists the model's capabilities, and this is not among them.
        """
        known = await self._known(model)
        if known is None or known.capabilities is None or capability in known.capabilities:
            return
        others = [
            other.id
            for other in (self._models[1] if self._models else ())
            if capability in (other.capabilities or ())
        ]
        hint = f"Choose a model that can: {', '.join(others[:5])}." if others else "Choose a model that can."
        raise UnsupportedError(f"{model} cannot {what}.", hint=hint)

    def _has_no_infill(self, model: str) -> UnsupportedError:
        """What to raise when the server refused to fill in with a model; that is remembered."""
        self._without_infill.add(model)
        return UnsupportedError(
            f"{model} on {self.backend.title} has no infill.", hint="Choose a code model."
        )

    async def window(self, model: str) -> int | None:
        """As `ProviderAdapter.window`."""
        if self.settings.context_length is not None:
            return self.settings.context_length
        known = await self._known(model)
        return known.context_length if known else None

    async def _fit(self, request: ChatRequest) -> tuple[ChatRequest, tuple[str, ...]]:
        """The request with a limit that leaves room for its prompt, on a server that would cut in silence.

        Raises:
            RefusedError: The prompt does not fit.
        """
        window = await self.window(request.model)
        size = _bytes_of(request)
        if window is None:
            return request, self._untold(size)
        wanted = request.options.max_tokens
        if size + MARGIN + (wanted or window // 2) < window:
            return request, ()  # a token has at least one byte
        count = await self.count_tokens(request)
        room = window - count.tokens - MARGIN
        if room < 1:
            raise self._overflow(count, window)
        if wanted is not None and wanted <= room:
            return request, ()
        options = replace(request.options, max_tokens=room)
        said = (
            () if wanted is None else (f"maxTokens was lowered to {room}: the window has {window} tokens.",)
        )
        return replace(request, options=options), said

    def _overflow(self, count: TokenCount, window: int) -> RefusedError:
        tokens = f"{'' if count.exact else 'about '}{count.tokens} tokens"
        return RefusedError(
            f"The prompt has {tokens}, and the window of {self.backend.title} has {window}.",
            kind=ErrorKind.CONTEXT_LENGTH,
            hint=self.http.hint(ErrorKind.CONTEXT_LENGTH),
        )

    def _untold(self, size: int) -> tuple[str, ...]:
        """What to say when a server that cuts in silence does not tell its window."""
        if size < SMALLEST_WINDOW:
            return ()
        title = self.backend.title_first
        said = f"{title} does not tell its context window and shortens what does not fit in silence; "
        return (f"{said}set `providers.{self.name}.contextLength`.",)


def find_model(models: list[ModelInfo], name: str) -> ModelInfo | None:
    """A model by its name, with Ollama's `:latest` left out or not."""
    return next((model for model in models if model.id in (name, f"{name}:latest")), None)


def _bytes_of(request: ChatRequest) -> int:
    """Bytes of all that the model reads: turns with what stands around them, calls and tools."""
    return bytes_of_tools(request) + sum(
        TURN_BYTES
        + len(message.text.encode())
        + sum(len(call.arguments.encode()) for call in message.tool_calls)
        for message in request.messages
    )


def bytes_of_tools(request: ChatRequest) -> int:
    """Bytes of the tools, which a template writes into the prompt."""
    return len(to_json(request.tools)) if request.tools else 0
