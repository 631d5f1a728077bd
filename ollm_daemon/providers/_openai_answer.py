"""What OpenAI-compatible servers answer: a stream of chunks, or one object.

Every key is optional: role, content, usage and choices may be missing, null or empty, and the finish
reason may come with text, alone, or with the usage. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ollm_daemon.domain import (
    Finished,
    FinishReason,
    ProviderEvent,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from ollm_daemon.errors import ProviderError
from ollm_daemon.providers._failures import Failure, find_failure, refused_in_stream
from ollm_daemon.providers._json import decode_json, value_at
from ollm_daemon.providers._sse import SseDecoder
from ollm_daemon.providers._thinking import ThinkSplitter
from ollm_daemon.providers.base import (
    EventBatch,
    arguments_text,
    count,
    decode_logprobs,
    milliseconds,
    said_nothing,
    text_of,
    truncated,
)
from ollm_daemon.providers.facts import Backend

_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "toolCalls",
    "function_call": "toolCalls",
    "content_filter": "contentFilter",
}
_FAILED_FINISH = frozenset({"error", "abort"})


class ChatDecoder:
    """Reads one answer of `/v1/chat/completions`: bytes in, batches of events out.

    Args:
        is_json: The answer is one document and not a stream.
        has_stops: The request named stop strings, so one of them may have been hit.
    """

    def __init__(self, backend: Backend, *, is_json: bool = False, has_stops: bool = True) -> None:
        self._backend = backend
        self._length_means_stop = backend.length_means_stop and has_stops
        self._sse = SseDecoder(extras=True)
        self._whole = bytearray() if is_json else None
        self._reason: FinishReason | None = None
        self._usage: Usage | None = None
        self._timings: Timings | None = None
        self._model: str | None = None
        self._logprobs: list[TokenLogprob] = []
        self._thinking: ThinkSplitter | None = ThinkSplitter()
        self._first_text = backend.error_text is not None
        self._failure: ProviderError | None = None
        self._called = False
        self._empty = True
        self.done = False

    def feed(self, data: bytes) -> list[ProviderEvent]:
        """As `StreamDecoder.feed`. After the end mark everything is ignored."""
        self._empty = False
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
            if self._whole:
                self._take_chunk(decode_json(bytes(self._whole)), batch, "message")
            elif self._whole is None:
                self._take_events(self._sse.close(), batch)
        except ProviderError as error:
            self._failure = self._failure or error
        if self._thinking:
            self._thinking.finish(batch)
        return batch.take()

    def finished(self) -> Finished:
        """As `StreamDecoder.finished`; without an end mark of any kind the answer is truncated."""
        if self._failure:
            raise self._failure
        if not self.done and self._reason is None:
            raise said_nothing(self._backend.title) if self._empty else truncated(self._backend.title)
        # vLLM ends the call of a named tool with "stop" (0.32).
        reason = "toolCalls" if self._called and self._reason == "stop" else self._reason
        return Finished(reason or "unknown", self._usage, self._timings, self._model, tuple(self._logprobs))

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
                if text is None or self._thinking or self._model is None:
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
        elif (choice := value_at(choices, (0,))) and value_at(choice, ("index",)) in (0, None):
            self._take_choice(choice, batch, key)
        if self._model is None:
            self._model = text_of(chunk.get("model"))
        if chunk.get("usage"):
            self._usage = _decode_usage(chunk["usage"]) or self._usage
        if chunk.get("timings"):
            self._timings = _decode_timings(chunk["timings"])

    def _take_choice(self, choice: Any, batch: EventBatch, key: str) -> None:
        if not isinstance(choice, dict):
            return
        delta = choice.get(key)
        if isinstance(delta, dict):
            self._take_delta(delta, batch)
        if choice.get("logprobs"):
            self._logprobs += decode_logprobs(choice["logprobs"])
        reason = text_of(choice.get("finish_reason"))
        if reason:
            self._take_reason(reason)

    def _take_delta(self, delta: dict[str, Any], batch: EventBatch) -> None:
        text = text_of(delta.get("content"))
        # vLLM 0.11.1 to 0.15 sends both names with the same text.
        thinking = text_of(delta.get("reasoning_content")) or text_of(delta.get("reasoning"))
        if thinking:
            self._trust_the_channel(batch)
            batch.thinking(thinking)
        if text:
            self._take_text(text, batch)
        calls = delta.get("tool_calls")
        if calls and isinstance(calls, list):
            for position, call in enumerate(calls):
                if isinstance(call, dict):
                    self._called = True
                    batch.add(_decode_call(call, position))

    def _take_text(self, text: str, batch: EventBatch) -> None:
        if self._first_text:
            self._check_first_text(text)
        if self._thinking is None:
            batch.text(text)
            return
        self._thinking.feed(text, batch)
        if self._thinking.done:
            self._thinking = None

    def _trust_the_channel(self, batch: EventBatch) -> None:
        """The server tells reasoning apart itself: tags in its text are text."""
        if self._thinking:
            self._thinking.finish(batch)
            self._thinking = None

    def _take_reason(self, reason: str) -> None:
        if reason in _FAILED_FINISH:
            raise refused_in_stream(Failure("the engine stopped before the answer was complete"))
        if reason == "length" and self._length_means_stop:
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
            and not choice.get("logprobs")
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
