"""Ollama's native chat: request bodies, and records of newline-delimited JSON. No I/O."""

from __future__ import annotations

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
    Timings,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from ollm_daemon.errors import BrokenAnswerError, InvalidRequestError, ProviderError, UnsupportedError
from ollm_daemon.providers._failures import find_failure, refused_in_stream
from ollm_daemon.providers._json import decode_json, value_at
from ollm_daemon.providers._ndjson import NdjsonDecoder
from ollm_daemon.providers._openai_dialect import encode_tool
from ollm_daemon.providers._thinking import ThinkSplitter
from ollm_daemon.providers.base import (
    EventBatch,
    arguments_text,
    count,
    decode_logprobs,
    said_nothing,
    text_of,
    truncated,
)

_OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "max_tokens": "num_predict",
    "seed": "seed",
    "repeat_penalty": "repeat_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
_FINISH: dict[str, FinishReason] = {"stop": "stop", "length": "length"}
_NS_PER_MS = 1e6


def encode_chat(request: ChatRequest, window: int | None = None) -> dict[str, Any]:
    """The body of `POST /api/chat`.

    `truncate: false` makes Ollama refuse a prompt that does not fit instead of dropping its beginning in
    silence (v0.33: 400), and `shift: false` makes it end an answer at the end of the window instead of
    forgetting the beginning of the conversation.

    Args:
        window: The window to load the model with, the same in every request, as another one loads it anew.

    Raises:
        UnsupportedError: Ollama has no such constraint.
        InvalidRequestError: The arguments of an earlier tool call are not an object.
    """
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [_encode_message(message, request) for message in request.messages],
        "stream": request.stream,
        "truncate": False,
        "shift": False,
        "options": {**encode_options(request.options), **encode_window(window)},
    }
    if request.options.top_logprobs is not None:
        body.update(logprobs=True, top_logprobs=request.options.top_logprobs)
    tools = offered_tools(request)
    if tools:
        body["tools"] = [encode_tool(tool) for tool in tools]
    body.update(_encode_format(request.response_format))
    extra = dict(request.options.extra_body)
    if isinstance(extra.get("options"), dict):
        body["options"].update(extra.pop("options"))
    body.update(extra)
    return body


def offered_tools(request: ChatRequest) -> tuple[Tool, ...]:
    """The tools that the model is shown: Ollama has no choice of tools (v0.33), so it is made here.

    `none` shows none, and the name of one shows that one; nothing makes the model call any.
    """
    if request.tool_choice == "none":
        return ()
    return tuple(tool for tool in request.tools if tool.name == request.tool_choice) or request.tools


def encode_options(options: GenerationOptions) -> dict[str, Any]:
    """Sampling options under Ollama's names (api/types.go, v0.33)."""
    values = {theirs: getattr(options, ours) for ours, theirs in _OPTIONS.items()}
    values["stop"] = [text for text in options.stop if text] or None
    return {name: value for name, value in values.items() if value is not None}


def encode_window(window: int | None) -> dict[str, Any]:
    """The runner's option for the size of the window; left out, Ollama chooses by the memory there is."""
    return {} if window is None else {"num_ctx": window}


def _encode_format(wanted: ResponseFormat) -> dict[str, Any]:
    if wanted.type == "text":
        return {}
    if wanted.type == "json":
        return {"format": "json"}
    if wanted.type == "jsonSchema":
        return {"format": wanted.value}
    raise UnsupportedError(
        f"Ollama cannot constrain an answer by {wanted.type}.", hint="It can do: json, jsonSchema."
    )


def _encode_message(message: Message, request: ChatRequest) -> dict[str, Any]:
    encoded: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.images:
        encoded["images"] = [image.data for image in message.images]
    if message.tool_calls:
        encoded["tool_calls"] = [
            {"function": {"name": call.name, "arguments": _arguments(call)}} for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        names = {call.id: call.name for turn in request.messages for call in turn.tool_calls}
        encoded["tool_call_id"] = message.tool_call_id
        encoded["tool_name"] = names.get(message.tool_call_id, message.tool_call_id)
    return encoded


def _arguments(call: ToolCall) -> dict[str, Any]:
    """The arguments as the object that Ollama wants (api/types.go, v0.33).

    Raises:
        InvalidRequestError: They are something else; models write what they like.
    """
    try:
        arguments = decode_json(call.arguments or "{}")
    except BrokenAnswerError:
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidRequestError(
            f"The arguments of the call of {call.name} are not a JSON object.",
            hint="Correct them before the conversation goes on.",
        )
    return arguments


class ChatDecoder:
    """Reads one answer of `/api/chat`: bytes in, batches of events out."""

    def __init__(self) -> None:
        self._lines = NdjsonDecoder()
        self._finished: Finished | None = None
        self._logprobs: list[TokenLogprob] = []
        self._thinking: ThinkSplitter | None = ThinkSplitter()
        self._calls = 0
        self._empty = True
        self._failure: ProviderError | None = None

    @property
    def done(self) -> bool:
        """Whether the record with `done: true`, or a failure, has been read."""
        return self._finished is not None or self._failure is not None

    def feed(self, data: bytes) -> list[ProviderEvent]:
        """As `StreamDecoder.feed`."""
        self._empty = False
        batch = EventBatch()
        try:
            for line in self._lines.feed(data):
                self._take_record(decode_json(line), batch)
        except ProviderError as error:
            self._failure = error
        return batch.take()

    def end(self) -> list[ProviderEvent]:
        """As `StreamDecoder.end`."""
        batch = EventBatch()
        try:
            for line in self._lines.close():
                self._take_record(decode_json(line), batch)
        except ProviderError as error:
            self._failure = self._failure or error
        if self._thinking:
            self._thinking.finish(batch)
        return batch.take()

    def finished(self) -> Finished:
        """As `StreamDecoder.finished`; Ollama ends a stream without `done: true` when its runner stops or
        repeats itself (v0.33), which is truncated.
        """
        if self._failure:
            raise self._failure
        if self._finished is None:
            raise said_nothing("Ollama") if self._empty else truncated("Ollama")
        return self._finished

    def _take_record(self, record: Any, batch: EventBatch) -> None:
        if self._finished is not None or not isinstance(record, dict):
            return
        message = record.get("message")
        if isinstance(message, dict):
            thinking, text = text_of(message.get("thinking")), text_of(message.get("content"))
            if thinking:
                self._thinking = None
                batch.thinking(thinking)
            if text:
                self._take_text(text, batch)
            calls = message.get("tool_calls")
            for call in calls if isinstance(calls, list) else ():
                self._take_call(call, batch)
        elif failure := find_failure(record):
            raise refused_in_stream(failure)
        if record.get("logprobs"):
            self._logprobs += decode_logprobs(record["logprobs"])
        if record.get("done"):
            reason = _FINISH.get(text_of(record.get("done_reason")) or "", "unknown")
            if self._calls and reason == "stop":
                reason = "toolCalls"
            self._finished = Finished(
                reason,
                decode_usage(record),
                _decode_timings(record),
                text_of(record.get("model")),
                tuple(self._logprobs),
            )

    def _take_text(self, text: str, batch: EventBatch) -> None:
        """Text, in which a model that Ollama does not know to think may have left its reasoning."""
        if self._thinking is None:
            batch.text(text)
            return
        self._thinking.feed(text, batch)
        if self._thinking.done:
            self._thinking = None

    def _take_call(self, call: Any, batch: EventBatch) -> None:
        """Calls arrive whole, their arguments as an object; ids only since v0.12.10."""
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            return
        index, self._calls = self._calls, self._calls + 1
        arguments = arguments_text(function.get("arguments"))
        batch.add(ToolCallDelta(index, text_of(call.get("id")), text_of(function.get("name")), arguments))


def decode_entries(document: Any) -> list[dict[str, Any]]:
    """The models of `/api/tags` and `/api/ps`."""
    entries = value_at(document, ("models",))
    return [
        entry
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("name"), str)
    ]


def decode_model(
    entry: dict[str, Any], loaded: dict[str, int | None] | None, wanted: int | None = None
) -> ModelInfo:
    """One entry of `/api/tags`.

    Args:
        loaded: What is in memory with the window of each, or `None` when that is not known.
        wanted: The window that requests ask for, which a model that is not in memory will get.
    """
    name = entry["name"]
    details = entry.get("details")
    details = details if isinstance(details, dict) else {}
    return ModelInfo(
        id=name,
        context_length=loaded[name] if loaded and name in loaded else wanted,
        max_context_length=count(details.get("context_length")),
        size_bytes=count(entry.get("size")),
        parameter_size=text_of(details.get("parameter_size")),
        quantization=text_of(details.get("quantization_level")),
        capabilities=decode_capabilities(entry),
        loaded=None if loaded is None else name in loaded,
    )


def decode_capabilities(entry: dict[str, Any]) -> tuple[str, ...] | None:
    """Capabilities, which lists have since v0.30 and `/api/show` since v0.6.4."""
    return _texts(entry.get("capabilities"))


def trained_window(shown: Any) -> int | None:
    """The window a model was trained for, from `/api/show`."""
    info = value_at(shown, ("model_info",))
    architecture = value_at(info, ("general.architecture",))
    return count(value_at(info, (f"{architecture}.context_length",)))


def _texts(value: Any) -> tuple[str, ...] | None:
    return tuple(filter(None, map(text_of, value))) if isinstance(value, list) else None


def decode_usage(record: dict[str, Any]) -> Usage | None:
    """The counts of the record that ends an answer; one that is zero is left out by the server."""
    prompt, completion = count(record.get("prompt_eval_count")), count(record.get("eval_count"))
    return None if prompt is None and completion is None else Usage(prompt or 0, completion or 0)


def _decode_timings(record: dict[str, Any]) -> Timings:
    load, prompt, generation = (
        count(record.get(name)) for name in ("load_duration", "prompt_eval_duration", "eval_duration")
    )
    return Timings(
        load_ms=None if load is None else load / _NS_PER_MS,
        prompt_ms=None if prompt is None else prompt / _NS_PER_MS,
        generation_ms=None if generation is None else generation / _NS_PER_MS,
    )
