"""Chats on a server that runs one request at a time.

Such a server answers in the order of arrival. A second chat waits here and not there, so that what is
asked for a user who types meanwhile comes next and not last. A server that is idle is asked nothing.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

BELIEVED_SECONDS = 60.0
"""How long what a server said of its slots is believed."""


class Turns:
    """Whose turn it is on one server.

    Args:
        ask_slots: Gives how many requests the server runs at a time; `None` when nobody tells.
    """

    def __init__(self, ask_slots: Callable[[], Awaitable[int | None]]) -> None:
        self._ask_slots = ask_slots
        self._slots: int | None = None
        self._asked_at: float | None = None
        self._running = 0
        self._ended = anyio.Event()

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Wait for a turn and have it for the length of the block."""
        while self._running and await self._is_one_at_a_time():
            await self._ended.wait()
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._ended.set()
            self._ended = anyio.Event()

    async def _is_one_at_a_time(self) -> bool:
        now = time.monotonic()
        if self._asked_at is None or now - self._asked_at > BELIEVED_SECONDS:
            self._slots, self._asked_at = await self._ask_slots(), now
        return self._slots == 1 and self._running > 0
