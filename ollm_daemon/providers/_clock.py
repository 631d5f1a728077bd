"""The clock of one exchange with an upstream: each phase has its limit, and its own error.

Before the first text only the model counts as alive, so pings do not keep a request waiting for ever;
afterwards silence is bounded for bytes and for text apart.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import anyio

from ollm_daemon.domain import Timeouts
from ollm_daemon.errors import ErrorKind, TimeoutPassedError


@dataclass
class Watch:
    """The clock of one exchange: cancels the block it runs when a phase is over its limit.

    One timer per exchange, set again only when it fires, so that a token costs an assignment.
    """

    timeouts: Timeouts
    first_byte_seen: bool = False
    _content_at: float | None = None
    _bytes_at: float = 0.0
    _started_at: float = 0.0
    _passed: ErrorKind | None = None
    _timer: asyncio.TimerHandle | None = None

    def bytes_arrived(self) -> None:
        self.first_byte_seen = True
        self._bytes_at = asyncio.get_running_loop().time()

    def content_arrived(self) -> None:
        self._content_at = self._bytes_at

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run the block under the clock.

        Raises:
            TimeoutPassedError: A phase was over its limit and the block was cancelled for it.
        """
        loop = asyncio.get_running_loop()
        self._started_at = self._bytes_at = loop.time()
        with anyio.CancelScope() as scope:
            try:
                self._arm(loop, scope)
                yield
            finally:
                if self._timer:
                    self._timer.cancel()
        if self._passed and scope.cancelled_caught:
            raise TimeoutPassedError(_TEXT[self._passed], kind=self._passed, hint=_HINT)

    def _next_limit(self) -> tuple[float, ErrorKind]:
        limits = self.timeouts
        total = (self._started_at + limits.total, ErrorKind.TIMEOUT_TOTAL)
        if self._content_at is None:
            return min(total, (self._started_at + limits.first_token, ErrorKind.TIMEOUT_FIRST_TOKEN))
        return min(
            total,
            (self._bytes_at + limits.idle, ErrorKind.TIMEOUT_IDLE),
            (self._content_at + limits.stall, ErrorKind.TIMEOUT_IDLE),
        )

    def _arm(self, loop: asyncio.AbstractEventLoop, scope: anyio.CancelScope) -> None:
        due, kind = self._next_limit()
        if due <= loop.time():
            self._passed = kind
            scope.cancel()
            return
        # Looks again when the shortest limit could have passed, as phases change without telling.
        soonest = min(due, loop.time() + self.timeouts.idle)
        self._timer = loop.call_at(soonest, self._arm, loop, scope)


_TEXT = {
    ErrorKind.TIMEOUT_FIRST_TOKEN: "The server accepted the request but sent no text in time.",
    ErrorKind.TIMEOUT_IDLE: "The server stopped sending in the middle of its answer.",
    ErrorKind.TIMEOUT_TOTAL: "The answer took longer than one answer may take.",
}
_HINT = "See the server's log; longer limits go into `providers.<name>.timeouts`."
