"""Infill on the wire: llama.cpp's `/infill`, Ollama's `/api/generate`, and OpenAI's raw completions.

One record of each stream is a piece of text; the three differ in where the text stands and how the end
is marked. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ollm_daemon.domain import Finished, FinishReason, InfillRequest, ProviderEvent, Usage
from ollm_daemon.errors import ProviderError
from ollm_daemon.providers._failures import Failure, find_failure, refused_in_stream
from ollm_daemon.providers._json import decode_json, value_at
from ollm_daemon.providers._ndjson import NdjsonDecoder
from ollm_daemon.providers._ollama_dialect import decode_usage, encode_window
from ollm_daemon.providers._ollama_dialect import encode_options as encode_ollama_options
from ollm_daemon.providers._openai_dialect import encode_options
from ollm_daemon.providers._sse import SseDecoder
from ollm_daemon.providers.base import EventBatch, count, said_nothing, text_of, truncated
from ollm_daemon.providers.facts import Backend

DEFAULT_MAX_TOKENS = 128


def encode_parts(request: InfillRequest, backend: Backend) -> dict[str, Any]:
    """The body of llama.cpp's `POST /infill` (b11434)."""
    options = encode_options(request.options, backend)
    options["n_predict"] = options.pop("max_tokens", DEFAULT_MAX_TOKENS)
    return {
        "input_prefix": request.prefix,
        "input_suffix": request.suffix,
        "input_extra": [{"filename": file.path, "text": file.text} for file in request.extra],
        "stream": True,
        "cache_prompt": True,
        **options,
        **request.options.extra_body,
    }


def encode_prompt(request: InfillRequest, backend: Backend) -> dict[str, Any]:
    """The body of `POST /v1/completions` for a prompt that holds everything."""
    options = encode_options(request.options, backend)
    options.setdefault("max_tokens", DEFAULT_MAX_TOKENS)
    return {
        "model": request.model,
        "prompt": request.prompt,
        "stream": True,
        **options,
        **request.options.extra_body,
    }


def encode_generate(request: InfillRequest, window: int | None) -> dict[str, Any]:
    """The body of Ollama's `POST /api/generate`: with a suffix, or raw with the marks in the prompt.

    An empty suffix would turn infill off (ollama#6932), so a line end stands for it. `think: false` is
    taken by every model (v0.33).
    """
    options = encode_ollama_options(request.options)
    options.setdefault("num_predict", DEFAULT_MAX_TOKENS)
    body: dict[str, Any] = {
        "model": request.model,
        "stream": True,
        "think": False,
        "shift": False,
        "options": {**options, **encode_window(window)},
    }
    if request.prompt is None:
        body |= {"prompt": request.prefix, "suffix": request.suffix or "\n"}
    else:
        body |= {"prompt": request.prompt, "raw": True}
    return {**body, **request.options.extra_body}


Reading = tuple[str, FinishReason | None, Usage | None]
"""The text of one record, how the answer ended if it says so, and its counts."""

_FINISH: Mapping[Any, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "eos": "stop",
    "word": "stop",
    "limit": "length",
}


def read_parts(record: Any) -> Reading:
    """A record of `/infill` and `/completion`; the one with `stop: true` is the end."""
    text = text_of(value_at(record, ("content",))) or ""
    if value_at(record, ("stop",)) is not True:
        return text, None, None
    prompt, written = (count(value_at(record, (key,))) for key in ("tokens_evaluated", "tokens_predicted"))
    usage = None if prompt is None or written is None else Usage(prompt, written)
    return text, _FINISH.get(value_at(record, ("stop_type",)), "stop"), usage


def read_completion(record: Any) -> Reading:
    """A chunk of `/v1/completions`."""
    choice = value_at(record, ("choices", 0))
    reason = text_of(value_at(choice, ("finish_reason",)))
    prompt, written = (
        count(value_at(record, ("usage", key))) for key in ("prompt_tokens", "completion_tokens")
    )
    usage = None if prompt is None or written is None else Usage(prompt, written)
    text = text_of(value_at(choice, ("text",))) or ""
    return text, _FINISH.get(reason, "unknown") if reason else None, usage


def read_generate(record: Any) -> Reading:
    """A record of `/api/generate`; the one with `done: true` is the end."""
    text = text_of(value_at(record, ("response",))) or ""
    if value_at(record, ("done",)) is not True:
        return text, None, None
    return text, _FINISH.get(value_at(record, ("done_reason",)), "unknown"), decode_usage(record)


@dataclass(frozen=True, slots=True)
class Route:
    """One way to ask for an infill.

    Attributes:
        read: What a record says.
        is_sse: Records are server-sent events, and lines otherwise.
        has_end_mark: After the record that says how the text ended come usage and `[DONE]`.
    """

    path: str
    read: Callable[[Any], Reading]
    is_sse: bool = True
    has_end_mark: bool = False


PARTS = Route("/infill", read_parts)
PROMPT = Route("/v1/completions", read_completion, has_end_mark=True)
GENERATE = Route("/api/generate", read_generate, is_sse=False)


class InfillDecoder:
    """Reads one infill: bytes in, batches of events out.

    Args:
        error_text: A first text with this prefix is an error message, not an answer.
    """

    def __init__(self, title: str, route: Route, error_text: str | None = None) -> None:
        self._title = title
        self._route = route
        self._events = SseDecoder(extras=True)
        self._lines = NdjsonDecoder()
        self._error_text = error_text
        self._reason: FinishReason | None = None
        self._usage: Usage | None = None
        self._model: str | None = None
        self._failure: ProviderError | None = None
        self._empty = True
        self.done = False

    def feed(self, data: bytes) -> list[ProviderEvent]:
        """As `StreamDecoder.feed`."""
        self._empty = False
        return self._take(data)

    def end(self) -> list[ProviderEvent]:
        """As `StreamDecoder.end`."""
        return self._take(None)

    def finished(self) -> Finished:
        """As `StreamDecoder.finished`."""
        if self._failure:
            raise self._failure
        if not self.done and self._reason is None:
            raise said_nothing(self._title) if self._empty else truncated(self._title)
        return Finished(self._reason or "unknown", self._usage, model=self._model)

    def _take(self, data: bytes | None) -> list[ProviderEvent]:
        """Take bytes, or what is left when there are no more."""
        batch = EventBatch()
        try:
            for part, is_error in self._split(data):
                if self.done:
                    break
                self._take_record(part, is_error, batch)
        except ProviderError as error:
            self._failure, self.done = self._failure or error, True
        return batch.take()

    def _split(self, data: bytes | None) -> list[tuple[bytes, bool]]:
        """Records, each with whether it is marked as an error."""
        if not self._route.is_sse:
            lines = self._lines.close() if data is None else self._lines.feed(data)
            return [(line, False) for line in lines]
        events = self._events.close() if data is None else self._events.feed(data)
        return [(event.data, event.type == "error") for event in events]

    def _take_record(self, data: bytes, is_error: bool, batch: EventBatch) -> None:
        if data[:6] == b"[DONE]":
            self.done = True
            return
        if not data.strip():
            return
        record = decode_json(data)
        failure = find_failure(record)
        if failure or is_error:
            raise refused_in_stream(failure or Failure(""))
        text, reason, usage = self._route.read(record)
        if self._error_text and text.startswith(self._error_text):
            raise refused_in_stream(Failure(text.removeprefix(self._error_text)))
        if text:
            batch.text(text)
        self._model = self._model or text_of(value_at(record, ("model",)))
        self._usage = usage or self._usage
        self._reason = reason or self._reason
        self.done = reason is not None and not self._route.has_end_mark
