"""A daemon of our own as a child process. Imports nothing heavy, so that the daemon comes up beside whatever
its parent imports next.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence

MAX_HEADER = 1 << 16
LEAVE_SECONDS = 2.0
DAEMON_COMMAND = (sys.executable, "-P", "-m", "ollm_daemon", "--stdio")
"""`-P` keeps the current folder off the import path: it may be somebody else's repository."""


@contextlib.asynccontextmanager
async def daemon_process(
    command: Sequence[str] = DAEMON_COMMAND,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Start a daemon over its standard streams. At the end of the block its input is closed, and it is
    killed if it has not ended soon.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=MAX_HEADER,
        # Ctrl-C is ours to handle: it cancels the request and then ends the daemon.
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout, process.stdin
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), LEAVE_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
