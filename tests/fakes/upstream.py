"""A server that does exactly what its script says, byte for byte and cut for cut.

Raw loopback sockets and a dozen lines of HTTP parsing, no HTTP library: the test decides what is on the
wire, where it is cut, when it stalls and how the connection ends. Everything that arrives is recorded.

    async with ScriptedUpstream(json_reply(200, {"ok": True})) as upstream:
        ...                              # send requests to upstream.url
        upstream.requests[0].json()      # what arrived
        await upstream.connections[0].peer_closed()

A reply is a list of steps: bytes to send, an event to wait for, seconds to pause, or an `End`. After the
last step the connection is ready for the next request. `ScriptedUpstream.in_thread` serves synchronous
tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import ssl
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, Self, cast

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.fakes.captures import capture

PATIENCE = 10.0
"""Seconds after which a wait for something that never comes fails the test."""
_SLICE = 1 << 16


class End(Enum):
    """What becomes of the connection, as the last step of a reply."""

    CLOSE = auto()
    """Close it in both directions (FIN)."""
    RESET = auto()
    """Drop it with an RST."""
    HALF_CLOSE = auto()
    """Say that nothing more follows, and listen until the peer closes."""
    STALL = auto()
    """Keep silent until the peer closes."""


Step = bytes | anyio.Event | float | End


class Reply:
    """What is done about one request, step by step."""

    def __init__(self, *steps: Step) -> None:
        self.steps = steps

    def then(self, *steps: Step) -> Reply:
        """The same with more steps."""
        return Reply(*self.steps, *steps)

    def in_pieces(self, size: int) -> Reply:
        """The same bytes, `size` at a time."""
        return self._cut(lambda data: range(size, len(data), size))

    def cut_at(self, *points: int) -> Reply:
        """The same bytes, cut at these offsets."""
        return self._cut(lambda data: (point for point in points if 0 < point < len(data)))

    def _cut(self, choose: Callable[[bytes], Iterable[int]]) -> Reply:
        """Neighboring bytes are joined first, so that only the chosen cuts are left."""
        joined: list[Step] = []
        for step in self.steps:
            if isinstance(step, bytes) and joined and isinstance(joined[-1], bytes):
                joined[-1] += step
            else:
                joined.append(step)
        return Reply(
            *(
                part
                for step in joined
                for part in (cut(step, *choose(step)) if isinstance(step, bytes) else [step])
            )
        )


def cut(data: bytes, *points: int) -> list[bytes]:
    """`data` cut at the offsets `points`."""
    edges = [0, *sorted(points), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of the first header of that name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


Replies = Reply | Sequence[Reply] | Mapping[str, Reply] | Callable[[Request], Reply]
"""One reply for all requests, one for each in turn, one for each path, or a function that decides."""


class Connection(asyncio.Protocol):
    """One connection of a peer, and what has arrived on it."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        self.requests: list[Request] = []
        self.sent = 0
        """Bytes of replies that the operating system has accepted."""
        self.peer_closed_at: float | None = None
        """Loop time at which the peer closed."""
        self.is_open = False
        self._upstream = upstream
        self._received = bytearray()
        self._scope = anyio.CancelScope()
        self._writable = asyncio.Event()
        self._writable.set()

    async def peer_closed(self) -> float:
        """Wait until the peer closes; the loop time at which it did."""
        await self._upstream.until(lambda: self.peer_closed_at is not None)
        return cast("float", self.peer_closed_at)

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._upstream.tls is None:
            self._transport.set_write_buffer_limits(0)  # so that `sent` is what the system took
        self.is_open = True
        self._upstream.connected(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._upstream.changed()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def eof_received(self) -> bool:
        self._peer_is_gone()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.is_open:
            self._peer_is_gone()
        self._writable.set()

    # the script's side

    async def serve(self) -> None:
        """Answer requests until one side closes."""
        upstream = self._upstream
        with self._scope:
            try:
                if not await self._play(upstream.greeting):
                    return
                while True:
                    request = await self._next_request()
                    self.requests.append(request)
                    reply = upstream.reply_to(request)
                    upstream.changed()
                    if not await self._play(reply):
                        return
            finally:
                self.close()

    def close(self) -> None:
        """Close in both directions."""
        self.is_open = False
        self._transport.close()
        self._upstream.changed()

    def abort(self) -> None:
        """Drop the connection and what was not sent yet."""
        self.is_open = False
        self._transport.abort()
        self._upstream.changed()

    async def _play(self, reply: Reply) -> bool:
        """Do the steps; whether the connection can serve another request."""
        for step in reply.steps:
            if isinstance(step, bytes):
                await self._send(step)
            elif isinstance(step, End):
                await self._end(step)
                return False
            elif isinstance(step, float):
                await anyio.sleep(step)
            else:
                await step.wait()
        return True

    async def _send(self, data: bytes) -> None:
        for start in range(0, len(data), _SLICE):
            piece = data[start : start + _SLICE]
            self._transport.write(piece)
            await self._writable.wait()
            self.sent += len(piece)
        # Once for the peer to be told of the bytes, once for it to read them: each step arrives alone.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _end(self, end: End) -> None:
        if end is End.RESET:
            linger_none = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger_none
            )
            self.abort()
        elif end is End.HALF_CLOSE:
            with contextlib.suppress(OSError):  # the peer was faster
                self._transport.write_eof()
        if end in (End.HALF_CLOSE, End.STALL):
            await anyio.sleep_forever()

    async def _next_request(self) -> Request:
        while b"\r\n\r\n" not in self._received:
            await self._upstream.change()
        head, _, _ = self._received.partition(b"\r\n\r\n")
        request_line, *fields = head.decode("latin-1").split("\r\n")
        method, path, _ = request_line.split(" ")
        headers = tuple(
            (name, value.strip()) for name, _, value in (field.partition(":") for field in fields)
        )
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
        end = len(head) + 4 + length
        while len(self._received) < end:
            await self._upstream.change()
        body = bytes(self._received[len(head) + 4 : end])
        del self._received[:end]
        return Request(method, path, headers, body)

    def _peer_is_gone(self) -> None:
        if self.peer_closed_at is None:
            self.peer_closed_at = asyncio.get_running_loop().time()
        self.is_open = False
        self._scope.cancel()
        self._upstream.changed()


@dataclass(eq=False)
class ScriptedUpstream:
    """A server on a free loopback port, for as long as its `async with` block runs.

    Attributes:
        replies: What to answer.
        greeting: Steps to do for each connection before it has said anything.
        tls: Context of a server that speaks TLS.
        requests: All requests, in the order in which they arrived.
        connections: All connections, in the order in which they were made.
    """

    replies: Replies = field(default_factory=Reply)
    greeting: Reply = field(default_factory=Reply)
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    port: int = 0

    async def __aenter__(self) -> Self:
        self._change = anyio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self.connections:
            connection.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._errors:
            raise self._errors[0]

    @classmethod
    @contextlib.contextmanager
    def in_thread(
        cls, replies: Replies, *, greeting: Reply | None = None, tls: ssl.SSLContext | None = None
    ) -> Iterator[ThreadedUpstream]:
        """The same server in a thread of its own."""
        upstream = cls(replies, greeting or Reply(), tls)
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(upstream):
            yield ThreadedUpstream(upstream, portal)

    @property
    def url(self) -> str:
        """Its address."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        """Connections that neither side has closed."""
        return sum(connection.is_open for connection in self.connections)

    @property
    def is_idle(self) -> bool:
        """Whether every script has come to its end and every connection is closed."""
        return not self._tasks

    async def until(self, predicate: Callable[[], object], limit: float = PATIENCE) -> None:
        """Wait until something that happens here makes `predicate` true."""
        with anyio.fail_after(limit):
            while not predicate():
                await self.change()

    async def request(self, index: int = 0) -> Request:
        """The request with that number, waited for."""
        await self.until(lambda: len(self.requests) > index)
        return self.requests[index]

    # for connections

    async def change(self) -> None:
        """Wait until anything happens."""
        await self._change.wait()

    def changed(self) -> None:
        """Say that something happened."""
        self._change.set()
        self._change = anyio.Event()

    def connected(self, connection: Connection) -> None:
        """Take in a new connection."""
        self.connections.append(connection)
        task = asyncio.get_running_loop().create_task(connection.serve())
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        self.changed()

    def reply_to(self, request: Request) -> Reply:
        """Record the request and choose its reply."""
        index = len(self.requests)
        self.requests.append(request)
        replies = self.replies
        if isinstance(replies, Reply):
            return replies
        if isinstance(replies, Mapping):
            return replies[request.path]
        return replies(request) if callable(replies) else replies[index]

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._errors.append(error)
        self.changed()


@dataclass(frozen=True)
class ThreadedUpstream:
    """A `ScriptedUpstream` that runs in another thread.

    Its lists may be read from any thread; everything that waits goes through `call`.
    """

    upstream: ScriptedUpstream
    portal: BlockingPortal

    @property
    def url(self) -> str:
        """Its address."""
        return self.upstream.url

    @property
    def requests(self) -> list[Request]:
        """All requests, in the order in which they arrived."""
        return self.upstream.requests

    @property
    def connections(self) -> list[Connection]:
        """All connections, in the order in which they were made."""
        return self.upstream.connections

    def until(self, predicate: Callable[[], object], limit: float = PATIENCE) -> None:
        """Wait until something that happens at the server makes `predicate` true."""
        self.portal.call(self.upstream.until, predicate, limit)

    def request(self, index: int = 0) -> Request:
        """The request with that number, waited for."""
        return self.portal.call(self.upstream.request, index)

    def set(self, event: anyio.Event) -> None:
        """Let a script that waits for `event` go on."""
        self.portal.call(event.set)

    def peer_closed(self, index: int = 0) -> float:
        """Wait until the peer closes that connection; the time at which it did, `time.monotonic`."""
        self.until(lambda: len(self.connections) > index)
        return self.portal.call(self.connections[index].peer_closed)


# Replies of the usual shapes


def head(status: int, *headers: str) -> bytes:
    """Status line and headers."""
    lines = [f"HTTP/1.1 {status} {_phrase(status)}", *headers]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; without data the last one."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def body_reply(status: int, body: bytes, *headers: str) -> Reply:
    """A body with its length."""
    return Reply(head(status, f"Content-Length: {len(body)}", *headers) + body)


def json_reply(status: int, value: object, *headers: str) -> Reply:
    """A JSON document."""
    body = json.dumps(value).encode()
    return body_reply(status, body, "Content-Type: application/json", *headers)


def stream_reply(content_type: str, pieces: Iterable[bytes], *headers: str) -> Reply:
    """A chunked body, one chunk and one step for each piece."""
    start = head(200, f"Content-Type: {content_type}", "Transfer-Encoding: chunked", *headers)
    return Reply(start, *(chunk(piece) for piece in pieces), chunk(b""))


def sse_reply(events: Iterable[object]) -> Reply:
    """Server-sent events: text and bytes as they are, anything else as JSON."""
    return stream_reply("text/event-stream", (b"data: %s\n\n" % _encode(event) for event in events))


def ndjson_reply(records: Iterable[object]) -> Reply:
    """Newline-delimited JSON: text and bytes as they are, anything else as JSON."""
    return stream_reply("application/x-ndjson", (_encode(record) + b"\n" for record in records))


def capture_reply(server: str, case: str) -> Reply:
    """A recorded answer, after which the server closes."""
    return Reply(capture(server, case), End.CLOSE)


def _encode(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode()


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"
