"""What has been offered, so that it need not be asked for again: also while the user types it.

Key is all that an offer depends on: the text before and behind the cursor, and how it was asked. An
offer is also found by a longer prefix whose end is the beginning of the offer.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice

MAX_OFFERS = 250
NEAR = 4000
"""Characters on either side that two places are compared by."""
MAX_AHEAD = 64
"""Latest offers that are looked through for one that the user is typing."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a document, and how its text was asked for.

    Attributes:
        before: Characters before it, and the last of them.
        behind: Characters behind it, and the first of them.
        how: Whatever else the answer depends on: provider, model, one line or a block.
    """

    uri: str
    before: tuple[int, str]
    behind: tuple[int, str]
    how: tuple[str, ...]

    def typed_since(self, earlier: Place) -> str | None:
        """What was typed at an earlier place to get here; `None` if something else led here.

        File, writer and the text behind must be the same, and so must be the text before what was typed.
        """
        size = self.before[0] - earlier.before[0]
        here, there = self.before[1], earlier.before[1]
        if not 0 <= size <= len(here):
            return None
        if (self.uri, self.behind, self.how[:2]) != (earlier.uri, earlier.behind, earlier.how[:2]):
            return None
        known = here[: len(here) - size]
        same = min(len(known), len(there))
        return here[len(here) - size :] if known[len(known) - same :] == there[len(there) - same :] else None


def place_at(uri: str, prefix: str, suffix: str, how: tuple[str, ...]) -> Place:
    """The place between two texts; of long ones only what is near is kept."""
    return Place(uri, (len(prefix), prefix[-NEAR:]), (len(suffix), suffix[:NEAR]), how)


class OfferCache:
    """The latest offers, each by the place it was made for."""

    def __init__(self, size: int = MAX_OFFERS) -> None:
        self._size = size
        self._offers: OrderedDict[Place, tuple[str, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._offers)

    def put(self, place: Place, texts: tuple[str, ...]) -> None:
        """Remember what was offered at a place; nothing, too, is an answer."""
        self._offers.pop(place, None)
        self._offers[place] = texts
        while len(self._offers) > self._size:
            self._offers.popitem(last=False)

    def find(self, place: Place) -> tuple[str, ...] | None:
        """What to offer here without asking: an earlier offer, or the rest of one that is being typed."""
        if place in self._offers:
            self._offers.move_to_end(place)
            return self._offers[place]
        for earlier, texts in islice(reversed(self._offers.items()), MAX_AHEAD):
            rest = rest_of(earlier, texts, place)
            if rest:
                return rest
        return None

    def get(self, place: Place) -> tuple[str, ...] | None:
        """What was offered at exactly this place."""
        return self._offers.get(place)


def rest_of(earlier: Place, texts: tuple[str, ...], place: Place) -> tuple[str, ...]:
    """What is left of offers once the user has typed their beginning."""
    typed = place.typed_since(earlier)
    return left_of(texts, typed) if typed else ()


def left_of(texts: tuple[str, ...], typed: str) -> tuple[str, ...]:
    """What is left of the texts that begin with what was typed, and go on."""
    return tuple(text[len(typed) :] for text in texts if text.startswith(typed) and text != typed)
