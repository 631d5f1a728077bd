"""`ollm/chat` and the deltas that stream while it is open."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ollm_daemon.protocol.base import WireModel


class TextContent(WireModel):
    """A run of text inside a message."""

    type: Literal["text"]
    text: str


class ImageContent(WireModel):
    """An image inside a message: its `data` with their `mediaType`, or a `uri`."""

    type: Literal["image"]
    data: str | None = Field(None, description="The image, base64.")
    media_type: str | None = Field(
        None, description="Such as image/png; goes with data.", pattern=r"^image/[a-z0-9.+-]+$"
    )
    uri: str | None = Field(
        None,
        description="A `data:` URI, or a `file:` URI or path of a PNG, JPEG, GIF or WebP file that the "
        "daemon can read.",
    )

    @model_validator(mode="after")
    def _says_where(self) -> ImageContent:
        has_data = self.data is not None and self.media_type is not None
        if has_data == (self.uri is not None):
            raise ValueError("an image has either data and mediaType, or a uri")
        return self


ContentPart = Annotated[TextContent | ImageContent, Field(discriminator="type")]


class ToolCall(WireModel):
    """A function the model wants called. The daemon calls none; the client decides."""

    id: str = Field(description="Unique within an answer.")
    name: str = Field(description="The function.")
    arguments: str = Field(description="JSON text as the model wrote it; it may not be valid.")


class Message(WireModel):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[ContentPart] = Field(description="Text, or text and images.")
    tool_calls: list[ToolCall] | None = Field(None, description="Calls an assistant turn made.")
    tool_call_id: str | None = Field(None, description="Which call a tool turn answers.")


class Tool(WireModel):
    """A function the model may call."""

    name: str = Field(min_length=1)
    description: str | None = Field(None, description="What it does, for the model.")
    parameters: dict[str, Any] = Field(
        default_factory=lambda: {"type": "object", "properties": {}}, description="A JSON Schema."
    )


class JsonFormat(WireModel):
    """Any JSON value."""

    type: Literal["json"]


class JsonSchemaFormat(WireModel):
    """JSON that a schema allows."""

    type: Literal["jsonSchema"]
    json_schema: dict[str, Any] = Field(alias="schema")


class RegexFormat(WireModel):
    """Text that a pattern matches."""

    type: Literal["regex"]
    pattern: str


class ChoiceFormat(WireModel):
    """One of some texts."""

    type: Literal["choice"]
    choices: list[str] = Field(min_length=1)


class GrammarFormat(WireModel):
    """Text of a grammar, in the server's own notation (GBNF for llama.cpp)."""

    type: Literal["grammar"]
    grammar: str


ResponseFormat = Annotated[
    JsonFormat | JsonSchemaFormat | RegexFormat | ChoiceFormat | GrammarFormat,
    Field(discriminator="type"),
]


class GenerationOptions(WireModel):
    """Sampling options; what is left out comes from the settings, else from the server."""

    temperature: float | None = Field(None, ge=0, description="Randomness; 0 is greedy.")
    top_p: float | None = Field(None, gt=0, le=1, description="Nucleus sampling.")
    top_k: int | None = Field(None, ge=-1, description="Number of candidates kept.")
    min_p: float | None = Field(None, ge=0, le=1, description="Least probability relative to the best.")
    max_tokens: int | None = Field(None, ge=1, description="Most tokens to generate.")
    stop: list[str] | None = Field(None, description="Texts that end the answer.")
    seed: int | None = Field(None, description="Seed of the sampler.")
    repeat_penalty: float | None = Field(None, gt=0, description="Penalty for repetition; 1 is none.")
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    top_logprobs: int | None = Field(
        None,
        ge=0,
        le=20,
        description="Tell the probability of each token, and of so many others at its place.",
    )
    extra_body: dict[str, Any] | None = Field(
        None,
        description="Sent to the server as it is, except what a provider translates (see VllmExtraOptions).",
    )


class VllmExtraOptions(WireModel):
    """Keys of `extraBody` that the vLLM provider translates for the server's version. They keep the
    names vLLM gave them.
    """

    guided_json: dict[str, Any] | None = Field(
        None, alias="guided_json", description="JSON Schema constraint."
    )
    guided_regex: str | None = Field(None, alias="guided_regex", description="Pattern constraint.")
    guided_choice: list[str] | None = Field(None, alias="guided_choice", description="Choice constraint.")
    guided_grammar: str | None = Field(None, alias="guided_grammar", description="Grammar constraint.")
    min_tokens: int | None = Field(None, alias="min_tokens", ge=0, description="Least tokens to generate.")
    presence_penalty: float | None = Field(None, alias="presence_penalty")
    frequency_penalty: float | None = Field(None, alias="frequency_penalty")
    best_of: int | None = Field(
        None, alias="best_of", ge=1, description="Refused where vLLM would ignore it."
    )
    use_beam_search: bool | None = Field(None, alias="use_beam_search", description="Not while streaming.")
    skip_special_tokens: bool | None = Field(None, alias="skip_special_tokens")


class ChatParams(WireModel):
    """A conversation to answer."""

    messages: list[Message] = Field(min_length=1)
    provider: str | None = Field(None, description="Provider or alias; the setting when left out.")
    model: str | None = Field(None, description="Model or alias; the setting when left out.")
    tools: list[Tool] | None = None
    tool_choice: str | None = Field(None, description="auto, none, required, or the name of one tool.")
    response_format: ResponseFormat | None = None
    options: GenerationOptions | None = None
    stream_token: str | int | None = Field(
        None, description="Chosen by the client; deltas carry it. Without one there are no deltas."
    )
    conversation_id: str | None = Field(
        None,
        max_length=200,
        description="Chosen by the client; keeps one conversation on one of many servers behind a router. "
        "The connection, when left out.",
    )
    min_interval_ms: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="Deltas leave at most once per so many milliseconds, joined, for clients that redraw for "
        "each message. The first leaves at once; left out or 0, each leaves as soon as it is there.",
    )


class Usage(WireModel):
    """Token counts as the server reports them."""

    prompt_tokens: int = Field(description="Of the prompt, cached ones too.")
    completion_tokens: int = Field(description="Of the answer, thinking too.")
    cached_tokens: int | None = Field(None, description="Of the prompt, from the server's cache.")


class Timings(WireModel):
    """Milliseconds: the first two as the client feels them, the rest as the server reports them."""

    first_token_ms: float | None = Field(None, description="From the request to the first delta.")
    total_ms: float = Field(description="From the request to the end.")
    load_ms: float | None = Field(None, description="Loading the model.")
    prompt_ms: float | None = Field(None, description="Reading the prompt.")
    generation_ms: float | None = Field(None, description="Writing the answer.")


FinishReason = Literal["stop", "length", "toolCalls", "contentFilter", "unknown"]


class AssistantMessage(WireModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    thinking: str | None = None
    tool_calls: list[ToolCall] | None = None


class TopLogprob(WireModel):
    """A token that could have stood there."""

    token: str
    logprob: float


class TokenLogprob(WireModel):
    """One token of the answer."""

    token: str
    logprob: float = Field(description="Natural logarithm of its probability.")
    top: list[TopLogprob] | None = Field(None, description="The likeliest tokens at its place.")


class ChatResult(WireModel):
    """The whole answer; a client that ignored every delta still has everything."""

    message: AssistantMessage
    finish_reason: FinishReason
    usage: Usage | None = None
    timings: Timings
    provider: str = Field(description="The provider that answered.")
    model: str = Field(description="The model that answered, as the server names it.")
    logprobs: list[TokenLogprob] | None = Field(None, description="As `topLogprobs` asked for.")
    warnings: list[str] | None = Field(None, description="Sentences the user should see.")


class TextDelta(WireModel):
    """A piece of the answer."""

    kind: Literal["text"]
    text: str


class ThinkingDelta(WireModel):
    """A piece of the model's reasoning."""

    kind: Literal["thinking"]
    text: str


class ToolCallDelta(WireModel):
    """A piece of one tool call: assign `id` and `name`, append `argumentsFragment`. An index that comes
    back with a new id and name begins another call. Ids are made unique in the result alone.
    """

    kind: Literal["toolCall"]
    index: int
    id: str | None = None
    name: str | None = None
    arguments_fragment: str


class StatusDelta(WireModel):
    """Why no text is arriving yet, and what is done about it."""

    kind: Literal["status"]
    state: Literal["waiting", "loading", "retrying", "fallback"]
    message: str


Delta = Annotated[TextDelta | ThinkingDelta | ToolCallDelta | StatusDelta, Field(discriminator="kind")]


class CompletionDeltaParams(WireModel):
    """One step of a stream. All deltas come before the response, none after."""

    stream_token: str | int
    seq: int = Field(ge=0, description="0, 1, 2 … within the stream.")
    delta: Delta
