"""A typed client of the daemon, for Python programs; the `ollm` command is built on it.

async with open_daemon() as daemon:
    async with daemon.chat(ChatParams(messages=[Message(role="user", content="Hello")])) as answer:
        async for delta in answer:
            ...
    print(answer.result.message.content)
"""

from ollm_daemon.client._client import (
    ChatStream,
    Daemon,
    DaemonError,
    DaemonGone,
    connect_daemon,
    open_daemon,
)

__all__ = ["ChatStream", "Daemon", "DaemonError", "DaemonGone", "connect_daemon", "open_daemon"]
