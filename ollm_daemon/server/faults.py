"""Where a fault of ours stops: it is logged, and costs one action of one client.

Whatever runs outside a request (which has an answer to carry its error) runs inside `contained`: tasks of a
connection, notifications, the watch over files, a connection as a whole.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def contained(what: str) -> Iterator[None]:
    """Keep a fault inside the block; a cancel passes."""
    try:
        yield
    except Exception:
        logger.exception("a fault in %s", what)
