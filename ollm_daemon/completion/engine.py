"""Completions of one client: when to ask, whom, and what to answer meanwhile.

For each document the newest request counts: an older one is answered with nothing at once, and what it
had asked for is stopped. A generation is a flight of its own; a request that finds the user typing what
is being generated gets on it, and the last one to leave stops it. Failures are told once, as a change of
state, and a server that keeps failing is left alone for a while.

Invariants: every request gets an answer; no flight goes on that nobody waits for, but one ahead of the
user.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import anyio

from ollm_daemon.completion.asking import CHARACTERS_PER_TOKEN, Question, build_request, varied
from ollm_daemon.completion.cache import OfferCache, Place, place_at
from ollm_daemon.completion.context import RecentPlaces, is_excluded
from ollm_daemon.completion.cursor import Cursor, wants_block
from ollm_daemon.completion.filters import AnswerGuard, polish
from ollm_daemon.completion.languages import language_of
from ollm_daemon.completion.statistics import CompletionStatistics
from ollm_daemon.domain import ChatRequest, CompletionSettings, InfillRequest, Message, TextDelta
from ollm_daemon.errors import ErrorKind, OllmError, ProviderError, UnsupportedError
from ollm_daemon.providers.base import ProviderAdapter

StartSoon = Callable[[Callable[[], Coroutine[Any, Any, None]]], object]
State = Literal["ready", "unavailable"]

LEAST_DELAY, MOST_DELAY = 0.03, 0.3
"""Seconds between a keystroke and the question it asks, as the user types quickly or slowly."""
FAILURES, FAILURE_SECONDS, PAUSE_SECONDS = 3, 10.0, 5.0
"""So many failures within so many seconds, and nothing is asked for so many."""
LONGEST_LINE = 2000
"""Characters of a line beyond which a file counts as minified, and nothing is offered unasked."""
GENERATION_SECONDS = 15.0
AHEAD_SECONDS = 0.3
"""Idle time after an offer before the one behind it is prepared."""
SAMPLE = 4000
"""Characters that a server's tokeniser is tried on."""
_SETTLED = frozenset({ErrorKind.UNSUPPORTED, ErrorKind.NOT_FOUND, ErrorKind.AUTH, ErrorKind.CONFIG})
"""Failures that asking again soon does not mend."""


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


@dataclass
class _Flight:
    """One generation, and who waits for it."""

    question: Question
    place: Place
    cursor: Cursor
    block: bool
    guard: AnswerGuard
    offers: tuple[str, ...] = ()
    waiting: int = 0
    over: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    def typed_at(self, place: Place) -> int | None:
        """How many characters of its answer the user has typed by now; `None` if it is none of it."""
        typed = place.before[0] - self.place.before[0]
        if typed < 0 or not place.is_of(self.place):
            return None
        begun = place.before[1][len(place.before[1]) - typed :]
        text = self.guard.text
        return typed if text.startswith(begun) or (begun.startswith(text) and not self.guard.done) else None


class CompletionEngine:
    """Asks providers for what stands at a cursor.

    Args:
        documents: Gives the open documents by URI, as they are now.
        tell: Called when the state changes, with a sentence when there is something to say.
    """

    def __init__(
        self,
        documents: Callable[[], Mapping[str, str]],
        start_soon: StartSoon,
        tell: Callable[[State, str], None],
        statistics: CompletionStatistics,
    ) -> None:
        self.places = RecentPlaces()
        self.statistics = statistics
        self._documents = documents
        self._start_soon = start_soon
        self._tell = tell
        self._cache = OfferCache()
        self._overtaken: dict[str, anyio.Event] = {}
        self._flights: dict[str, _Flight] = {}
        self._asked_at: deque[float] = deque(maxlen=8)
        self._failed_at: deque[float] = deque(maxlen=FAILURES)
        self._paused_until = 0.0
        self._state: State = "ready"
        self._ratios: dict[str, float] = {}

    async def complete(self, question: Question, source: Source) -> tuple[str, ...]:
        """Texts to offer at the cursor; none when there is nothing to say, or a newer request came."""
        began = time.monotonic()
        self.statistics.requests += 1
        overtaken = self._overtake(question.uri)
        cursor = Cursor(question.prefix, question.suffix, language_of(question.language))
        if is_excluded(question.uri, source.settings.exclude):
            return ()
        if question.automatic and len(cursor.line_before) + len(cursor.line_after) > LONGEST_LINE:
            return ()
        block = source.settings.max_lines > 1 and wants_block(cursor, invoked=not question.automatic)
        how = (source.adapter.name, source.model, "block" if block else "line")
        place = place_at(question.uri, question.prefix, question.suffix, how)
        offers = self._cache.find(place)
        if offers is not None and (question.automatic or len(offers) >= question.candidates):
            self.statistics.cache_hits += 1
            return self._answer(offers, began)
        flight = self._flights.get(question.uri)
        if flight is None or flight.typed_at(place) is None:
            self._stop_flight(question.uri)
            if question.automatic and not await self._wait_turn(overtaken, source.settings):
                self.statistics.superseded += 1
                return ()
            flight = self._take_off(question, place, cursor, block, source)
        else:
            self.statistics.joined += 1
        await self._board(flight, overtaken)
        typed = flight.typed_at(place)
        if typed is None or not flight.over.is_set():
            self.statistics.superseded += 1
            return ()
        begun = place.before[1][len(place.before[1]) - typed :]
        left = [text[typed:] for text in flight.offers if text.startswith(begun) and len(text) > typed]
        return self._answer(tuple(left), began)

    def forget(self, uri: str) -> None:
        """The document was closed."""
        self._stop_flight(uri)
        self._overtaken.pop(uri, None)
        self.places.close(uri)

    def cannot_ask(self, error: OllmError) -> None:
        """There is nobody to ask: tell so, once."""
        self._failed(error)

    def settings_changed(self) -> None:
        """What has been offered may be offered no more, and a server may be another one."""
        self._cache.clear()
        self._paused_until = 0.0

    def _answer(self, offers: tuple[str, ...], began: float) -> tuple[str, ...]:
        self.statistics.latencies.append((time.monotonic() - began) * 1e3)
        self.statistics.shown += bool(offers)
        return offers

    def _overtake(self, uri: str) -> anyio.Event:
        """Let the request before this one know; gives what will tell this one."""
        before = self._overtaken.get(uri)
        if before:
            before.set()
        event = self._overtaken[uri] = anyio.Event()
        return event

    async def _wait_turn(self, overtaken: anyio.Event, settings: CompletionSettings) -> bool:
        """Wait until the user pauses; whether that came before a newer request, and the server is up."""
        self._asked_at.append(time.monotonic())
        with anyio.move_on_after(self._delay(settings)):
            await overtaken.wait()
        return not overtaken.is_set() and time.monotonic() >= self._paused_until

    def _delay(self, settings: CompletionSettings) -> float:
        """Seconds to wait: the user's setting, else a little more than between two keystrokes."""
        if settings.debounce_ms is not None:
            return settings.debounce_ms / 1e3
        gaps = sorted(later - earlier for earlier, later in itertools.pairwise(self._asked_at))
        quick = [gap for gap in gaps if gap < 1.0]
        usual = quick[len(quick) // 2] * 1.3 if quick else LEAST_DELAY
        return min(MOST_DELAY, max(LEAST_DELAY, usual))

    def _take_off(
        self, question: Question, place: Place, cursor: Cursor, block: bool, source: Source, ahead: float = 0
    ) -> _Flight:
        """Start a generation, `ahead` seconds from now when nobody has asked for it yet."""
        guard = AnswerGuard(cursor, block=block, max_lines=source.settings.max_lines)
        flight = self._flights[question.uri] = _Flight(question, place, cursor, block, guard)

        async def fly() -> None:
            with flight.scope:
                try:
                    if ahead:
                        await anyio.sleep(ahead)
                    await self._generate(flight, source)
                except OllmError as error:
                    self._failed(error)
                finally:
                    flight.over.set()
                    if self._flights.get(question.uri) is flight:
                        del self._flights[question.uri]
                if flight.offers and not ahead:
                    self._look_ahead(flight, source)

        self._start_soon(fly)
        return flight

    async def _board(self, flight: _Flight, overtaken: anyio.Event) -> None:
        """Wait for the end of a flight, or a newer request; the last one to leave stops it."""
        flight.waiting += 1
        try:
            async with anyio.create_task_group() as task_group:
                task_group.start_soon(_leave_when, overtaken, task_group.cancel_scope)
                await flight.over.wait()
                task_group.cancel_scope.cancel()
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                flight.scope.cancel()

    def _stop_flight(self, uri: str) -> None:
        flight = self._flights.pop(uri, None)
        if flight:
            flight.scope.cancel()
            flight.over.set()

    async def _generate(self, flight: _Flight, source: Source) -> None:
        offers: list[str] = []
        with anyio.move_on_after(GENERATION_SECONDS):
            request = await self._write_first(flight, source)
            guard = flight.guard
            for number in range(max(1, flight.question.candidates)):
                if number:
                    guard = AnswerGuard(
                        flight.cursor, block=flight.block, max_lines=source.settings.max_lines
                    )
                    await self._write(source.adapter, varied(request, number), guard)
                text = polish(guard.text, flight.cursor, block=flight.block)
                if text and text not in offers:
                    offers.append(text)
        flight.offers = tuple(offers)
        self._cache.put(flight.place, flight.offers)
        self._change("ready", "")
        if source.model not in self._ratios:
            await self._measure(source, flight.question.prefix)

    async def _write_first(self, flight: _Flight, source: Source) -> InfillRequest:
        """The first answer; gives the request that brought it.

        A server that turns out not to take prefix and suffix apart is asked again with a prompt.
        """
        request = await self._build(flight, source)
        try:
            await self._write(source.adapter, request, flight.guard)
        except UnsupportedError:
            if request.prompt is not None:
                raise
            request = await self._build(flight, source)
            await self._write(source.adapter, request, flight.guard)
        return request

    async def _build(self, flight: _Flight, source: Source) -> InfillRequest:
        return await build_request(
            flight.question,
            source.adapter,
            source.model,
            source.settings,
            block=flight.block,
            documents=self._documents(),
            places=self.places,
            characters_per_token=self._ratios.get(source.model, CHARACTERS_PER_TOKEN),
        )

    async def _write(self, adapter: ProviderAdapter, request: InfillRequest, guard: AnswerGuard) -> None:
        """Let the model write until it is done, or enough of it is there; leaving stops it."""
        self.statistics.generations += 1
        async with adapter.infill_stream(request) as batches:
            async for batch in batches:
                for event in batch:
                    if isinstance(event, TextDelta):
                        guard.feed(event.text)
                if guard.done:
                    return

    def _look_ahead(self, flight: _Flight, source: Source) -> None:
        """Prepare what comes behind the offer, for a user who accepts it, where that costs little."""
        if source.adapter.backend.infill != "infill" or flight.question.uri in self._flights:
            return
        question = flight.question
        ahead = replace(question, prefix=question.prefix + flight.offers[0], automatic=True, candidates=1)
        cursor = replace(flight.cursor, prefix=ahead.prefix)
        block = source.settings.max_lines > 1 and wants_block(cursor, invoked=False)
        place = place_at(
            ahead.uri, ahead.prefix, ahead.suffix, (*flight.place.how[:2], "block" if block else "line")
        )
        if self._cache.find(place) is None:
            self._take_off(ahead, place, cursor, block, source, ahead=AHEAD_SECONDS)

    async def _measure(self, source: Source, text: str) -> None:
        """Learn from the server's own tokeniser how long its tokens are in this kind of text."""
        sample = text[-SAMPLE:]
        self._ratios[source.model] = CHARACTERS_PER_TOKEN
        try:
            count = await source.adapter.count_tokens(ChatRequest(source.model, (Message("user", sample),)))
        except ProviderError:
            return
        if count.exact and count.tokens and len(sample) > SAMPLE // 4:
            self._ratios[source.model] = min(6.0, max(1.0, len(sample) / count.tokens))

    def _failed(self, error: OllmError) -> None:
        """Tell once, and leave the server alone for a while when it keeps failing."""
        self.statistics.failures += 1
        now = time.monotonic()
        self._failed_at.append(now)
        often = len(self._failed_at) == FAILURES and now - self._failed_at[0] < FAILURE_SECONDS
        if often or error.kind in _SETTLED:
            self._paused_until = now + PAUSE_SECONDS
        self._change("unavailable", f"{error} {error.hint}".strip())

    def _change(self, state: State, message: str) -> None:
        if state != self._state:
            self._state = state
            self._tell(state, message)


async def _leave_when(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
