"""Logging that never blocks: records go through a bounded queue to standard error.

Prompts, answers, keys and headers are never logged, at any level; the loggers of the libraries below
us, which would log whole messages and URLs, are held at WARNING.
"""

from __future__ import annotations

import logging
import logging.handlers
import queue
import sys
import threading
from typing import Any

CAPACITY = 1000
_CHATTY = ("httpx", "httpcore", "pygls", "asyncio", "cattrs", "markdown_it")


class _DroppingHandler(logging.handlers.QueueHandler):
    """Counts what does not fit instead of waiting."""

    dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


def start(level: str) -> None:
    """Send records of `level` and above to standard error, from a thread of their own."""
    records: queue.Queue[Any] = queue.Queue(CAPACITY)
    handler = _DroppingHandler(records)
    target = logging.StreamHandler(sys.stderr)
    target.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.setLevel(level.upper())
    root.addHandler(handler)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.raiseExceptions = False

    def write() -> None:
        while True:
            target.emit(records.get())

    threading.Thread(target=write, name="log", daemon=True).start()
