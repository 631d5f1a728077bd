"""Stop strings that a server does not take, watched for on this side.

Text that may be the beginning of a stop string is held back until it is known not to be. No I/O.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from ollm_daemon.domain import Finished, ProviderEvent, TextDelta


class StopFilter:
    """Passes the events of one answer on, up to the first stop string.

    Attributes:
        hit: A stop string was found; nothing more will be passed on.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.hit = False
        self._stops = tuple(stops)
        self._held = ""
        self._longest = max(map(len, stops))

    def feed(self, events: Sequence[ProviderEvent]) -> list[ProviderEvent]:
        """Events that may be passed on."""
        passed: list[ProviderEvent] = []
        for event in events:
            if self.hit:
                break
            if isinstance(event, TextDelta):
                text = self._take(event.text)
            else:
                text, self._held = self._held, ""
            if text:
                passed.append(TextDelta(text))
            if not isinstance(event, TextDelta):
                passed.append(event)
        return passed

    def rest(self) -> list[ProviderEvent]:
        """What is still held back, when the answer is over."""
        held, self._held = self._held, ""
        return [TextDelta(held)] if held else []

    def _take(self, text: str) -> str:
        text = self._held + text
        at = min((place for stop in self._stops if (place := text.find(stop)) >= 0), default=-1)
        if at >= 0:
            self.hit = True
            return text[:at]
        kept = self._beginning(text)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def _beginning(self, text: str) -> int:
        """How much of the end of `text` may be the beginning of a stop string."""
        for size in range(min(self._longest - 1, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return size
        return 0


async def stop_at(
    batches: AsyncIterator[list[ProviderEvent]], stops: Sequence[str]
) -> AsyncIterator[list[ProviderEvent]]:
    """The same events, up to the first stop string; leaving then closes the stream upstream."""
    watch = StopFilter(stops)
    try:
        async for batch in batches:
            passed = watch.feed(batch)
            if watch.hit:
                yield [*passed, Finished("stop")]
                return
            if passed:
                yield passed
    except Exception:
        if rest := watch.rest():
            yield rest
        raise
