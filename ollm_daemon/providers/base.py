"""What every provider is to the rest of the daemon, and the batch its decoders fill."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ollm_daemon.domain import (
    ChatRequest,
    Finished,
    Identity,
    InfillRequest,
    ModelInfo,
    ModelProgress,
    ProviderEvent,
    TextDelta,
    ThinkingDelta,
    TokenCount,
    TokenLogprob,
    ToolCallDelta,
)
from ollm_daemon.errors import BrokenAnswerError, ErrorKind
from ollm_daemon.providers.facts import Backend, ModelAction

if TYPE_CHECKING:
    from ollm_daemon.providers._http import UpstreamStream


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do, whatever the model. Every field is always there."""

    list_models: bool
    actions: frozenset[ModelAction]
    tools: bool
    images: bool
    response_formats: frozenset[str]


ChatStream = AbstractAsyncContextManager[AsyncIterator[list[ProviderEvent]]]
"""Lends batches of events, one batch per read from the socket. The last event is a `Finished`."""

ModelChange = AbstractAsyncContextManager[AsyncIterator[ModelProgress]]
"""Lends the progress of a change; the change is done when the progress has ended."""


class ProviderAdapter(Protocol):
    """One configured provider."""

    @property
    def name(self) -> str:
        """The name it is registered under."""

    @property
    def base_url(self) -> str:
        """The address it sends to, as a person writes it."""

    @property
    def streaming_format(self) -> Literal["ndjson", "sse"]:
        """How its server frames a stream."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do, whatever the model."""

    @property
    def backend(self) -> Backend:
        """Facts about the server behind it, as far as it is known by now."""

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should know about the server, such as that it is not the one configured."""

    @property
    def sends_key(self) -> bool:
        """Whether a key goes to its address."""

    @property
    def limits_seconds(self) -> float:
        """How long a generation may wait for its first text, over all attempts."""

    @property
    def open_connections(self) -> int:
        """Sockets to its server, idle ones too."""

    async def identify(self) -> Identity:
        """Who answers at its address; no key is sent.

        Raises:
            ProviderError: Nobody answers, or not in HTTP.
        """

    async def prepare_chat(self, request: ChatRequest) -> tuple[ChatRequest, tuple[str, ...]]:
        """The request as it can be answered, and sentences about what had to change.

        Asks the server only about what the request needs: images, tools, a long prompt.

        Raises:
            UnsupportedError: The server or the model is known not to be able to do it.
            RefusedError: `context_length`, when the prompt is known not to fit.
            ProviderError: The server cannot be asked.
        """

    def chat_stream(self, request: ChatRequest) -> ChatStream:
        """Start one chat upstream and lend its events for the length of the block.

        Leaving the block early closes the upstream socket, which is how a server learns to stop.

        Raises:
            UnsupportedError: Known not to work here; nothing was sent.
            ProviderError: The upstream failed, before or inside the stream.
        """

    async def window(self, model: str) -> int | None:
        """Tokens that prompt and answer may have together; `None` when nobody tells."""

    async def takes_parts(self, model: str) -> bool:
        """Whether it takes prefix and suffix of an infill apart, so that no prompt need be built.

        Asks the server where it tells, and remembers a refusal.
        """

    def infill_stream(self, request: InfillRequest) -> ChatStream:
        """Start one infill upstream and lend its events, which are text alone and a `Finished`.

        Raises:
            UnsupportedError: It has no infill for this model; from then on `takes_parts` says so.
            ProviderError: The upstream failed, before or inside the stream.
        """

    async def list_models(self) -> list[ModelInfo]:
        """The models its server offers now.

        Raises:
            ProviderError: The upstream failed.
        """

    async def show_model(self, model: str) -> ModelInfo:
        """What is known of one model.

        Raises:
            RefusedError: `not_found`: the server does not have it.
            ProviderError: The server failed.
        """

    def change_model(
        self, action: ModelAction, model: str, keep_alive: str | float | None = None
    ) -> ModelChange:
        """Pull, delete, load or unload a model.

        Args:
            keep_alive: How long a loaded model stays, where the server takes that: seconds, or a text with a
                unit such as `10m`; negative means for ever.

        Raises:
            UnsupportedError: Not here; the hint says what to do instead.
            ProviderError: The server refused or failed, in the midst of it too.
        """

    async def count_tokens(self, request: ChatRequest) -> TokenCount:
        """Tokens of a prompt, by the server's own tokeniser where it has one.

        Raises:
            ProviderError: The server failed.
        """

    async def is_loading(self, model: str) -> bool:
        """Whether the server has yet to load `model`; `False` where it cannot tell."""

    async def connect_ahead(self) -> None:
        """Open a connection so that the first request need not; never fails."""

    async def aclose(self) -> None:
        """Close its connections."""


class EventBatch:
    """The events of one read: neighboring text is joined, order is kept."""

    __slots__ = ("_kind", "_texts", "events")

    def __init__(self) -> None:
        self.events: list[ProviderEvent] = []
        self._texts: list[str] = []
        self._kind: type[TextDelta | ThinkingDelta] = TextDelta

    def text(self, text: str) -> None:
        """Add a piece of the answer."""
        if self._kind is not TextDelta:
            self._flush(TextDelta)
        self._texts.append(text)

    def thinking(self, text: str) -> None:
        """Add a piece of reasoning."""
        if self._kind is not ThinkingDelta:
            self._flush(ThinkingDelta)
        self._texts.append(text)

    def add(self, event: ToolCallDelta | Finished) -> None:
        """Add an event that is not text."""
        self._flush(self._kind)
        self.events.append(event)

    def take(self) -> list[ProviderEvent]:
        """Everything added, joined."""
        self._flush(self._kind)
        return self.events

    def _flush(self, next_kind: type[TextDelta | ThinkingDelta]) -> None:
        if self._texts:
            self.events.append(self._kind("".join(self._texts)))
            self._texts = []
        self._kind = next_kind


class StreamDecoder(Protocol):
    """Reads one answer without I/O."""

    @property
    def done(self) -> bool:
        """Whether nothing more is of interest: the end mark has been read, or a failure."""

    def feed(self, data: bytes) -> list[ProviderEvent]:
        """Events of the next bytes; a failure among them is kept for
        `finished`, so that no text before it is lost.
        """

    def end(self) -> list[ProviderEvent]:
        """The bytes are over: what was still incomplete, if it means something."""

    def finished(self) -> Finished:
        """The last event of the stream.

        Raises:
            RefusedError: The server reported an error inside the answer.
            BrokenAnswerError: What arrived was not JSON, was over a limit, or had no end mark.
        """


async def decode_stream(stream: UpstreamStream, decoder: StreamDecoder) -> AsyncIterator[list[ProviderEvent]]:
    """The events of an answer, one batch per read from the socket."""
    async for data in stream.read():
        events = decoder.feed(data)
        if events:
            stream.content_arrived()
            yield events
        if decoder.done:
            break
    last = decoder.end()
    if last:
        yield last
    finished = decoder.finished()
    stream.finish()
    yield [finished]


def truncated(title: str) -> BrokenAnswerError:
    """The error for a stream that ended without an end mark."""
    return BrokenAnswerError(
        f"The answer of {title} broke off: the stream ended without its end mark.",
        kind=ErrorKind.STREAM_TRUNCATED,
        hint="The server may have stopped or crashed; see its log.",
    )


def said_nothing(title: str) -> BrokenAnswerError:
    """The error for an answer of no bytes under a good status."""
    return BrokenAnswerError(
        f"{title[0].upper()}{title[1:]} answered without a single byte.",
        kind=ErrorKind.STREAM_TRUNCATED,
        hint="Some servers do this when a prompt does not fit their context window; see its log.",
    )


def decode_logprobs(value: Any) -> list[TokenLogprob]:
    """Probabilities as OpenAI (`{"content": [...]}`) and Ollama (`[...]`) write them."""
    entries = value.get("content") if isinstance(value, dict) else value
    return [
        TokenLogprob(
            *one, tuple(two for other in _list(entry.get("top_logprobs")) if (two := _logprob(other)))
        )
        for entry in _list(entries)
        if (one := _logprob(entry))
    ]


def _logprob(entry: Any) -> tuple[str, float] | None:
    token, value = (entry.get("token"), entry.get("logprob")) if isinstance(entry, dict) else (None, None)
    if not isinstance(token, str) or not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return token, float(value)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def arguments_text(arguments: Any) -> str:
    """Arguments of a tool call as JSON text; servers send an object, a string or nothing."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def text_of(value: Any) -> str | None:
    """A text as servers send it, or `None` for what is empty or not one."""
    return value if isinstance(value, str) and value else None


def milliseconds(value: Any) -> float | None:
    """A duration as servers send it, or `None` for what is not one."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < float("inf") else None


def count(value: Any) -> int | None:
    """A token count as servers send it, or `None` for what is not one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
