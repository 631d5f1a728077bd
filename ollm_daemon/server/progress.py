"""LSP's work-done progress for one piece of work that a client asked for with a token."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import anyio

from ollm_daemon.domain import ModelProgress
from ollm_daemon.server.context import Context
from ollm_daemon.server.endpoint import INVALID_PARAMS, REQUEST_CANCELLED, RpcError

LEAST_SECONDS = 0.1
"""Between two reports; what comes sooner is left out, as the next one says more."""


class WorkDone:
    """Begin, reports and end under one token; without a token nothing is told."""

    def __init__(self, context: Context, token: str | int | None, title: str) -> None:
        self._context = context
        self._token = token
        self._title = title
        self._told_at = 0.0
        self._told = ""
        self._began: tuple[float, int] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Do the work inside; the client may stop it with `window/workDoneProgress/cancel`.

        Raises:
            RpcError: The client did, or the token is in use.
        """
        if self._token is None:
            yield
            return
        work = self._context.work
        if self._token in work:
            raise RpcError(INVALID_PARAMS, "Invalid params: `workDoneToken` is in use.")
        with anyio.CancelScope() as scope:
            work[self._token] = scope
            self._tell({"kind": "begin", "title": self._title, "cancellable": True})
            ending: dict[str, Any] = {"kind": "end"}
            try:
                yield
                ending["message"] = "Done."
            finally:
                del work[self._token]
                self._tell(ending)
        if scope.cancelled_caught:
            raise RpcError(REQUEST_CANCELLED, "The request was cancelled.")

    async def report(self, progress: ModelProgress) -> None:
        """Tell how far it is; waits while the client is not reading."""
        now = time.monotonic()
        if self._token is None or (now - self._told_at < LEAST_SECONDS and progress.status == self._told):
            return
        self._told_at, self._told = now, progress.status
        value: dict[str, Any] = {"kind": "report", "message": self._message(progress, now)}
        if progress.completed is not None and progress.total:
            value["percentage"] = min(100, progress.completed * 100 // progress.total)
        self._tell(value)
        if self._context.outbox.full:
            await self._context.outbox.ready()

    def _message(self, progress: ModelProgress, now: float) -> str:
        """The server's words, with bytes, rate and time left where there are bytes."""
        if progress.completed is None or not progress.total:
            return progress.status
        if self._began is None or progress.completed < self._began[1]:
            self._began = now, progress.completed
        seconds, done = now - self._began[0], progress.completed - self._began[1]
        text = f"{progress.status}: {_size(progress.completed)} of {_size(progress.total)}"
        if seconds < 1 or not done:
            return text
        rate = done / seconds
        left = (progress.total - progress.completed) / rate
        return f"{text}, {_size(int(rate))}/s, {_span(left)} left"

    def _tell(self, value: dict[str, Any]) -> None:
        self._context.notify("$/progress", {"token": self._token, "value": value})


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _span(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds) + 1, 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    )
