"""One model run: order, waiting, retries and the whole of the answer.

Knows providers only as `ProviderAdapter` and clients only as a sink for deltas. A run is cancelled by
cancelling the task it runs in; leaving the provider's stream closes the upstream socket.

Invariant: nothing is sent again once a delta has left, and deltas leave in the order they arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

import anyio

from ollm_daemon.constraints import find_violation
from ollm_daemon.domain import (
    ChatRequest,
    Delta,
    Finished,
    GenerationResult,
    InfillRequest,
    ProviderEvent,
    StatusDelta,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
)
from ollm_daemon.errors import ErrorKind, InvalidRequestError, ProviderError, RefusedError
from ollm_daemon.providers.base import ChatStream, ProviderAdapter

DeltaSink = Callable[[Sequence[Delta]], Awaitable[None]]
"""Takes deltas in order; waits while the client is not reading."""

StartSoon = Callable[[Callable[[], Coroutine[Any, Any, None]]], object]
"""Starts a task in the tree of the connection that asked."""

MAX_RETRIES = 2
FIRST_BACKOFF_SECONDS = 0.5
LONGEST_RETRY_AFTER_SECONDS = 20.0
LOADING_POLL_SECONDS = 1.0
SILENCE_SECONDS = 1.0
"""Silence after which the client is told what is being waited for."""


ABOUT_THE_PROVIDER = frozenset(
    {
        ErrorKind.UNREACHABLE,
        ErrorKind.DNS,
        ErrorKind.TLS,
        ErrorKind.PROXY,
        ErrorKind.REDIRECT,
        ErrorKind.TIMEOUT_CONNECT,
        ErrorKind.TIMEOUT_FIRST_TOKEN,
        ErrorKind.RATE_LIMITED,
        ErrorKind.OVERLOADED,
        ErrorKind.BACKEND,
        ErrorKind.PROTOCOL,
        ErrorKind.BAD_CONTENT_TYPE,
        ErrorKind.STREAM_TRUNCATED,
    }
)
"""Failures that another provider need not have. Those about the request (its key, its model, its size) would
only be hidden by asking elsewhere."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who may answer: a provider, and a model unless one is to be chosen."""

    adapter: ProviderAdapter
    model: str | None


async def choose_model(adapter: ProviderAdapter) -> tuple[str, str]:
    """A model for a user who named none, and, if there was a choice, the sentence that says so.

    Prefers what is in memory, then the server's own order (Ollama: newest first); a model that is
    known not to chat is passed over.

    Raises:
        ProviderError: The server cannot be asked, or has no model.
    """
    models = [
        model
        for model in await adapter.list_models()
        if model.capabilities is None or "completion" in model.capabilities
    ]
    if not models:
        error = RefusedError(
            f"{adapter.backend.title} at {adapter.base_url} has no model.",
            kind=ErrorKind.NOT_FOUND,
            hint=adapter.backend.get_model.format(model="llama3.2:3b"),
        )
        error.provider = adapter.name
        raise error
    chosen = next((model for model in models if model.loaded), models[0]).id
    return chosen, f"No model is configured; {chosen} answered." if len(models) > 1 else ""


async def run_chat(
    candidates: Sequence[Candidate],
    request: ChatRequest,
    sink: DeltaSink | None = None,
    start_soon: StartSoon | None = None,
) -> GenerationResult:
    """Run one chat to its end.

    Args:
        candidates: Who may answer; a later one is asked only when all before it failed without a word, in
            a way that says nothing about the request.
        request: What to answer; the model is filled in for each candidate.
        start_soon: Starts a task that outlives this call by no more than a moment; without it nobody is
            told what is being waited for.

    Raises:
        InvalidRequestError: There is nothing to answer.
        UnsupportedError: The provider cannot do what is asked.
        ProviderError: The upstream failed; `partial_text` holds what had arrived.
    """
    if not any(message.text.strip() or message.images for message in request.messages):
        raise InvalidRequestError("The prompt is empty.", hint="Write something for the model to answer.")
    last = len(candidates) - 1
    passed: list[str] = []
    for position, candidate in enumerate(candidates):
        run = _Run(candidate.adapter, request, sink, warnings=[*passed])
        try:
            await run.complete(candidate.model, start_soon)
            return await run.result()
        except ProviderError as error:
            error.provider, error.model = candidate.adapter.name, run.request.model or None
            error.partial_text = "".join(run.texts)
            if position == last or run.first_at is not None or error.kind not in ABOUT_THE_PROVIDER:
                raise
            name = candidates[position + 1].adapter.name
            passed.append(f"{error} {name} answered instead.")
            if sink:
                await sink([StatusDelta("fallback", f"{error} Asking {name} instead.")])
    raise AssertionError("there is always a candidate")


async def run_infill(
    adapter: ProviderAdapter, request: InfillRequest, sink: DeltaSink | None = None
) -> GenerationResult:
    """Run one infill to its end; it is not tried again, as whoever types has typed on by then.

    Raises:
        UnsupportedError: The provider has no infill for the model.
        ProviderError: The upstream failed; `partial_text` holds what had arrived.
    """
    run = _Run(adapter, ChatRequest(request.model, ()), sink)
    try:
        await run.take_all(adapter.infill_stream(request))
    except ProviderError as error:
        error.provider, error.model = adapter.name, request.model
        error.partial_text = "".join(run.texts)
        raise
    return run.whole()


@dataclass(slots=True)
class _Call:
    """A tool call that is being assembled."""

    id: str | None
    name: str
    fragments: list[str]


@dataclass(slots=True)
class _Run:
    adapter: ProviderAdapter
    request: ChatRequest
    sink: DeltaSink | None
    started_at: float = field(default_factory=time.monotonic)
    first_at: float | None = None
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)
    open_calls: dict[int, _Call] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    finished: Finished | None = None
    is_prepared: bool = False
    over: bool = False

    async def complete(self, model: str | None, start_soon: StartSoon | None) -> None:
        """Run the request to the end of its answer; without a model one is chosen."""
        timer = self._watch_silence(start_soon) if self.sink and start_soon else None
        try:
            self.request = replace(self.request, model=model or "")
            await self._attempt_until_done()
        finally:
            self.over = True
            if timer:
                timer.cancel()

    async def _attempt_until_done(self) -> None:
        """Run the request, again where that is allowed; the waits count against one budget."""
        attempt = 0
        while True:
            try:
                await self._attempt()
                return
            except ProviderError as error:
                wait = self._wait_before_retry(error, attempt)
                if wait is None:
                    raise
                if not error.loading:
                    attempt += 1
                if wait:
                    await self._tell_retry(error, wait)
            await anyio.sleep(wait)

    async def _attempt(self) -> None:
        if not self.is_prepared:
            await self._prepare()
        await self.take_all(self.adapter.chat_stream(self.request))

    async def take_all(self, stream: ChatStream) -> None:
        """Take an answer to its end, and send its deltas on."""
        async with stream as batches:
            async for batch in batches:
                if self.first_at is None:
                    self.first_at = time.monotonic()
                deltas = [delta for event in batch if (delta := self._take(event)) is not None]
                if deltas and self.sink is not None:
                    await self.sink(deltas)

    async def _prepare(self) -> None:
        """Choose a model if need be, and make the request one that this server can answer."""
        if not self.request.model:
            model, notice = await choose_model(self.adapter)
            self.request = replace(self.request, model=model)
            self.warnings += [notice] if notice else []
        self.request, notices = await self.adapter.prepare_chat(self.request)
        self.is_prepared = True
        self.warnings += notices
        if notices and self.sink:
            await self.sink([StatusDelta("waiting", notice) for notice in notices])

    def _take(self, event: ProviderEvent) -> Delta | None:
        match event:
            case TextDelta():
                self.texts.append(event.text)
                return event
            case ThinkingDelta():
                self.thoughts.append(event.text)
                return event
            case ToolCallDelta():
                self._take_call(event)
                return event
            case Finished():
                self.finished = event
                return None
            case _:
                assert_never(event)

    def _take_call(self, delta: ToolCallDelta) -> None:
        """Join fragments by index; an index that comes back with another id is another call."""
        call = self.open_calls.get(delta.index)
        if call is None or (delta.id and call.id and delta.id != call.id and delta.name):
            call = _Call(delta.id, "", [])
            self.open_calls[delta.index] = call
            self.calls.append(call)
        call.id = call.id or delta.id
        call.name = delta.name or call.name
        call.fragments.append(delta.arguments_fragment)

    def _wait_before_retry(self, error: ProviderError, attempt: int) -> float | None:
        """Seconds to wait before the request is sent again, or `None` when it is not."""
        if self.first_at is not None:
            return None
        left = self.started_at + self.adapter.limits_seconds - time.monotonic()
        if error.loading:
            return LOADING_POLL_SECONDS if left > LOADING_POLL_SECONDS else None
        if error.unanswered and attempt == 0:
            # A kept connection that the server dropped at this moment; asking twice harms nobody.
            return 0.0
        if not error.retryable or attempt >= MAX_RETRIES:
            return None
        wait = error.retry_after
        if wait is None:
            wait = FIRST_BACKOFF_SECONDS * 2**attempt * (1 - random.random() / 4)  # noqa: S311 - jitter
        return wait if wait <= min(LONGEST_RETRY_AFTER_SECONDS, left) else None

    async def _tell_retry(self, error: ProviderError, wait: float) -> None:
        if self.sink is None:
            return
        if error.loading:
            status = StatusDelta("loading", f"{self._server()} is loading its model.")
        else:
            status = StatusDelta("retrying", f"{error} Trying again in {wait:.1f} s.")
        await self.sink([status])

    def _watch_silence(self, start_soon: StartSoon) -> asyncio.TimerHandle:
        """Say once what is being waited for, if nothing has arrived after a while.

        A timer and not a task: most answers begin in time, and a task would delay each of them.
        """

        def look() -> None:
            if self._is_silent():
                start_soon(self._announce_silence)

        return asyncio.get_running_loop().call_later(SILENCE_SECONDS, look)

    async def _announce_silence(self) -> None:
        loading = False
        with contextlib.suppress(ProviderError):
            loading = await self.adapter.is_loading(self.request.model)
        if not self._is_silent() or self.sink is None:
            return
        if loading:
            status = StatusDelta("loading", f"{self._server()} is loading {self.request.model}.")
        else:
            status = StatusDelta("waiting", f"Waiting for {self._server()} to answer.")
        await self.sink([status])

    def _is_silent(self) -> bool:
        return self.first_at is None and not self.over

    def _server(self) -> str:
        return self.adapter.backend.title_first

    async def result(self) -> GenerationResult:
        """The whole answer of a chat that is done, looked at."""
        whole = self.whole()
        await self._look_at(whole)
        return replace(whole, warnings=(*self.adapter.notices, *self.warnings))

    def whole(self) -> GenerationResult:
        """The whole answer of a run that is done."""
        finished = self.finished or Finished("unknown")
        calls = tuple(self._tool_calls())
        return GenerationResult(
            text="".join(self.texts),
            thinking="".join(self.thoughts),
            tool_calls=calls,
            finish_reason=finished.reason,
            provider=self.adapter.name,
            model=finished.model or self.request.model,
            usage=finished.usage,
            timings=finished.timings,
            first_token_ms=None if self.first_at is None else (self.first_at - self.started_at) * 1e3,
            total_ms=(time.monotonic() - self.started_at) * 1e3,
            logprobs=finished.logprobs,
        )

    async def _look_at(self, answer: GenerationResult) -> None:
        """Warn of what the server did not say: no answer at all, or one that breaks its constraint."""
        backend, wanted = self.adapter.backend, self.request.response_format
        if not answer.text and not answer.tool_calls and not answer.thinking:
            self.warnings.append(
                f"{backend.title_first} answered with nothing; some servers do when a prompt is too long."
            )
        elif wanted.type != "text" and not answer.tool_calls:
            thorough = wanted.type in backend.checked
            violation = await find_violation(answer.text, wanted, answer.finish_reason, thorough=thorough)
            self.warnings += [violation] if violation else []
        if backend.ignores_model and not _is_same(answer.model, self.request.model):
            self.warnings.append(
                f"{backend.title_first} does not look at the model's name: {answer.model} answered."
            )

    def _tool_calls(self) -> list[ToolCall]:
        """Calls with ids of their own: LocalAI repeats one id, older servers send none."""
        taken: set[str] = set()
        calls = []
        for position, call in enumerate(self.calls):
            name = call.id if call.id and call.id not in taken else f"call_{position}"
            taken.add(name)
            calls.append(ToolCall(name, call.name, "".join(call.fragments) or "{}"))
        return calls


def _is_same(answered: str, asked: str) -> bool:
    """Whether two names may mean one model: servers add folders, owners and endings to them."""
    one, two = (name.lower().rpartition("/")[2].removesuffix(".gguf") for name in (answered, asked))
    return one.startswith(two) or two.startswith(one)
