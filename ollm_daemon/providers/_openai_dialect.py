"""OpenAI's chat dialect, as ten servers really speak it.

`encode_chat` writes a request body for one backend; `ChatDecoder` reads its answer, streamed or
whole. Every key of an answer is optional: role, content, usage and choices may be missing, null or
empty, and the finish reason may come with text, alone, or with the usage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ollm_daemon.domain import (
    ChatRequest,
    Finished,
    FinishReason,
    GenerationOptions,
    Message,
    ModelInfo,
    ProviderEvent,
    ResponseFormat,
    TextPart,
    Timings,
    Tool,
    ToolCallDelta,
    Usage,
)
from ollm_daemon.errors import ProviderError, UnsupportedError
from ollm_daemon.providers._failures import Failure, find_failure, refused_in_stream
from ollm_daemon.providers._json import decode_json
from ollm_daemon.providers._sse import SseDecoder
from ollm_daemon.providers.backends import DEFAULT_MAX_TOKENS, Backend
from ollm_daemon.providers.base import EventBatch, arguments_text, count, milliseconds, text_of, truncated

_OPTIONS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "max_tokens",
    "seed",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
)
_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "toolCalls",
    "function_call": "toolCalls",
    "content_filter": "contentFilter",
}
_FAILED_FINISH = frozenset({"error", "abort"})


def encode_chat(request: ChatRequest, backend: Backend) -> dict[str, Any]:
    """The body of `POST /v1/chat/completions`. Keys without a value are left out, never null.

    Raises:
        UnsupportedError: The backend cannot do what the request asks.
    """
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [_encode_message(message) for message in request.messages],
        "stream": request.stream,
    }
    if request.stream and backend.sends_usage:
        body["stream_options"] = {"include_usage": True}
    body.update(encode_options(request.options, backend))
    if request.tools:
        if not backend.tools:
            raise UnsupportedError(
                f"{backend.title} has no tool calling.", hint="Choose another provider for tools."
            )
        body["tools"] = [encode_tool(tool) for tool in request.tools]
        if request.tool_choice:
            body["tool_choice"] = _encode_tool_choice(request.tool_choice)
    body.update(encode_format(request.response_format, backend))
    body.update(request.options.extra_body)
    return body


def encode_options(options: GenerationOptions, backend: Backend) -> dict[str, Any]:
    """Sampling options under the backend's names, without those it refuses.

    Raises:
        UnsupportedError: More stop strings than the backend accepts.
    """
    values: dict[str, Any] = {}
    for name in _OPTIONS:
        value = getattr(options, name)
        if value is not None and name not in backend.unsupported:
            values[backend.renamed.get(name, name)] = value
    if backend.requires_max_tokens:
        values.setdefault("max_tokens", DEFAULT_MAX_TOKENS)
    stop = [text for text in options.stop if text]
    if backend.max_stop is not None and len(stop) > backend.max_stop:
        raise UnsupportedError(
            f"{backend.title} accepts at most {backend.max_stop} stop strings, {len(stop)} were given.",
            hint="Leave out the least needed ones.",
        )
    if stop:
        values["stop"] = stop
    return values


def encode_format(wanted: ResponseFormat, backend: Backend) -> dict[str, Any]:
    """The keys that constrain the answer on this backend.

    Raises:
        UnsupportedError: The backend would ignore the constraint.
    """
    if wanted.type == "text":
        return {}
    route = backend.formats.get(wanted.type)
    schema = {"name": "answer", "schema": wanted.value if wanted.type == "jsonSchema" else {}}
    match route:
        case "response_format" if wanted.type == "json":
            return {"response_format": {"type": "json_object"}}
        case "response_format":
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        case "response_format_schema":
            schema["schema"] = {"type": "object"}
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        case "response_format_json":
            return {"response_format": {"type": "json"}}
        case "grammar" | "regex_pattern":
            return {route: wanted.value}
        case None:
            known = ", ".join(sorted(backend.formats)) or "none"
            raise UnsupportedError(
                f"{backend.title} cannot constrain an answer by {wanted.type}.",
                hint=f"It can do: {known}.",
            )


def _encode_message(message: Message) -> dict[str, Any]:
    encoded: dict[str, Any] = {"role": message.role}
    if isinstance(message.content, str):
        encoded["content"] = message.content
    else:
        encoded["content"] = [
            {"type": "text", "text": part.text}
            if isinstance(part, TextPart)
            else {
                "type": "image_url",
                "image_url": {"url": f"data:{part.media_type};base64,{part.data}"},
            }
            for part in message.content
        ]
    if message.tool_calls:
        encoded["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        encoded["tool_call_id"] = message.tool_call_id
    return encoded


def encode_tool(tool: Tool) -> dict[str, Any]:
    """A tool as OpenAI and Ollama both take it."""
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": dict(tool.parameters),
        },
    }


def _encode_tool_choice(choice: str) -> Any:
    if choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "function": {"name": choice}}


def decode_models(document: Any) -> list[ModelInfo]:
    """The models of `GET /v1/models`; `data` may be null (Ollama without models)."""
    entries = document.get("data") if isinstance(document, dict) else None
    models = []
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("id"), str):
            meta = entry.get("meta")
            meta = meta if isinstance(meta, dict) else {}
            window = count(entry.get("max_model_len")) or count(meta.get("n_ctx"))
            models.append(
                ModelInfo(id=entry["id"], context_length=window, size_bytes=count(meta.get("size")))
            )
    return models


class ChatDecoder:
    """Reads one answer of `/v1/chat/completions`: bytes in, batches of events out."""

    def __init__(self, backend: Backend, *, is_json: bool = False) -> None:
        self._backend = backend
        self._sse = SseDecoder(extras=True)
        self._whole = bytearray() if is_json else None
        self._reason: FinishReason | None = None
        self._usage: Usage | None = None
        self._timings: Timings | None = None
        self._model: str | None = None
        self._first_text = backend.error_text is not None
        self._failure: ProviderError | None = None
        self._called = False
        self.done = False

    def feed(self, data: bytes) -> list[ProviderEvent]:
        """As `StreamDecoder.feed`. After the end mark everything is ignored."""
        if self._whole is not None:
            self._whole += data
            return []
        batch = EventBatch()
        try:
            self._take_events(self._sse.feed(data), batch)
        except ProviderError as error:
            self._failure, self.done = error, True
        return batch.take()

    def end(self) -> list[ProviderEvent]:
        """As `StreamDecoder.end`."""
        batch = EventBatch()
        try:
            if self._whole is not None:
                self._take_chunk(decode_json(bytes(self._whole)), batch, "message")
            else:
                self._take_events(self._sse.close(), batch)
        except ProviderError as error:
            self._failure = self._failure or error
        return batch.take()

    def finished(self) -> Finished:
        """As `StreamDecoder.finished`; without an end mark of any kind the answer is truncated."""
        if self._failure:
            raise self._failure
        if not self.done and self._reason is None:
            raise truncated(self._backend.title)
        # vLLM ends the call of a named tool with "stop" (0.32).
        reason = "toolCalls" if self._called and self._reason == "stop" else self._reason
        return Finished(reason or "unknown", self._usage, self._timings, self._model)

    def _take_events(self, events: list[Any], batch: EventBatch) -> None:
        for event in events:
            data = event.data
            if self.done:
                return
            if data[:6] == b"[DONE]":
                self.done = True
            elif event.type == "error":
                raise refused_in_stream(_failure_of(data))
            elif data and not data.isspace():
                chunk = decode_json(data)
                text = _text_alone(chunk)
                if text is None or self._first_text or self._model is None:
                    self._take_chunk(chunk, batch, "delta")
                else:
                    batch.text(text)

    def _take_chunk(self, chunk: Any, batch: EventBatch, key: str) -> None:
        if not isinstance(chunk, dict):
            if isinstance(chunk, str):
                raise refused_in_stream(Failure(chunk))
            return
        choices = chunk.get("choices")
        if not choices:
            failure = find_failure(chunk)
            if failure:
                raise refused_in_stream(failure)
        elif isinstance(choices, list) and isinstance(choices[0], dict):
            choice = choices[0]
            if choice.get("index", 0) == 0:
                delta = choice.get(key)
                if isinstance(delta, dict):
                    self._take_delta(delta, batch)
                reason = text_of(choice.get("finish_reason"))
                if reason:
                    self._take_reason(reason)
        if self._model is None:
            self._model = text_of(chunk.get("model"))
        if chunk.get("usage"):
            self._usage = _decode_usage(chunk["usage"]) or self._usage
        if chunk.get("timings"):
            self._timings = _decode_timings(chunk["timings"])

    def _take_delta(self, delta: dict[str, Any], batch: EventBatch) -> None:
        text = text_of(delta.get("content"))
        # vLLM 0.11.1 to 0.15 sends both names with the same text.
        thinking = text_of(delta.get("reasoning_content")) or text_of(delta.get("reasoning"))
        if thinking:
            batch.thinking(thinking)
        if text:
            if self._first_text:
                self._check_first_text(text)
            batch.text(text)
        calls = delta.get("tool_calls")
        if calls and isinstance(calls, list):
            for position, call in enumerate(calls):
                if isinstance(call, dict):
                    self._called = True
                    batch.add(_decode_call(call, position))

    def _take_reason(self, reason: str) -> None:
        if reason in _FAILED_FINISH:
            raise refused_in_stream(Failure("the engine stopped before the answer was complete"))
        if reason == "length" and self._backend.length_means_stop:
            reason = "stop"
        self._reason = _FINISH.get(reason, "unknown")

    def _check_first_text(self, text: str) -> None:
        self._first_text = False
        prefix = self._backend.error_text
        if prefix and text.startswith(prefix):
            raise refused_in_stream(Failure(text.removeprefix(prefix)))


def _text_alone(chunk: Any) -> str | None:
    """The text of the chunk that makes up most of every answer: a piece of text and nothing else to see."""
    try:
        (choice,) = chunk["choices"]
        delta = choice["delta"]
        text = delta["content"]
        if (
            choice["finish_reason"] is None
            and choice["index"] == 0
            and len(delta) == 1
            and type(text) is str
            and text
            and not chunk.get("usage")
            and "timings" not in chunk
        ):
            return text
    except (TypeError, KeyError, ValueError, AttributeError):
        pass
    return None


def _failure_of(data: bytes) -> Failure:
    value = decode_json(data)
    return find_failure(value) or find_failure({"error": value}) or Failure("")


def _decode_call(call: dict[str, Any], position: int) -> ToolCallDelta:
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    index = count(call.get("index"))
    return ToolCallDelta(
        index=position if index is None else index,
        id=text_of(call.get("id")),
        name=text_of(function.get("name")),
        arguments_fragment=arguments_text(function.get("arguments")),
    )


def _decode_usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    prompt, completion = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    if prompt is None and completion is None:
        return None
    details = usage.get("prompt_tokens_details")
    cached = count(details.get("cached_tokens")) if isinstance(details, dict) else None
    return Usage(prompt or 0, completion or 0, cached)


def _decode_timings(timings: Any) -> Timings | None:
    """llama.cpp's own clock, milliseconds (b11434)."""
    if not isinstance(timings, dict):
        return None
    return Timings(
        prompt_ms=milliseconds(timings.get("prompt_ms")),
        generation_ms=milliseconds(timings.get("predicted_ms")),
    )
