"""The daemon's own vocabulary: plain frozen data that never crosses a pipe.

`server/convert.py` turns wire types into these and back; `providers/` turn them into what a server
speaks. Times are milliseconds in fields that end in `_ms`, sizes are bytes, counts of tokens say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import SecretStr

from ollm_daemon.urls import BaseUrl

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "toolCalls", "contentFilter", "unknown"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """A run of text inside a message."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image inside a message, as base64 without a `data:` prefix."""

    media_type: str
    data: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function the model wants called; `arguments` is JSON text exactly as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call; `parameters` is a JSON Schema."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str | tuple[TextPart | ImagePart, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The message's text without its images."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """The message's images, in order."""
        if isinstance(self.content, str):
            return ()
        return tuple(part for part in self.content if isinstance(part, ImagePart))


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """A constraint on the answer. `value` is a schema, a pattern, a list of strings or a grammar."""

    type: Literal["text", "json", "jsonSchema", "regex", "choice", "grammar"]
    value: Any = None


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """Sampling options; `None` leaves the server's default. `extra_body` goes to the server as it is.

    `top_logprobs` asks for the probability of each token, and of that many others at its place.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    top_logprobs: int | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """Everything a provider needs to run one chat.

    Attributes:
        session: Names the conversation, so that a router can keep it on one replica.
    """

    model: str
    messages: tuple[Message, ...]
    options: GenerationOptions = GenerationOptions()
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    response_format: ResponseFormat = ResponseFormat("text")
    stream: bool = True
    session: str | None = None


@dataclass(frozen=True, slots=True)
class ContextFile:
    """Text from another file that helps to write in this one."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class InfillRequest:
    """Everything a provider needs to write what stands between a prefix and a suffix.

    Attributes:
        extra: Other files, the most telling last.
        prompt: All of it as one prompt with a model's own marks, for servers that take only that.
    """

    model: str
    prefix: str
    suffix: str
    extra: tuple[ContextFile, ...] = ()
    options: GenerationOptions = GenerationOptions()
    prompt: str | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as the server reports them."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Durations the server reports about itself, milliseconds."""

    load_ms: float | None = None
    prompt_ms: float | None = None
    generation_ms: float | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """A piece of the model's reasoning, which is not part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of one tool call. `id` and `name` are assigned, fragments of arguments are appended."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments_fragment: str = ""


@dataclass(frozen=True, slots=True)
class StatusDelta:
    """Why no text is arriving yet, or what the daemon does about it."""

    state: Literal["waiting", "loading", "retrying", "fallback"]
    message: str


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token of the answer, its natural logarithm of probability, and the likeliest at its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of a stream."""

    reason: FinishReason
    usage: Usage | None = None
    timings: Timings | None = None
    model: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


ProviderEvent = TextDelta | ThinkingDelta | ToolCallDelta | Finished
"""What a provider's stream consists of. Exactly one `Finished`, and it comes last."""

Delta = TextDelta | ThinkingDelta | ToolCallDelta | StatusDelta
"""What a client sees while a generation runs."""


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """The whole of one finished generation."""

    text: str
    thinking: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    provider: str
    model: str
    usage: Usage | None
    timings: Timings | None
    first_token_ms: float | None
    total_ms: float
    warnings: tuple[str, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model a server offers; `None` where the server does not tell.

    `context_length` is the window it has been given, `max_context_length` the one it was trained for.
    `capabilities` are in Ollama's words: completion, tools, insert, vision, thinking, embedding.
    """

    id: str
    context_length: int | None = None
    max_context_length: int | None = None
    size_bytes: int | None = None
    parameter_size: str | None = None
    quantization: str | None = None
    capabilities: tuple[str, ...] | None = None
    loaded: bool | None = None


@dataclass(frozen=True, slots=True)
class ModelProgress:
    """How far a change of a model has come. Counts are bytes, where the server tells them."""

    status: str
    completed: int | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """What a server gave away without being shown a key.

    Attributes:
        backend: Name of its record; `None` when nothing gave it away.
        version: Its version, where it tells.
        state: Whether it would answer, is loading its model, or wants a key first.
    """

    backend: str | None
    version: str | None = None
    state: Literal["ready", "loading", "locked"] = "ready"


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens of a prompt, and whether the server's own tokeniser counted them."""

    tokens: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a setting came from: the layer's name and, for files, the path and line."""

    layer: str
    source: str = ""
    line: int | None = None

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        return f"{self.layer} ({place})" if place else self.layer


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one exchange with an upstream, seconds each."""

    connect: float = 5.0
    first_token: float = 300.0
    idle: float = 60.0
    stall: float = 300.0
    total: float = 1800.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """What proves who we are, bound to the one origin it was configured for. The certificate and its key
    are PEM files.
    """

    origin: str
    api_key: SecretStr | None = None
    headers: tuple[tuple[str, SecretStr], ...] = ()
    client_cert: str | None = None
    client_key: str | None = None

    @property
    def in_headers(self) -> bool:
        """Whether any of it travels with each request."""
        return self.api_key is not None or bool(self.headers)


@dataclass(frozen=True, slots=True)
class CompletionSettings:
    """How text at the cursor is offered.

    Attributes:
        languages: Language identifiers that differ from `enabled`.
        provider: Who writes it; the provider of chats when `None`.
        model: Which model; the one of chats when `None`.
        family: Name of the code model's family, for a model whose own name does not tell.
        chat: Let a model of no known family write by being told to in a chat.
        ahead: Prepare what comes behind an offer; where it costs little (llama.cpp) when `None`.
        debounce_ms: Pause after a keystroke; chosen from how the user types when `None`.
        max_lines: Most lines of one offer.
        max_tokens: Most tokens of one offer.
        context_tokens: Most tokens of everything that is sent along.
        popup: Offer it in the list of `textDocument/completion` too.
        exclude: Globs of files that are neither completed nor sent along.
        extra_body: Sent to the server with each request.
    """

    enabled: bool = True
    languages: Mapping[str, bool] = field(default_factory=dict)
    provider: str | None = None
    model: str | None = None
    family: str | None = None
    chat: bool = False
    ahead: bool | None = None
    debounce_ms: int | None = None
    max_lines: int = 20
    max_tokens: int = 128
    context_tokens: int = 2048
    popup: bool = False
    exclude: tuple[str, ...] = ()
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    def is_on(self, language: str) -> bool:
        """Whether anything is offered in a language."""
        return self.languages.get(language, self.enabled)


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """Everything one provider instance is built from; equal settings may share one instance.

    Attributes:
        context_length: The window the user wants (Ollama), or knows the server to have, in tokens.
        key_variable: Environment variable that its key may be put in, if there is one.
    """

    name: str
    kind: str
    base_url: BaseUrl
    backend: str = "auto"
    credentials: Credentials | None = None
    headers: tuple[tuple[str, str], ...] = ()
    proxy: str | None = None
    verify_tls: bool = True
    ca_file: str | None = None
    timeouts: Timeouts = Timeouts()
    model_path: str | None = None
    context_length: int | None = None
    key_variable: str | None = None
