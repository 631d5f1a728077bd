"""Asking a model to write at a cursor: the request in the model's own form, and what is known of the server.

What goes along from other files stays the same while the user writes at one place: a server that keeps
what it has read of a prompt need not read it again at every keystroke.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ollm_daemon.completion.asking import (
    CHARACTERS_PER_TOKEN,
    AnyRequest,
    Question,
    build_request,
    room_for,
)
from ollm_daemon.completion.context import RecentPlaces, choose_context, is_excluded
from ollm_daemon.completion.filters import AnswerGuard
from ollm_daemon.completion.statistics import CompletionStatistics
from ollm_daemon.domain import (
    ChatRequest,
    CompletionSettings,
    ContextFile,
    GenerationOptions,
    InfillRequest,
    Message,
    TextDelta,
)
from ollm_daemon.errors import ProviderError, UnsupportedError
from ollm_daemon.providers.base import ProviderAdapter

SAMPLE = 4000
"""Characters that a server's tokeniser is tried on."""
NEAR = 2500
"""Characters at the beginning of a document that tell what helps there, before the user is anywhere."""
CONTEXT_SECONDS = 30.0
"""How long what goes along stays the same, unless the user goes to another document."""


@dataclass(frozen=True, slots=True)
class Source:
    """Who writes, and how.

    Attributes:
        held: What keeps the provider open while somebody holds it.
    """

    adapter: ProviderAdapter
    model: str
    settings: CompletionSettings
    held: object = None


class Writer:
    """Asks models for one client.

    Args:
        documents: Gives the open documents by URI, as they are now.
    """

    def __init__(
        self,
        documents: Callable[[], Mapping[str, str]],
        places: RecentPlaces,
        statistics: CompletionStatistics,
    ) -> None:
        self._documents = documents
        self._places = places
        self._statistics = statistics
        self._ratios: dict[str, float] = {}
        self._chosen: dict[str, tuple[float, tuple[ContextFile, ...]]] = {}

    def forget(self) -> None:
        """A server may be another one, and what may be sent along may have changed."""
        self._ratios.clear()
        self._chosen.clear()

    def choose_anew(self) -> None:
        """The user went to another document, or closed one: what goes along is chosen again."""
        self._chosen.clear()

    async def write_first(
        self,
        source: Source,
        question: Question,
        guard: AnswerGuard,
        go_on: Callable[[], bool],
        *,
        block: bool,
    ) -> AnyRequest:
        """The first answer; gives the request that brought it.

        A server that turns out not to take prefix and suffix apart is asked again with a prompt.
        """
        request = await self._build(source, question, block=block)
        try:
            await self.write(source, request, guard, go_on)
        except UnsupportedError:
            if not isinstance(request, InfillRequest) or request.prompt is not None:
                raise
            request = await self._build(source, question, block=block)
            await self.write(source, request, guard, go_on)
        return request

    async def write(
        self, source: Source, request: AnyRequest, guard: AnswerGuard, go_on: Callable[[], bool]
    ) -> None:
        """Let the model write until it is done, or enough of it is there; leaving stops it."""
        self._statistics.generations += 1
        if isinstance(request, ChatRequest):
            prepared, _ = await source.adapter.prepare_chat(request)
            stream = source.adapter.chat_stream(prepared)
        else:
            stream = source.adapter.infill_stream(request)
        async with stream as batches:
            async for batch in batches:
                for event in batch:
                    if isinstance(event, TextDelta):
                        guard.feed(event.text)
                if guard.done or not go_on():
                    return

    async def warm_up(self, source: Source, uri: str) -> None:
        """Let a server that takes parts read what goes along, before the user types."""
        text = self._documents().get(uri)
        if text is None or is_excluded(uri, source.settings.exclude):
            return
        settings, ratio = source.settings, self._ratio(source)
        room = await room_for(source.adapter, source.model, settings, settings.max_tokens, ratio)
        extra = self._choose(uri, settings, text[:NEAR], room // 3)
        if extra and await source.adapter.takes_parts(source.model):
            options = GenerationOptions(temperature=0.0, max_tokens=0, extra_body=settings.extra_body)
            request = InfillRequest(source.model, "", "", extra, options)
            async with source.adapter.infill_stream(request) as batches:
                async for _ in batches:
                    pass

    def has_to_measure(self, source: Source, text: str) -> bool:
        """Whether it is yet to be learned how long tokens are, and there is enough to learn it from."""
        return source.model not in self._ratios and len(text) > SAMPLE // 4

    async def measure(self, source: Source, text: str) -> None:
        """Learn from the server's own tokeniser how long its tokens are in this kind of text."""
        self._ratios[source.model] = CHARACTERS_PER_TOKEN
        sample = text[-SAMPLE:]
        try:
            count = await source.adapter.count_tokens(ChatRequest(source.model, (Message("user", sample),)))
        except ProviderError:
            return
        if count.exact and count.tokens:
            self._ratios[source.model] = min(6.0, max(1.0, len(sample) / count.tokens))

    def _ratio(self, source: Source) -> float:
        return self._ratios.get(source.model, CHARACTERS_PER_TOKEN)

    async def _build(self, source: Source, question: Question, *, block: bool) -> AnyRequest:
        return await build_request(
            question,
            source.adapter,
            source.model,
            source.settings,
            block=block,
            choose=partial(self._choose, question.uri, source.settings),
            characters_per_token=self._ratio(source),
        )

    def _choose(
        self, uri: str, settings: CompletionSettings, near: str, characters: int
    ) -> tuple[ContextFile, ...]:
        """What goes along: what did a moment ago, if it still fits."""
        now = time.monotonic()
        until, chosen = self._chosen.get(uri, (0.0, ()))
        if now < until and sum(len(file.text) for file in chosen) <= characters:
            return chosen
        chosen = choose_context(
            uri, near, self._documents(), self._places, characters=characters, exclude=settings.exclude
        )
        self._chosen[uri] = (now + CONTEXT_SECONDS, chosen)
        return chosen
