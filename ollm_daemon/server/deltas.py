"""Deltas of one stream as frames: what is the same for all of them is encoded once per stream.

A client that redraws for every message may ask for an interval. Then the first deltas leave at once and
later ones wait, joined, until the interval has passed; the end of the stream waits for nothing.

Invariant: deltas leave in the order they arrived, numbered without a gap, and none after the block.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import assert_never

from pydantic_core import to_json

from ollm_daemon.domain import Delta, StatusDelta, TextDelta, ThinkingDelta, ToolCallDelta
from ollm_daemon.server.framing import encode_frame
from ollm_daemon.server.outbox import Outbox

MAX_HELD = 64 << 10
"""Characters that wait for an interval to pass before the reading upstream waits as well."""


@contextlib.contextmanager
def delta_sink(
    outbox: Outbox, stream_token: str | int | None, min_interval_ms: int
) -> Iterator[Callable[[Sequence[Delta]], Awaitable[None]] | None]:
    """Where the deltas of one generation go, for the length of the block; nowhere without a token."""
    if stream_token is None:
        yield None
        return
    writer = DeltaWriter(outbox, stream_token)
    if not min_interval_ms:
        yield writer.send
        return
    paced = PacedDeltaWriter(writer, min_interval_ms / 1000)
    try:
        yield paced.send
    finally:
        paced.flush()


class DeltaWriter:
    """Sends the deltas of one generation, numbered from 0."""

    def __init__(self, outbox: Outbox, stream_token: str | int) -> None:
        self.outbox = outbox
        self._prefix = (
            b'{"jsonrpc":"2.0","method":"ollm/completion/delta","params":{"streamToken":%b,"seq":'
            % to_json(stream_token)
        )
        self._seq = 0

    async def send(self, deltas: Iterable[Delta]) -> None:
        """Send deltas in order; waits while the client is not reading."""
        self.put(deltas)
        if self.outbox.full:
            await self.outbox.ready()

    def put(self, deltas: Iterable[Delta]) -> None:
        """Send deltas in order, whether the client reads or not."""
        for delta in deltas:
            body = b'%b%d,"delta":%b}}' % (self._prefix, self._seq, _encode(delta))
            self._seq += 1
            self.outbox.put(encode_frame(body))


class PacedDeltaWriter:
    """Sends the deltas of one generation at most once per interval."""

    def __init__(self, writer: DeltaWriter, interval_seconds: float) -> None:
        self._writer = writer
        self._interval = interval_seconds
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._held: list[Delta] = []
        self._size = 0

    async def send(self, deltas: Iterable[Delta]) -> None:
        """Send deltas in order when it is time; waits while the client is not reading, and while more is
        held than MAX_HELD.
        """
        for delta in deltas:
            self._held.append(delta)
            self._size += _size_of(delta)
        wait = self._due - self._loop.time()
        if wait <= 0:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_at(self._due, self.flush)
        if self._size > MAX_HELD:
            await asyncio.sleep(wait)
        if self._writer.outbox.full:
            await self._writer.outbox.ready()

    def flush(self) -> None:
        """Send what is held."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._held:
            held, self._held, self._size = self._held, [], 0
            self._writer.put(_joined(held))
            self._due = self._loop.time() + self._interval


def _size_of(delta: Delta) -> int:
    match delta:
        case TextDelta() | ThinkingDelta():
            return len(delta.text)
        case ToolCallDelta():
            return len(delta.arguments_fragment) + 1
        case _:
            return 1


def _joined(deltas: Iterable[Delta]) -> Iterator[Delta]:
    """The deltas with neighboring pieces of one kind of text made one."""
    for kind, run in itertools.groupby(deltas, type):
        if kind is TextDelta or kind is ThinkingDelta:
            yield kind("".join(delta.text for delta in run))  # type: ignore[union-attr]
        else:
            yield from run


def _encode(delta: Delta) -> bytes:
    match delta:
        case TextDelta():
            return b'{"kind":"text","text":%b}' % to_json(delta.text)
        case ThinkingDelta():
            return b'{"kind":"thinking","text":%b}' % to_json(delta.text)
        case ToolCallDelta():
            fields = {"kind": "toolCall", "index": delta.index, "id": delta.id, "name": delta.name}
            fields["argumentsFragment"] = delta.arguments_fragment
            return to_json(fields, exclude_none=True)
        case StatusDelta():
            return to_json({"kind": "status", "state": delta.state, "message": delta.message})
        case _:
            assert_never(delta)
