"""The client's side of a connection: frames in and out, each stamped with the time of its arrival.

It only drains: what is not a delta is parsed, deltas are kept as they are and looked at afterwards.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.processes import PATIENCE, BenchmarkError

DELTA = b'"ollm/completion/delta"'
RECEIVE_BUFFER = 1 << 18
"""A kernel left to itself keeps megabytes for a client that does not read."""
_HEAD = 80
"""Bytes in which a delta has named its method."""
_READ = 1 << 18
_LENGTH = b"content-length:"


@dataclass(slots=True)
class Answer:
    """One request, answered: its message, when it came, and the deltas before it."""

    message: dict[str, Any]
    arrived: int
    deltas: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def result(self) -> Any:
        """The result.

        Raises:
            BenchmarkError: The answer is an error.
        """
        if "error" in self.message:
            raise BenchmarkError(f"the daemon answered {self.message['error']}")
        return self.message["result"]


class Wire:
    """One connection over two descriptors, or one socket."""

    def __init__(self, read_from: int, write_to: int, peer: socket.socket | None = None) -> None:
        self._read_from = read_from
        self._write_to = write_to
        self._peer = peer
        self._kept = bytearray()
        self._ids = itertools.count(1)

    @classmethod
    def to_port(cls, port: int) -> Wire:
        """A connection to a daemon that listens."""
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        peer.connect(("127.0.0.1", port))
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(peer.fileno(), peer.fileno(), peer)

    def fileno(self) -> int:
        """What to select on."""
        return self._read_from

    def close(self) -> None:
        """Close a socket; pipes belong to the process."""
        if self._peer:
            self._peer.close()

    def request(self, method: str, params: Any = None) -> int:
        """Send a request; gives its id."""
        identifier = next(self._ids)
        self._send({"jsonrpc": "2.0", "id": identifier, "method": method, "params": params})
        return identifier

    def notify(self, method: str, params: Any = None) -> None:
        """Send a notification."""
        self._send({"jsonrpc": "2.0", "method": method, "params": params})

    def _send(self, message: dict[str, Any]) -> None:
        if message["params"] is None:
            del message["params"]
        body = json.dumps(message).encode()
        data = b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        while data:
            data = data[os.write(self._write_to, data) :]

    def fill(self) -> int:
        """Read once, without waiting longer than it takes; gives the time of the read, 0 at the end."""
        data = os.read(self._read_from, _READ)
        self._kept += data
        return time.monotonic_ns() if data else 0

    def bodies(self) -> Iterator[bytes]:
        """Complete messages that have been read."""
        kept = self._kept
        while (end := kept.find(b"\r\n\r\n")) >= 0:
            head = bytes(kept[:end]).lower()
            stop = end + 4 + int(head[head.index(_LENGTH) + len(_LENGTH) :].split(b"\r\n")[0])
            if len(kept) < stop:
                return
            body = bytes(kept[end + 4 : stop])
            del kept[:stop]
            yield body

    def answer(self, identifier: int) -> Answer:
        """Wait for the answer to a request.

        Raises:
            BenchmarkError: It did not come.
        """
        deltas: list[tuple[int, bytes]] = []
        for arrived, body in self._messages():
            if is_delta(body):
                deltas.append((arrived, body))
                continue
            message = json.loads(body)
            if message.get("id") == identifier and "method" not in message:
                return Answer(message, arrived, deltas)
        raise BenchmarkError("the connection ended before the answer came")

    def answers(self, identifiers: Sequence[int]) -> int:
        """How many of these requests were answered exactly once, by when a later one is."""
        counts = dict.fromkeys(identifiers, 0)
        last = self.request("ollm/status")
        for _, body in self._messages():
            message = json.loads(body)
            if "method" in message:
                continue
            if message["id"] in counts:
                counts[message["id"]] += 1
            elif message["id"] == last:
                break
        return sum(count == 1 for count in counts.values())

    def first_delta(self) -> int:
        """Wait for a delta; gives the time of its arrival."""
        for arrived, body in self._messages():
            if is_delta(body):
                return arrived
        raise BenchmarkError("the connection ended before a delta came")

    def end(self) -> None:
        """Wait until the other side has closed."""
        for _ in self._messages():
            pass

    def initialize(self, options: Any) -> Answer:
        """Say hello."""
        params = {"processId": None, "rootUri": None, "capabilities": {}, "initializationOptions": options}
        answer = self.answer(self.request("initialize", params))
        self.notify("initialized", {})
        return answer

    def leave(self) -> None:
        """Say goodbye and wait until the daemon has closed the connection."""
        self.answer(self.request("shutdown"))
        self.notify("exit")
        self.end()
        self.close()

    def chat(self, model: str, stream_token: int = 0) -> int:
        """Ask for a stream; gives the request's id."""
        messages = [{"role": "user", "content": "hi"}]
        return self.request("ollm/chat", {"messages": messages, "model": model, "streamToken": stream_token})

    def _messages(self) -> Iterator[tuple[int, bytes]]:
        """Messages as they arrive, until the connection ends."""
        arrived = time.monotonic_ns()
        while arrived:
            for body in self.bodies():
                yield arrived, body
            if not select.select([self._read_from], [], [], PATIENCE)[0]:
                raise BenchmarkError(f"the daemon said nothing for {PATIENCE:g} s")
            arrived = self.fill()


def is_delta(body: bytes) -> bool:
    """Whether a message is a delta, without parsing it."""
    return DELTA in body[:_HEAD]
