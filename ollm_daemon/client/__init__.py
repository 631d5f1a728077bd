"""A typed client of the daemon, for Python programs; the `ollm` command is built on it.

async with open_daemon() as daemon:
    async with daemon.chat(ChatParams(messages=[Message(role="user", content="Hello")])) as answer:
        async for delta in answer:
            ...
    print(answer.result.message.content)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ollm_daemon.client._client import (
        ChatStream,
        Daemon,
        DaemonError,
        DaemonGone,
        connect_daemon,
        open_daemon,
    )

__all__ = ["ChatStream", "Daemon", "DaemonError", "DaemonGone", "connect_daemon", "open_daemon"]


def __getattr__(name: str) -> Any:
    """Import the client when it is used: the `ollm` command starts its daemon before that."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ollm_daemon.client import _client

    return getattr(_client, name)
