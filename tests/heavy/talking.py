"""One question asked two ways: of an adapter, and of the daemon in front of it, with the same outcome."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from pydantic import SecretStr

from ollm_daemon.domain import Credentials, GenerationOptions, ModelInfo
from ollm_daemon.errors import OllmError, ProviderError
from ollm_daemon.protocol.chat import ChatParams
from ollm_daemon.providers.openai_compatible import OpenAICompatibleProvider
from ollm_daemon.providers.vllm import VllmProvider
from ollm_daemon.server.convert import to_chat_request
from ollm_daemon.urls import parse_base_url
from tests.fakes.peer import Peer, chat_params, flags, in_memory
from tests.providers.asking import ask, settings_for

PATIENCE = 120.0
"""Seconds for one answer: a server's first one of a kind is slow, and this machine may be busy."""
VIA = ("adapter", "daemon")


@dataclass(frozen=True)
class Place:
    """A server, and what one has to know to ask it."""

    url: str
    kind: str
    model: str
    backend: str | None = None
    key: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Failure:
    """What an error tells a client."""

    kind: str
    message: str
    hint: str
    status: int | None
    partial: str


@dataclass(frozen=True)
class Outcome:
    """All that one chat gave."""

    text: str = ""
    reason: str = ""
    usage: tuple[int, int] | None = None
    calls: tuple[tuple[str, str], ...] = ()
    failure: Failure | None = None

    @property
    def error(self) -> Failure:
        """The failure there must be."""
        assert self.failure, self
        return self.failure

    @property
    def good(self) -> Outcome:
        """Itself, which must be no failure."""
        assert not self.failure, self.failure
        return self


def nothing() -> None:
    """What is done at the first text when nothing is."""


class Talk(Protocol):
    """A way to ask."""

    async def chat(
        self,
        prompt: str,
        *,
        stream: bool = True,
        at_first_text: Callable[[], object] = nothing,
        **params: Any,
    ) -> Outcome:
        """One chat with the place's model, to its end."""

    async def models(self) -> list[tuple[str, int | None]]:
        """Id and window of each model; an error of the server is raised as `Refused`."""


class Refused(Exception):
    """A list that could not be had."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@asynccontextmanager
async def talk(via: str, place: Place, home: Path) -> AsyncIterator[Talk]:
    """A way to ask, by name."""
    if via == "daemon":
        async with daemon(place, home) as peer:
            yield _DaemonTalk(peer, place)
    else:
        async with adapter(place) as provider:
            yield _AdapterTalk(provider, place)


@asynccontextmanager
async def adapter(place: Place) -> AsyncIterator[OpenAICompatibleProvider]:
    """The adapter for a place; it has let go of every connection when it is given back."""
    origin = parse_base_url(place.url).origin
    credentials = Credentials(origin, SecretStr(place.key)) if place.key else None
    backend = place.backend or ("vllm" if place.kind == "vllm" else "generic")
    settings = settings_for(place.url, place.kind, backend, credentials=credentials, headers=place.headers)
    provider = VllmProvider(settings) if place.kind == "vllm" else OpenAICompatibleProvider(settings)
    try:
        yield provider
    finally:
        await provider.aclose()
    assert provider.open_connections == 0


@asynccontextmanager
async def daemon(place: Place, home: Path) -> AsyncIterator[Peer]:
    """A client that has said hello to a daemon for a place."""
    more = {"backend": place.backend, "apiKey": place.key, "headers": dict(place.headers)}
    options = flags(place.url, place.kind, **{name: value for name, value in more.items() if value})
    async with in_memory(home) as peer:
        peer.patience = PATIENCE
        await peer.initialize(options=options)
        yield peer


class _AdapterTalk:
    def __init__(self, provider: OpenAICompatibleProvider, place: Place) -> None:
        self._provider = provider
        self._place = place

    async def chat(
        self,
        prompt: str,
        *,
        stream: bool = True,
        at_first_text: Callable[[], object] = nothing,
        **params: Any,
    ) -> Outcome:
        wire = ChatParams.model_validate(chat_params(prompt, **params))
        try:
            request = to_chat_request(wire, GenerationOptions(), session="tests")
            answer = await ask(
                self._provider,
                replace(request, model=params.get("model", self._place.model), stream=stream),
                at_first_text=at_first_text,
                patience=PATIENCE,
            )
        except OllmError as error:
            return Outcome(failure=_failure(error))
        if answer.error:
            return Outcome(answer.text, failure=_failure(answer.error, answer.text))
        usage = answer.finished.usage
        return Outcome(
            answer.text,
            answer.finished.reason,
            (usage.prompt_tokens, usage.completion_tokens) if usage else None,
            tuple((name or "", arguments) for _, name, arguments in answer.calls),
        )

    async def models(self) -> list[tuple[str, int | None]]:
        try:
            models: list[ModelInfo] = await self._provider.list_models()
        except OllmError as error:
            raise Refused(_failure(error)) from error
        return [(model.id, model.context_length) for model in models]


def _failure(error: OllmError, partial: str = "") -> Failure:
    status = error.status if isinstance(error, ProviderError) else None
    return Failure(error.kind.value, str(error), error.hint, status, partial)


class _DaemonTalk:
    def __init__(self, peer: Peer, place: Place) -> None:
        self._peer = peer
        self._place = place
        self._streams = 0

    async def chat(
        self,
        prompt: str,
        *,
        stream: bool = True,
        at_first_text: Callable[[], object] = nothing,
        **params: Any,
    ) -> Outcome:
        self._streams += 1
        token = {"streamToken": self._streams} if stream else {}
        wire = chat_params(prompt, **{"model": self._place.model, **token, **params})
        identifier = self._peer.ask("ollm/chat", wire)
        if at_first_text is not nothing:
            await self._peer.until(lambda: self._peer.text(self._streams))
            at_first_text()
        message = await self._peer.answer(identifier)
        if "error" in message:
            return Outcome(self._peer.text(self._streams), failure=_wire_failure(message["error"]))
        result = message["result"]
        text = result["message"]["content"]
        assert self._peer.text(self._streams) == (text if stream else "")
        usage = result.get("usage")
        return Outcome(
            text,
            result["finishReason"],
            (usage["promptTokens"], usage["completionTokens"]) if usage else None,
            tuple((call["name"], call["arguments"]) for call in result["message"].get("toolCalls") or ()),
        )

    async def models(self) -> list[tuple[str, int | None]]:
        message = await self._peer.answer(self._peer.ask("ollm/models/list", {}))
        if "error" in message:
            raise Refused(_wire_failure(message["error"]))
        return [(model["id"], model.get("contextLength")) for model in message["result"]["models"]]


def _wire_failure(error: dict[str, Any]) -> Failure:
    data = error["data"]
    return Failure(
        data["kind"], error["message"], data.get("hint", ""), data.get("status"), data.get("partialText", "")
    )
