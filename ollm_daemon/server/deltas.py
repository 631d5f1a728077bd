"""Deltas of one stream as frames: what is the same for all of them is encoded once per stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from pydantic_core import to_json

from ollm_daemon.domain import Delta, StatusDelta, TextDelta, ThinkingDelta, ToolCallDelta
from ollm_daemon.server.framing import encode_frame
from ollm_daemon.server.outbox import Outbox


class DeltaWriter:
    """Sends the deltas of one generation, numbered from 0."""

    def __init__(self, outbox: Outbox, stream_token: str | int) -> None:
        self._outbox = outbox
        self._prefix = (
            b'{"jsonrpc":"2.0","method":"ollm/completion/delta","params":{"streamToken":%b,"seq":'
            % to_json(stream_token)
        )
        self._seq = 0

    async def send(self, deltas: Sequence[Delta]) -> None:
        """Send deltas in order; waits while the client is not reading."""
        for delta in deltas:
            body = b'%b%d,"delta":%b}}' % (self._prefix, self._seq, _encode(delta))
            self._seq += 1
            self._outbox.put(encode_frame(body))
        if self._outbox.full:
            await self._outbox.ready()


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
