"""The upstream: a model server of raw sockets whose answers are encoded before they are asked for.

Speaks as much HTTP/1.1 as its clients need (`Content-Length` requests, keep-alive) and two dialects:
OpenAI's server-sent events under `/v1/chat/completions` and Ollama's NDJSON under `/api/chat`, each event
in an HTTP chunk of its own, as servers flush them. What to send is in the request's `model`; see
`scenario`. One thread per connection.

Standard output tells what nobody else can see, one `EVENT NANOSECONDS` per line: `listening PORT` once,
`closed` when a peer closed in mid-answer, `blocked` when a peer has taken nothing for a while, and `sent`
when all of a `burst` or a `stall` has left.

    python -m tests.benchmarks.upstream
"""

from __future__ import annotations

import functools
import json
import select
import socket
import sys
import threading
import time
from dataclasses import dataclass

from tests.benchmarks.scenario import CHUNK_BYTES, TOKEN, Scenario

BLOCK_TOKENS = 500
BLOCKED_SECONDS = 0.2
"""Silence after which a peer that takes nothing counts as one that has stopped reading."""
_READ = 1 << 16


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one kind of server writes an answer."""

    content_type: bytes
    before: bytes
    after: bytes
    end: bytes

    def token(self, text: bytes) -> bytes:
        """One token as an HTTP chunk."""
        return http_chunk(b"%b%b%b" % (self.before, text, self.after))

    @functools.lru_cache  # noqa: B019 - two dialects live as long as the process
    def tokens(self, count: int) -> bytes:
        """Numbered tokens, encoded once."""
        return b"".join(self.token((TOKEN % number).encode()) for number in range(count))


def http_chunk(data: bytes) -> bytes:
    """One chunk of the chunked encoding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _sse() -> Dialect:
    before = b'"choices":[{"index":0,"delta":{"content":"'
    after = b'"},"logprobs":null,"finish_reason":null}]}\n\n'
    head = b'data: {"id":"chatcmpl-0","object":"chat.completion.chunk","created":1760000000,"model":"m",'
    length = len(head) + len(b'"system_fingerprint":"",') + len(before) + len(TOKEN % 0) + len(after)
    head += b'"system_fingerprint":"%b",' % (b"f" * (CHUNK_BYTES - length))
    last = b'data: {"id":"chatcmpl-0","object":"chat.completion.chunk","created":1760000000,"model":"m",'
    last += b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    return Dialect(b"text/event-stream; charset=utf-8", head + before, after, last)


def _ndjson() -> Dialect:
    before = b'{"model":"m","created_at":"2026-01-01T00:00:00.000000000Z","message":{"role":"assistant",'
    last = before + b'"content":""},"done":true,"done_reason":"stop","total_duration":1,"eval_count":1}\n'
    return Dialect(b"application/x-ndjson", before + b'"content":"', b'"},"done":false}\n', last)


DIALECTS = {b"/v1/chat/completions": _sse(), b"/api/chat": _ndjson()}
assert len(DIALECTS[b"/v1/chat/completions"].token(b" tok00000")) == CHUNK_BYTES + len(b"e1\r\n\r\n")


class PeerClosedError(Exception):
    """The peer closed, or broke, the connection."""


class Connection:
    """One client of the upstream."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._peer.setblocking(False)
        self._peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""

    def serve(self) -> None:
        """Answer requests until the peer leaves."""
        with self._peer:
            try:
                while True:
                    path, body = self._read_request()
                    try:
                        self._answer(DIALECTS[path], Scenario.of_model(json.loads(body)["model"]))
                    except PeerClosedError:
                        report("closed")
                        raise
            except PeerClosedError:
                return

    def _read_request(self) -> tuple[bytes, bytes]:
        while b"\r\n\r\n" not in self._unread:
            self._unread += self._receive(None)
        head, _, rest = self._unread.partition(b"\r\n\r\n")
        request_line, *fields = head.split(b"\r\n")
        names = dict(field.lower().split(b":", 1) for field in fields)
        length = int(names[b"content-length"])
        while len(rest) < length:
            rest += self._receive(None)
        self._unread = rest[length:]
        return request_line.split(b" ")[1], rest[:length]

    def _answer(self, dialect: Dialect, scenario: Scenario) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
        end = http_chunk(dialect.end) + b"0\r\n\r\n"
        head %= dialect.content_type
        match scenario.mode:
            case "burst":
                blocks, rest = divmod(scenario.tokens, BLOCK_TOKENS)
                self._send(head)
                for _ in range(blocks):
                    self._send(dialect.tokens(BLOCK_TOKENS))
                self._send(dialect.tokens(rest) + end)
                report("sent")
            case "stall":
                self._send(head + dialect.tokens(scenario.tokens))
                report("sent")
                while True:
                    self._receive(None)
            case "paced" | "stamped":
                self._pace(dialect, scenario, head)
                self._send(end)

    def _pace(self, dialect: Dialect, scenario: Scenario, head: bytes) -> None:
        """Send tokens when they are due; the first goes with the head of the answer."""
        gap = scenario.gap_ms / 1e3
        due = time.monotonic()
        if scenario.phase_ms is not None:
            due += (scenario.phase_ms / 1e3 - due) % gap
        for number in range(scenario.tokens):
            while (left := due - time.monotonic()) > 0:
                self._receive(left)
            text = b" %d" % time.monotonic_ns() if scenario.mode == "stamped" else TOKEN.encode() % number
            self._send(head + dialect.token(text))
            head = b""
            due += gap

    def _send(self, data: bytes) -> None:
        """Send everything, and tell when the peer is found to have stopped reading."""
        blocked = False
        left = memoryview(data)
        while left:
            try:
                left = left[self._peer.send(left) :]
            except BlockingIOError:
                seconds = None if blocked else BLOCKED_SECONDS
                readable, writable, _ = select.select([self._peer], [self._peer], [], seconds)
                if readable:
                    self._receive(0)
                elif not writable:
                    blocked = True
                    report("blocked")
            except OSError as error:
                raise PeerClosedError from error

    def _receive(self, seconds: float | None) -> bytes:
        """What the peer sends within a time; nothing when it is silent."""
        # select waits for fractions of a millisecond; the timeout of a socket does not.
        if not select.select([self._peer], [], [], seconds)[0]:
            return b""
        try:
            data = self._peer.recv(_READ)
        except OSError as error:
            raise PeerClosedError from error
        if not data:
            raise PeerClosedError
        return data


def report(event: str, value: int | None = None) -> None:
    """Tell standard output."""
    sys.stdout.write(f"{event} {time.monotonic_ns() if value is None else value}\n")
    sys.stdout.flush()


def main() -> None:
    """Listen on a free port until killed."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        report("listening", listener.getsockname()[1])
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=Connection(peer).serve, daemon=True).start()


if __name__ == "__main__":
    main()
