"""`OpenAICompatibleProvider`: any server that speaks OpenAI's chat dialect over server-sent events.

Which server it is decides how a request is written. With `backend: auto` the server is asked once,
without a key; a name the user gave is believed at once and held against the server when there is time.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Literal

import anyio

from ollm_daemon.domain import (
    ChatRequest,
    Identity,
    InfillRequest,
    ModelInfo,
    ModelProgress,
    ProviderEvent,
    ProviderSettings,
    TokenCount,
)
from ollm_daemon.errors import (
    BrokenAnswerError,
    ErrorKind,
    ProviderError,
    RefusedError,
    TimeoutPassedError,
    UnreachableError,
)
from ollm_daemon.providers._http_provider import HttpProvider
from ollm_daemon.providers._infill import (
    PARTS,
    PROMPT,
    InfillDecoder,
    encode_parts,
    encode_prompt,
)
from ollm_daemon.providers._json import value_at
from ollm_daemon.providers._model_lists import decode_models
from ollm_daemon.providers._openai_answer import ChatDecoder
from ollm_daemon.providers._openai_dialect import encode_chat, encode_messages, stops_left
from ollm_daemon.providers._stops import stop_at
from ollm_daemon.providers._turns import Turns
from ollm_daemon.providers.backends import BACKENDS, VLLM_FRONTS
from ollm_daemon.providers.base import Capabilities, ChatStream, count, decode_stream
from ollm_daemon.providers.facts import Backend, ModelAction, Where

CHAT_PATH = "/v1/chat/completions"
ABORT_SECONDS = 1.0
MAX_ATTEMPTS = 3
"""To find out who is there, when the server is too slow to tell; each takes a second of somebody's time."""


class OpenAICompatibleProvider(HttpProvider):
    """LM Studio, LocalAI, text-generation-webui, KoboldCpp, llama.cpp, Aphrodite, TabbyAPI, FastChat
    and whatever else answers `POST /v1/chat/completions`.
    """

    streaming_format: Literal["ndjson", "sse"] = "sse"

    def __init__(self, settings: ProviderSettings, backend: Backend | None = None) -> None:
        super().__init__(settings, backend or BACKENDS.get(settings.backend, BACKENDS["generic"]))
        self._is_known = backend is not None or settings.backend != "auto"
        self._attempts = 0
        self._lock = anyio.Lock()
        self._turns = Turns(self._slots)

    @property
    def capabilities(self) -> Capabilities:
        """What the backend's record says."""
        return Capabilities(
            list_models=True,
            actions=frozenset(self.backend.actions),
            tools=self.backend.tools,
            images=self.backend.images,
            response_formats=frozenset({"text", *self.backend.formats}),
        )

    async def connect_ahead(self) -> None:
        """As `ProviderAdapter.connect_ahead`; also finds out who is there."""
        await super().connect_ahead()
        with contextlib.suppress(ProviderError):
            await self.identify()

    async def identify(self) -> Identity:
        """As `ProviderAdapter.identify`; from then on the server is treated as what it is."""
        identity = await super().identify()
        if identity.backend is not None:
            self._recognise(identity.backend)
        self._is_known |= identity.backend is not None or identity.state != "loading"
        return identity

    async def prepare_chat(self, request: ChatRequest) -> tuple[ChatRequest, tuple[str, ...]]:
        """As `ProviderAdapter.prepare_chat`, once it is known who is there."""
        await self._find_out()
        return await super().prepare_chat(request)

    @asynccontextmanager
    async def change_model(
        self, action: ModelAction, model: str, keep_alive: str | float | None = None
    ) -> AsyncIterator[AsyncIterator[ModelProgress]]:
        """As `ProviderAdapter.change_model`, once it is known who is there."""
        await self._find_out()
        async with super().change_model(action, model, keep_alive) as progress:
            yield progress

    def chat_stream(self, request: ChatRequest) -> ChatStream:
        """As `ProviderAdapter.chat_stream`."""
        return self._open_chat(request)

    @asynccontextmanager
    async def _open_chat(self, request: ChatRequest) -> AsyncIterator[AsyncIterator[list[ProviderEvent]]]:
        backend = self.backend
        body = await self.encode(request)
        headers = {}
        if backend.session_header and request.session and not self._sends(backend.session_header):
            headers[backend.session_header] = request.session
        async with (
            self._turns.taken(),
            self._leaving(CHAT_PATH, body),
            self.http.open_stream("POST", CHAT_PATH, body, self.settings.timeouts, headers=headers) as stream,
        ):
            # TabbyAPI may be set to answer a request for a stream with plain JSON.
            whole = stream.content_type == "application/json"
            decoder = ChatDecoder(backend, is_json=whole, has_stops=bool(request.options.stop))
            batches = decode_stream(stream, decoder)
            stops = stops_left(request.options, backend)
            yield stop_at(batches, stops) if stops else batches

    async def takes_parts(self, model: str) -> bool:
        """As `ProviderAdapter.takes_parts`: llama.cpp, until it refuses."""
        await self._find_out()
        return self.backend.infill == "infill" and model not in self._without_infill

    def infill_stream(self, request: InfillRequest) -> ChatStream:
        """As `ProviderAdapter.infill_stream`, from `/infill` or, with a prompt, `/v1/completions`."""
        return self._open_infill(request)

    @asynccontextmanager
    async def _open_infill(self, request: InfillRequest) -> AsyncIterator[AsyncIterator[list[ProviderEvent]]]:
        backend = self.backend
        if request.prompt is None:
            route, body = PARTS, encode_parts(request, backend)
        else:
            route, body = PROMPT, encode_prompt(request, backend)
        try:
            async with (
                self._leaving(route.path, body),
                self.http.open_stream("POST", route.path, body, self.settings.timeouts) as stream,
            ):
                decoder = InfillDecoder(backend.title, route, backend.error_text)
                batches = decode_stream(stream, decoder)
                stops = stops_left(request.options, backend)
                yield stop_at(batches, stops) if stops else batches
        except RefusedError as error:
            if request.prompt is None and error.kind in (ErrorKind.UNSUPPORTED, ErrorKind.PROTOCOL):
                raise self._has_no_infill(request.model) from error
            raise

    async def encode(self, request: ChatRequest) -> dict[str, Any]:
        """The request body.

        Raises:
            UnsupportedError: The backend cannot do what the request asks.
        """
        return encode_chat(request, self.backend)

    async def list_models(self) -> list[ModelInfo]:
        """As `ProviderAdapter.list_models`, from the routes of the backend's record."""
        await self._find_out()
        routes = self.backend.models
        for path, shape in routes:
            try:
                models = decode_models(await self.http.get_json(path), shape)
            except ProviderError as error:
                if (path, shape) == routes[-1] or error.kind is not ErrorKind.PROTOCOL:
                    raise
                continue
            if models is not None:
                return await self._complete(models)
        raise BrokenAnswerError(
            f"{self.backend.title_first} at {self.base_url} sent something else than a list of models.",
            kind=ErrorKind.PROTOCOL,
            hint=f"Check `providers.{self.name}.baseUrl`: is another program listening there?",
        )

    async def count_tokens(self, request: ChatRequest) -> TokenCount:
        """As `ProviderAdapter.count_tokens`, by the route of the backend's record."""
        await self._find_out()
        route = self.backend.count
        if route is None:
            return await super().count_tokens(request)
        text = "\n".join(message.text for message in request.messages)
        body: dict[str, Any] = {
            route.key: encode_messages(request.messages) if route.takes == "messages" else text
        }
        if route.names_model:
            body["model"] = request.model
        try:
            found = value_at(await self.http.call("POST", route.path, body), route.answer)
        except ProviderError:
            return await super().count_tokens(request)
        tokens = len(found) if isinstance(found, list) else count(found)
        if tokens is None:
            return await super().count_tokens(request)
        return self.with_tools(TokenCount(tokens, exact=True), request)

    async def _slots(self) -> int | None:
        """How many requests the server runs at a time, where it tells."""
        where = self.backend.slots
        if not isinstance(where, Where):
            return where
        try:
            return count(value_at(await self.http.get_json(where.path), where.keys))
        except ProviderError:
            return None

    async def is_loading(self, model: str) -> bool:
        """Servers of this dialect have no common way to tell."""
        return False

    async def _complete(self, models: list[ModelInfo]) -> list[ModelInfo]:
        """The list with what the server tells elsewhere of the one model it has loaded."""
        backend = self.backend
        places = [where for where in (backend.loaded, backend.window, backend.vision) if where]
        if not places or not models or (len(models) > 1 and backend.loaded is None):
            return models
        seen: dict[str, Any] = {}
        for path in dict.fromkeys(where.path for where in places):
            with contextlib.suppress(ProviderError):
                seen[path] = await self.http.get_json(path)

        def told(where: Where | None) -> Any:
            return value_at(seen.get(where.path), where.keys) if where else None

        name = models[0].id if len(models) == 1 else told(backend.loaded)
        window, sees = count(told(backend.window)), told(backend.vision)
        able = ("completion", *(("tools",) if backend.tools else ()), *(("vision",) if sees else ()))
        return [
            replace(
                model,
                context_length=model.context_length or window,
                capabilities=model.capabilities or (able if isinstance(sees, bool) else None),
                loaded=True if told(backend.loaded) else model.loaded,
            )
            if model.id == name
            else model
            for model in models
        ]

    @asynccontextmanager
    async def _leaving(self, path: str, body: dict[str, Any]) -> AsyncIterator[None]:
        """Do what some servers need when an answer ends early: stop it by name, or ask why it was cut.

        The name that a server knows the request by is put into the body.
        """
        backend = self.backend
        if backend.abort:
            body[backend.abort[1]] = f"ollm-{secrets.token_hex(8)}"
        try:
            yield
        except asyncio.CancelledError:
            if backend.abort:
                route, key = backend.abort
                with anyio.move_on_after(ABORT_SECONDS, shield=True), contextlib.suppress(ProviderError):
                    await self.http.call("POST", route, {key: body[key]})
            raise
        except BrokenAnswerError as error:
            if backend.tells_errors_whole and error.kind is ErrorKind.STREAM_TRUNCATED:
                await self._ask_why(path, body)
            raise

    async def _ask_why(self, path: str, body: dict[str, Any]) -> None:
        """Ask the same without streaming, for one token.

        Raises:
            RefusedError: What the server says then; a server that is gone says nothing.
        """
        again = {key: value for key, value in body.items() if key != "stream_options"}
        with contextlib.suppress(BrokenAnswerError, UnreachableError, TimeoutPassedError):
            await self.http.call("POST", path, {**again, "stream": False, "max_tokens": 1})

    def _sends(self, header: str) -> bool:
        """Whether the user configured a header of this name."""
        credentials = self.settings.credentials
        secret = credentials.headers if credentials else ()
        return header.lower() in {name.lower() for name, _ in (*self.settings.headers, *secret)}

    async def _find_out(self) -> None:
        """Ask who is there, unless that is known; until somebody answers the server counts as unknown."""
        if self._is_known:
            return
        async with self._lock:
            if self._is_known:
                return
            try:
                await self.identify()
            except ProviderError as error:
                # Where nobody is, the request itself will say so; who hangs up is there.
                self._attempts += not isinstance(error, UnreachableError) or error.unanswered
                self._is_known = self._attempts >= MAX_ATTEMPTS

    def _recognise(self, found: str) -> None:
        """Treat the server as what it gave away; a name in the configuration is corrected with a notice."""
        hint = self.settings.backend
        if hint == "generic" or BACKENDS[found] is self.backend:
            return
        if found == "vllm" and hint in VLLM_FRONTS:
            return  # a router that passes everything through shows nothing of its own
        if hint != "auto":
            said = f"The server at {self.base_url} is {BACKENDS[found].title}, not {self.backend.title}, "
            said += f"and is treated so; correct `providers.{self.name}.backend`, or leave it out."
            self.notices = (said,)
        self._become(found)

    def _become(self, name: str) -> None:
        self.http.backend = BACKENDS[name]
        self._models = None
