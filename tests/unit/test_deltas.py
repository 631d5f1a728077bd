"""With an interval, deltas wait and are joined; nothing is lost, overtaken or sent after the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollm_daemon.domain import Delta, StatusDelta, TextDelta, ThinkingDelta, ToolCallDelta
from ollm_daemon.server.deltas import MAX_HELD, delta_sink
from ollm_daemon.server.framing import FrameDecoder
from ollm_daemon.server.outbox import Outbox

pytestmark = pytest.mark.anyio

LONG_MS = 1000
DELTAS = st.lists(
    st.builds(TextDelta, st.text())
    | st.builds(ThinkingDelta, st.text())
    | st.builds(ToolCallDelta, st.integers(0, 2), st.none() | st.text(), st.none() | st.text(), st.text())
    | st.builds(StatusDelta, st.sampled_from(["waiting", "loading"]), st.text())
)


class Kept(Outbox):
    """An outbox whose client reads at once; it keeps what is put into it, with the time."""

    def __init__(self) -> None:
        super().__init__()
        self.at: list[float] = []
        self.deltas: list[dict[str, Any]] = []

    def put(self, frame: bytes) -> None:
        decoder = FrameDecoder()
        decoder.add(frame)
        params = json.loads(decoder.take() or b"")["params"]
        assert params["seq"] == len(self.deltas)
        self.at.append(self._loop.time())
        self.deltas.append(params["delta"])

    @property
    def texts(self) -> list[str]:
        return [delta["text"] for delta in self.deltas]


def joined(deltas: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a client has made of these deltas: neighboring text of one kind is one."""

    def merged() -> Iterator[dict[str, Any]]:
        last: dict[str, Any] | None = None
        for delta in deltas:
            if last and last["kind"] == delta["kind"] and "text" in delta:
                last["text"] += delta["text"]
                continue
            if last:
                yield last
            last = dict(delta)
        if last:
            yield last

    return list(merged())


@settings(deadline=None)
@given(st.lists(DELTAS, max_size=8))
def test_the_same_reaches_the_client_with_an_interval_and_without(batches: list[list[Delta]]) -> None:
    async def received(interval_ms: int) -> list[dict[str, Any]]:
        outbox = Kept()
        with delta_sink(outbox, "t", interval_ms) as sink:
            assert sink
            for batch in batches:
                await sink(batch)
        return outbox.deltas

    assert joined(anyio.run(received, LONG_MS)) == joined(anyio.run(received, 0))


async def test_the_first_leaves_at_once_and_the_end_waits_for_nothing() -> None:
    outbox = Kept()
    with delta_sink(outbox, 1, LONG_MS) as sink:
        assert sink
        await sink([TextDelta("a")])
        assert outbox.texts == ["a"]
        for text in "bcd":
            await sink([TextDelta(text)])
        assert outbox.texts == ["a"]
    assert outbox.texts == ["a", "bcd"]


async def test_what_waits_leaves_when_the_interval_is_over() -> None:
    outbox = Kept()
    interval = 0.02
    with delta_sink(outbox, 1, 20) as sink:
        assert sink
        await sink([TextDelta("a")])
        await sink([TextDelta("b")])
        await sink([TextDelta("c")])
        with anyio.fail_after(10):
            while len(outbox.deltas) < 2:  # noqa: ASYNC110 - the timer is what is tested
                await asyncio.sleep(0)
    assert outbox.texts == ["a", "bc"]
    assert outbox.at[1] - outbox.at[0] > 0.9 * interval


async def test_no_two_sendings_within_an_interval() -> None:
    outbox = Kept()
    interval = 0.005
    loop = asyncio.get_running_loop()
    with delta_sink(outbox, 1, 5) as sink:
        assert sink
        end = loop.time() + 20 * interval
        while loop.time() < end:
            await sink([TextDelta("x")])
            await asyncio.sleep(0)
        before_the_end = len(outbox.at)
    gaps = [later - earlier for earlier, later in zip(outbox.at, outbox.at[1:before_the_end], strict=False)]
    assert gaps
    assert min(gaps) > 0.9 * interval, "uvloop's clock goes in steps of a millisecond"


async def test_kinds_keep_their_order() -> None:
    outbox = Kept()
    with delta_sink(outbox, 1, LONG_MS) as sink:
        assert sink
        await sink([StatusDelta("loading", "m")])
        await sink([ThinkingDelta("a"), ThinkingDelta("b"), TextDelta("c")])
        await sink([TextDelta("d"), ToolCallDelta(0, "i", "n", "{"), ToolCallDelta(0, None, None, "}")])
        await sink([TextDelta("e")])
    assert [delta["kind"] for delta in outbox.deltas] == [
        "status",
        "thinking",
        "text",
        "toolCall",
        "toolCall",
        "text",
    ]
    assert [delta["text"] for delta in outbox.deltas if "text" in delta] == ["ab", "cd", "e"]


async def test_nothing_is_sent_after_the_block_and_no_timer_is_left() -> None:
    outbox = Kept()
    with contextlib.suppress(ZeroDivisionError), delta_sink(outbox, 1, 1) as sink:
        assert sink
        await sink([TextDelta("a")])
        await sink([TextDelta("b")])
        raise ZeroDivisionError
    assert outbox.texts == ["a", "b"]
    sent = list(outbox.at)
    for _ in range(3):
        await asyncio.sleep(0.001)
    assert outbox.at == sent


async def test_no_more_is_held_than_the_bound() -> None:
    """More than that makes the producer wait for the interval, which holds the server back."""
    outbox = Kept()
    with delta_sink(outbox, 1, 20) as sink:
        assert sink
        await sink([TextDelta("a")])
        for _ in range(8):
            await sink([TextDelta("x" * MAX_HELD)])
    assert max(map(len, outbox.texts)) <= 2 * MAX_HELD
    assert "".join(outbox.texts) == "a" + "x" * 8 * MAX_HELD


async def test_without_an_interval_nothing_waits() -> None:
    outbox = Kept()
    with delta_sink(outbox, 1, 0) as sink:
        assert sink
        for count, text in enumerate("abc", 1):
            await sink([TextDelta(text)])
            assert outbox.texts == list("abc")[:count]
