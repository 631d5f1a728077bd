"""Stop strings watched for on our side: nothing of them is passed on, and nothing before them is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollm_daemon.domain import Finished, ProviderEvent, TextDelta, ThinkingDelta
from ollm_daemon.providers._stops import StopFilter, stop_at

TEXT = st.text(alphabet="abc", max_size=30)
STOPS = st.lists(st.text(alphabet="abc", min_size=1, max_size=4), min_size=1, max_size=4)


def cut_off(text: str, stops: list[str]) -> str:
    """The obvious way."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


@given(TEXT, STOPS)
def test_one_character_at_a_time_gives_what_the_obvious_way_gives(text: str, stops: list[str]) -> None:
    watch = StopFilter(stops)
    passed: list[ProviderEvent] = []
    for character in text:
        passed += watch.feed([TextDelta(character)])
    passed += watch.feed([Finished("stop")])
    shown = "".join(event.text for event in passed if isinstance(event, TextDelta))
    assert watch.hit == any(stop in text for stop in stops)
    assert text.startswith(shown)
    assert not any(stop in shown for stop in stops)
    assert watch.hit or shown == text


@given(TEXT, STOPS)
def test_in_one_piece(text: str, stops: list[str]) -> None:
    watch = StopFilter(stops)
    passed = [*watch.feed([TextDelta(text)]), *watch.feed([Finished("stop")])]
    assert "".join(event.text for event in passed if isinstance(event, TextDelta)) == cut_off(text, stops)


def test_a_stop_string_cut_anywhere() -> None:
    for edges in pairwise(range(8)):
        watch = StopFilter(["END"])
        pieces = ("ab END cd"[: edges[1]], "ab END cd"[edges[1] :])
        passed = [event for piece in pieces for event in watch.feed([TextDelta(piece)])]
        assert "".join(event.text for event in passed if isinstance(event, TextDelta)) == "ab "


def test_other_events_keep_their_place() -> None:
    watch = StopFilter(["END"])
    events: list[ProviderEvent] = [TextDelta("aE"), ThinkingDelta("t"), TextDelta("b")]
    assert watch.feed(events) == [TextDelta("a"), TextDelta("E"), ThinkingDelta("t"), TextDelta("b")]


@pytest.mark.anyio
async def test_a_hit_is_the_end_and_nothing_more_is_read() -> None:
    read = []

    async def batches() -> AsyncIterator[list[ProviderEvent]]:
        for text in ("one ", "two EN", "D three", "four"):
            read.append(text)
            yield [TextDelta(text)]

    found = [event async for batch in stop_at(batches(), ["END"]) for event in batch]
    assert found == [TextDelta("one "), TextDelta("two "), Finished("stop")]
    assert read == ["one ", "two EN", "D three"]
