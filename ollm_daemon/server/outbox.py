"""Ordered, bounded writer between one connection and its transport.

Every frame a client receives passes through its `Outbox`, so the order of `put` is the order on the
wire. A frame that comes alone leaves at once; those that follow it closely leave in one write at the end
of their turn of the event loop. While the client does not read, `full`
is true and producers of deltas wait in `ready`, which stops the reading upstream; answers are still
taken, and a client that lets those pile up past a hard limit is cut off.

Invariant: a frame is never dropped, split or overtaken.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import anyio

HIGH_WATER = 256 << 10
"""Bytes waiting for the client before `full`."""
HARD_LIMIT = 64 << 20
"""Bytes waiting for the client before it counts as dead."""
ALONE_SECONDS = 0.0002
"""Silence after which a frame leaves at once; one that follows others closely joins those of its turn."""


class WriteTransport(Protocol):
    """The part of asyncio's write transports that is used here."""

    def write(self, data: bytes) -> None:
        """Send, or keep until it can be sent."""

    def is_closing(self) -> bool:
        """Whether nothing more will be sent."""

    def close(self) -> None:
        """Send what is kept, then close."""

    def abort(self) -> None:
        """Close now."""

    def set_write_buffer_limits(self, high: int) -> None:
        """How many bytes may be kept before the protocol is told to pause."""


class Outbox:
    """Writer of one connection. The transport's protocol calls `pause`, `resume` and `lost`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: WriteTransport | None = None
        self._frames: list[bytes] = []
        self._size = 0
        self._armed = False
        self._written_at = 0.0
        self._paused = False
        self._lost = False
        self._waiters: list[asyncio.Future[None]] = []

    def attach(self, transport: WriteTransport) -> None:
        """Begin to write."""
        self._transport = transport
        self._arm()

    @property
    def full(self) -> bool:
        """Whether a producer of deltas should wait."""
        return (self._paused or self._size > HIGH_WATER) and not self._lost

    def put(self, frame: bytes) -> None:
        """Add a frame; it leaves by the end of this turn of the loop, or when the client reads again."""
        if self._lost:
            return
        self._frames.append(frame)
        self._size += len(frame)
        if self._size > HARD_LIMIT:
            self.lost()
            if self._transport:
                self._transport.abort()
        elif not self._armed and not self._paused:
            if self._loop.time() - self._written_at > ALONE_SECONDS:
                self.flush()
            else:
                self._arm()

    async def ready(self) -> None:
        """Until the outbox is no longer full, or the client is gone."""
        while self.full:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)

    def flush(self) -> None:
        """Write what is there, in one piece."""
        self._armed = False
        if not self._frames or self._paused or self._transport is None or self._lost:
            return
        frames, self._frames, self._size = self._frames, [], 0
        if not self._transport.is_closing():
            self._written_at = self._loop.time()
            self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
        self._wake()

    def pause(self) -> None:
        """The transport has as much as it wants."""
        self._paused = True

    def resume(self) -> None:
        """The transport takes more."""
        self._paused = False
        self.flush()
        self._wake()

    def lost(self) -> None:
        """The client is gone; nothing that is put from now on matters."""
        self._lost = True
        self._frames.clear()
        self._size = 0
        self._wake()

    async def close(self, grace_seconds: float) -> None:
        """Send what is there if the client reads within the grace, then close."""
        self.flush()
        transport = self._transport
        if transport is None or self._lost:
            self.lost()
            return
        # From here on `full` means that a single byte is left, and `ready` that all have been sent.
        transport.set_write_buffer_limits(0)
        with anyio.move_on_after(grace_seconds):
            await self.ready()
            transport.close()
        self.lost()
        if not transport.is_closing():
            transport.abort()

    def _arm(self) -> None:
        self._armed = True
        self._loop.call_soon(self.flush)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
