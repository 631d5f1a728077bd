"""Completions of one client: when to ask, whom, and what to answer meanwhile.

For each document the newest request counts: an older one is answered with nothing at once, and what it
had asked for is stopped. A generation is a flight of its own; a request that finds the user typing what
is being generated gets on it, and the last one to leave stops it; when the model turns out to write
something else, it is stopped too, and asked anew. Failures are told once, as a change of state, and a
server that keeps failing is left alone for a while.

Invariants: every request gets an answer; no flight goes on that nobody waits for, but one ahead of the
user; of a document where nothing goes on nothing is kept but what has been offered.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import anyio

from ollm_daemon.completion.asking import Question, varied
from ollm_daemon.completion.cache import OfferCache, Place, left_of, place_at
from ollm_daemon.completion.context import RecentPlaces, is_excluded
from ollm_daemon.completion.cursor import Cursor, wants_block
from ollm_daemon.completion.filters import AnswerGuard, polish
from ollm_daemon.completion.languages import language_of
from ollm_daemon.completion.statistics import CompletionStatistics
from ollm_daemon.completion.writer import Source, Writer
from ollm_daemon.domain import CompletionSettings
from ollm_daemon.errors import ErrorKind, OllmError, TimeoutPassedError

StartSoon = Callable[[Callable[[], Coroutine[Any, Any, None]]], object]
State = Literal["ready", "unavailable"]

LEAST_DELAY, MOST_DELAY = 0.03, 0.3
"""Seconds between a keystroke and the question it asks, as the user types quickly or slowly."""
FAILURES, FAILURE_SECONDS, PAUSE_SECONDS = 3, 10.0, 5.0
"""So many failures within so many seconds, and nothing is asked for so many."""
LONGEST_LINE = 2000
"""Characters of a line beyond which a file counts as minified, and nothing is offered unasked."""
GENERATION_SECONDS = 15.0
SOURCE_SECONDS = 30.0
"""How long what was found out about who writes is believed."""
AHEAD_SECONDS = 0.3
"""Idle time after an offer before the one behind it is prepared."""
WARM_UP_SECONDS = 1.0
"""Quiet in a document that the user has come to before the server is let read what goes along."""
_SETTLED = frozenset({ErrorKind.UNSUPPORTED, ErrorKind.NOT_FOUND, ErrorKind.AUTH, ErrorKind.CONFIG})
"""Failures that asking again soon does not mend."""


FindSource = Callable[[], Awaitable[Source]]
"""Finds out who writes; may ask servers, and fail."""


@dataclass(eq=False)
class _Flight:
    """One generation, and who waits for it.

    Attributes:
        cache: Where its answer is kept: that of the settings it began with.
        wanted: The place of the newest request that waits for it.
        aboard: How many wait for it.
        failed: It ended without an answer.
    """

    question: Question
    place: Place
    cursor: Cursor
    block: bool
    guard: AnswerGuard
    cache: OfferCache
    wanted: Place
    offers: tuple[str, ...] = ()
    aboard: int = 0
    failed: bool = False
    boarded: anyio.Event = field(default_factory=anyio.Event)
    over: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    def fits(self, place: Place) -> bool:
        """Whether what has been typed up to a place agrees with its answer, as far as there is one."""
        typed = place.typed_since(self.place)
        if not typed:
            return typed is not None
        text = polish(self.guard.text, self.cursor, block=self.block)
        return text.startswith(typed) or (typed.startswith(text) and not self.guard.done)

    def left_at(self, place: Place) -> tuple[str, ...] | None:
        """What it offers at a place; `None` when the user has written something else, or all of it."""
        typed = place.typed_since(self.place) or ""
        left = left_of(self.offers, typed)
        return left if left or not typed or self.failed else None


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
        self._writer = Writer(documents, self.places, statistics)
        self._start_soon = start_soon
        self._tell = tell
        self._cache = OfferCache()
        self._newest: dict[tuple[str, bool], anyio.CancelScope] = {}
        self._warming = anyio.CancelScope()
        self._flights: dict[str, _Flight] = {}
        self._asked_at: deque[float] = deque(maxlen=8)
        self._failed_at: deque[float] = deque(maxlen=FAILURES)
        self._paused_until = 0.0
        self._state: State = "ready"
        self._source: Source | None = None
        self._source_until = 0.0

    async def complete(self, question: Question, find_source: FindSource) -> tuple[str, ...]:
        """Texts to offer at the cursor; none when there is nothing to say, or a newer request came."""
        began = time.monotonic()
        self.statistics.requests += 1
        if question.automatic:
            self._asked_at.append(began)
        who = (question.uri, question.listed)
        self._overtake(who)
        scope = self._newest[who] = anyio.CancelScope()
        try:
            with scope:
                offers = await self._offer(question, find_source, began)
                self.statistics.latencies.append((time.monotonic() - began) * 1e3)
                self.statistics.shown += bool(offers)
                return offers
        finally:
            if self._newest.get(who) is scope:
                del self._newest[who]
        self.statistics.superseded += 1
        return ()

    def entered(self, uri: str) -> None:
        """The user came to a document: a server that keeps what it has read may begin to read."""
        self._writer.choose_anew()
        self._warming.cancel()
        source, scope = self._source, anyio.CancelScope()
        if source is None or source.adapter.backend.infill != "infill":
            return
        self._warming = scope

        async def warm_up() -> None:
            with scope, suppress(OllmError):
                await anyio.sleep(WARM_UP_SECONDS)
                is_busy = any(flight.aboard for flight in self._flights.values())
                if source is self._source and not is_busy and time.monotonic() >= self._paused_until:
                    await self._writer.warm_up(source, uri)

        self._start_soon(warm_up)

    def forget(self, uri: str) -> None:
        """The document was closed."""
        self._overtake((uri, False))
        self._overtake((uri, True))
        self._writer.choose_anew()
        if flight := self._flights.get(uri):
            self._stop(flight)
        self.places.close(uri)

    def settings_changed(self) -> None:
        """What has been offered may be offered no more, and a server may be another one.

        Who waits still gets what was asked for, but nobody else does.
        """
        self._cache = OfferCache()
        self._source = None
        self._writer.forget()
        self._failed_at.clear()
        self._paused_until = 0.0
        for uri, flight in list(self._flights.items()):
            if flight.aboard:
                del self._flights[uri]
            else:
                self._stop(flight)

    def _overtake(self, who: tuple[str, bool]) -> None:
        """Let the request before, if there is one, end with nothing."""
        if before := self._newest.pop(who, None):
            before.cancel()

    async def _offer(self, question: Question, find_source: FindSource, began: float) -> tuple[str, ...]:
        """What to offer: known already, being generated, or asked for now."""
        cursor = Cursor(question.prefix, question.suffix, language_of(question.language))
        if question.automatic and len(cursor.line_before) + len(cursor.line_after) > LONGEST_LINE:
            return ()
        source = await self._find_source(question, find_source, began)
        if source is None or is_excluded(question.uri, source.settings.exclude):
            return ()
        block = source.settings.max_lines > 1 and wants_block(cursor, invoked=not question.automatic)
        place = _place_of(question, source, block=block)
        offers = self._known(question, place)
        if offers is not None:
            self.statistics.cache_hits += 1
        while offers is None:
            flight = self._flight_for(question, place)
            if flight is None and question.automatic:
                if not await self._wait_turn(began, source.settings):
                    return ()
                flight = self._flight_for(question, place)  # the editor may have asked for its list beside
            if flight:
                self.statistics.joined += 1
            else:
                flight = self._take_off(question, place, cursor, block, source)
            await self._board(flight, place)
            offers = flight.left_at(place)
        if offers:
            self._look_ahead(question, cursor, offers[0], source)
        return offers

    def _flight_for(self, question: Question, place: Place) -> _Flight | None:
        """The flight that brings what is asked for; one that goes elsewhere is stopped."""
        flight = self._flights.get(question.uri)
        if flight and not (flight.fits(place) and flight.question.candidates >= question.candidates):
            self._stop(flight)
            return None
        return flight

    async def _find_source(self, question: Question, find_source: FindSource, began: float) -> Source | None:
        """Who writes; nobody while a server that keeps failing is left alone, or when that is the failure."""
        now = time.monotonic()
        if self._source and now < max(self._source_until, self._paused_until):
            return self._source
        if question.automatic and not await self._wait_turn(began, None):
            return None
        cache = self._cache
        try:
            source = await find_source()
        except OllmError as error:
            self._failed(error)
            return None
        if cache is self._cache:  # else settings have changed meanwhile
            self._source, self._source_until = source, time.monotonic() + SOURCE_SECONDS
        return source

    def _known(self, question: Question, place: Place) -> tuple[str, ...] | None:
        """What has been offered at a place; several candidates only if several were asked for there."""
        if question.candidates > 1:
            return self._cache.get(_all_of(place))
        return self._cache.find(place)

    async def _wait_turn(self, began: float, settings: CompletionSettings | None) -> bool:
        """Wait until the user pauses; whether the server may then be asked."""
        if time.monotonic() >= self._paused_until:
            await anyio.sleep(max(0.0, began + self._delay(settings) - time.monotonic()))
        return time.monotonic() >= self._paused_until

    def _delay(self, settings: CompletionSettings | None) -> float:
        """Seconds to wait: the user's setting, else a little more than between two keystrokes."""
        if settings and settings.debounce_ms is not None:
            return settings.debounce_ms / 1e3
        gaps = sorted(later - earlier for earlier, later in itertools.pairwise(self._asked_at))
        quick = [gap for gap in gaps if gap < 1.0]
        usual = quick[len(quick) // 2] * 1.3 if quick else LEAST_DELAY
        return min(MOST_DELAY, max(LEAST_DELAY, usual))

    def _take_off(
        self, question: Question, place: Place, cursor: Cursor, block: bool, source: Source, ahead: float = 0
    ) -> _Flight:
        """Start a generation; one that nobody has asked for yet `ahead` seconds from now, or when they do."""
        self._warming.cancel()
        guard = AnswerGuard(cursor, block=block, max_lines=source.settings.max_lines)
        flight = _Flight(question, place, cursor, block, guard, self._cache, wanted=place)
        self._flights[question.uri] = flight

        async def fly() -> None:
            with flight.scope:
                try:
                    if ahead:
                        with anyio.move_on_after(ahead):
                            await flight.boarded.wait()
                    await self._generate(flight, source)
                except OllmError as error:
                    flight.failed = True
                    self._failed(error)
                finally:
                    self._stop(flight)

        self._start_soon(fly)
        return flight

    async def _board(self, flight: _Flight, place: Place) -> None:
        """Wait for the end of a flight; the last one to leave stops it."""
        flight.wanted = place
        flight.aboard += 1
        flight.boarded.set()
        try:
            await flight.over.wait()
        finally:
            flight.aboard -= 1
            if not flight.aboard:
                self._stop(flight)

    def _stop(self, flight: _Flight) -> None:
        """End a flight, if it has not ended; from now on nobody gets on it."""
        if self._flights.get(flight.question.uri) is flight:
            del self._flights[flight.question.uri]
        flight.scope.cancel()
        flight.over.set()

    async def _generate(self, flight: _Flight, source: Source) -> None:
        def go_on() -> bool:
            if flight.wanted is not flight.place and not flight.fits(flight.wanted):
                self._stop(flight)  # the user writes something else
            return not flight.over.is_set()

        offers: dict[str, None] = {}
        guard, block, lines = flight.guard, flight.block, source.settings.max_lines
        with anyio.move_on_after(GENERATION_SECONDS) as limit:
            request = await self._writer.write_first(source, flight.question, guard, go_on, block=block)
            offers[polish(guard.text, flight.cursor, block=block)] = None
            for number in range(1, flight.question.candidates):
                guard = AnswerGuard(flight.cursor, block=block, max_lines=lines)
                await self._writer.write(source, varied(request, number), guard, go_on)
                offers[polish(guard.text, flight.cursor, block=block)] = None
        if flight.over.is_set():
            return  # it was stopped in mid-answer: half of one is none
        if limit.cancelled_caught and not offers:
            raise TimeoutPassedError(
                f"{source.model} wrote nothing of use within {GENERATION_SECONDS:g} s.",
                kind=ErrorKind.TIMEOUT_TOTAL,
                hint="Set `completion.model` to a smaller one, or `completion.contextTokens` to less.",
            )
        flight.offers = tuple(text for text in offers if text)
        flight.cache.put(flight.place, flight.offers)
        if flight.question.candidates > 1:
            flight.cache.put(_all_of(flight.place), flight.offers)
        self._change("ready", "")
        if self._writer.has_to_measure(source, flight.question.prefix):
            self._start_soon(partial(self._writer.measure, source, flight.question.prefix))

    def _look_ahead(self, question: Question, cursor: Cursor, offer: str, source: Source) -> None:
        """Prepare what comes behind an offer, where it costs little or the user wants it."""
        is_up = source is self._source and time.monotonic() >= self._paused_until
        is_wanted = source.settings.ahead
        if is_wanted is None:
            is_wanted = source.adapter.backend.infill == "infill"
        if not (is_wanted and is_up) or question.uri in self._flights:
            return
        ahead = replace(question, prefix=question.prefix + offer, automatic=True, candidates=1)
        cursor = replace(cursor, prefix=ahead.prefix)
        block = source.settings.max_lines > 1 and wants_block(cursor, invoked=False)
        place = _place_of(ahead, source, block=block)
        if self._cache.find(place) is None:
            self._take_off(ahead, place, cursor, block, source, ahead=AHEAD_SECONDS)

    def _failed(self, error: OllmError) -> None:
        """Tell once, and leave the server alone for a while when it keeps failing."""
        self.statistics.failures += 1
        now = self._source_until = time.monotonic()
        self._failed_at.append(now)
        often = len(self._failed_at) == FAILURES and now - self._failed_at[0] < FAILURE_SECONDS
        if often or error.kind in _SETTLED:
            self._paused_until = now + PAUSE_SECONDS
        self._change("unavailable", f"{error} {error.hint}".strip())

    def _change(self, state: State, message: str) -> None:
        if state != self._state:
            self._state = state
            self._tell(state, message)


def _place_of(question: Question, source: Source, *, block: bool) -> Place:
    how = (source.adapter.name, source.model, "block" if block else "line")
    return place_at(question.uri, question.prefix, question.suffix, how)


def _all_of(place: Place) -> Place:
    """Where all candidates of a place are kept, when several were asked for."""
    return replace(place, how=(*place.how, "all"))
