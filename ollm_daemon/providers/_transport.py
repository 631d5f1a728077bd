"""An HTTP/1.1 transport for httpx, made for token streams.

Plugs into httpx's own extension point (`AsyncBaseTransport`). It differs from the default transport
in what a daemon needs: one bytes object per socket read however many HTTP chunks it held, reading
that pauses when the consumer falls behind, a cancelled stream closes its socket at once, and a pool
in which nothing can be left behind by cancellation (httpcore 1.0.9 loses a slot for each request that
is cancelled while it connects, encode/httpcore#1093).

Knows nothing of proxies, HTTP/2 or models. Errors leave as httpx exceptions.

Invariant: a connection is either lent to one request, waiting idle, or closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
import weakref
from asyncio.trsock import TransportSocket
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import httptools
import httpx

READ_BUFFER = 1 << 18
HIGH_WATER = 1 << 18
"""Bytes of body that may wait for the consumer before the socket is no longer read."""
MAX_HEAD = 64 << 10
"""Bytes of status line and headers together."""
IDLE_SECONDS = 4.0
"""How long a connection is kept. uvicorn and llama.cpp drop theirs after 5 s without a request."""
DRAIN_SECONDS = 1.0
"""How long the closing bytes of an answer that is complete for us may take to arrive."""
MAX_IDLE = 16
EYEBALLS_SECONDS = 0.2

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods of requests that may be processed twice."""

_Key = tuple[str, str, int]


class _Connection(asyncio.BufferedProtocol):
    """One socket and the parser of the answer that is arriving on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, buffer: bytearray) -> None:
        self._loop = loop
        self._view = memoryview(buffer)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._on_complete: Callable[[_Connection], None] | None = None
        self.closed = False
        self.complete = False
        self.error: Exception | None = None
        self.begin()

    def begin(self) -> None:
        """Forget the last answer and be ready for the next."""
        self._parser = httptools.HttpResponseParser(self)
        self.headers: list[tuple[bytes, bytes]] = []
        self.status = 0
        self.has_head = False
        self.complete = False
        self.keep_alive = False
        self.received = 0
        self.error = None
        self._parts: list[bytes] = []
        self._waiting_bytes = 0
        self._paused = False

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._socket: TransportSocket = transport.get_extra_info("socket")

    def get_buffer(self, sizehint: int) -> memoryview:
        # A view, as TLS fills it in slices, and a slice of a bytearray would be a copy.
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        if self.complete:
            # Bytes that nobody asked for: this connection cannot be trusted with another request.
            self.abort()
            return
        self.received += nbytes
        try:
            self._parser.feed_data(self._view[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self.complete:
                self.keep_alive = False
            else:
                self._fail(httpx.RemoteProtocolError(f"not a valid HTTP answer: {error}"))
        if not self.has_head and self.received > MAX_HEAD:
            self._fail(httpx.RemoteProtocolError(f"headers of more than {MAX_HEAD >> 10} KiB"))
        if self._waiting_bytes > HIGH_WATER and not self._paused and self._transport:
            self._paused = True
            self._transport.pause_reading()
        self._wake()
        if self.complete and self._on_complete:
            self._on_complete(self)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if exc is None and self.has_head and not self.complete and not self._has_length():
            # Without a length the end of the connection is the end of the body.
            self.complete, self.keep_alive = True, False
        elif not self.complete and self.error is None:
            self.error = httpx.RemoteProtocolError("the connection was closed in mid-answer")
            self.error.__cause__ = exc
        self.stop_idling()
        self._wake()

    # the parser's side

    def on_message_begin(self) -> None:
        if self.complete:
            self.keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.has_head:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.complete:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self.headers.clear()
            return
        if sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD:
            self._fail(httpx.RemoteProtocolError(f"headers of more than {MAX_HEAD >> 10} KiB"))
            return
        self.status = status
        self.has_head = True

    def on_body(self, body: bytes) -> None:
        if not self.complete:
            self._parts.append(body)
            self._waiting_bytes += len(body)

    def on_message_complete(self) -> None:
        if self.has_head and not self.complete:
            self.complete = True
            self.keep_alive = self._parser.should_keep_alive()

    # the request's side

    def write(self, data: bytes) -> None:
        if self._transport:
            self._transport.write(data)

    async def wait(self, limit: float | None) -> None:
        """Until something happens on the socket.

        Raises:
            httpx.ReadTimeout: Nothing happened for `limit` seconds.
        """
        self._waiter = self._loop.create_future()
        try:
            if limit is None:
                await self._waiter
            else:
                async with asyncio.timeout(limit):
                    await self._waiter
        except TimeoutError:
            raise httpx.ReadTimeout("nothing was received in time") from None
        finally:
            self._waiter = None

    async def read_head(self, limit: float | None) -> None:
        while not self.has_head:
            if self.error:
                raise self.error
            await self.wait(limit)

    async def read_body(self, limit: float | None) -> AsyncIterator[bytes]:
        """What has arrived since the last read, joined."""
        while True:
            while not self._parts:
                if self.complete:
                    return
                if self.error:
                    raise self.error
                await self.wait(limit)
            parts, self._parts, self._waiting_bytes = self._parts, [], 0
            if self._paused and not self.closed and self._transport:
                self._paused = False
                self._transport.resume_reading()
            yield parts[0] if len(parts) == 1 else b"".join(parts)

    def abort(self) -> None:
        """Close the socket now; whatever is unread is lost, which is how a server learns of a cancel."""
        self.closed = True
        self.stop_idling()
        if self._transport:
            with contextlib.suppress(OSError, TypeError):  # gone already; uvloop has no such method
                # The server learns of it now; asyncio closes the socket in a later turn of the loop.
                self._socket.shutdown(socket.SHUT_RDWR)
            self._transport.abort()

    def is_readable(self) -> bool:
        """Whether something has arrived that the loop has not told yet; on an idle connection that is its
        end, or bytes nobody asked for.
        """
        descriptor = self._socket.fileno()
        return descriptor < 0 or _is_readable(descriptor)

    def idle_for(self, seconds: float, on_timeout: Callable[[_Connection], None]) -> None:
        self._idle_timer = self._loop.call_later(seconds, on_timeout, self)

    def stop_idling(self) -> None:
        if self._idle_timer:
            self._idle_timer.cancel()
            self._idle_timer = None

    def when_complete(self, callback: Callable[[_Connection], None] | None) -> None:
        self._on_complete = callback
        if callback and self._paused and not self.closed and self._transport:
            self._paused = False
            self._transport.resume_reading()

    def _fail(self, error: Exception) -> None:
        self.error = self.error or error
        self.abort()

    def _has_length(self) -> bool:
        names = {name.lower() for name, _ in self.headers}
        return b"content-length" in names or b"transfer-encoding" in names

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class _Body(httpx.AsyncByteStream):
    """The body of one answer; closing it decides what becomes of the connection."""

    def __init__(self, connection: _Connection, limit: float | None, release: Callable[[bool], None]) -> None:
        self._connection = connection
        self._limit = limit
        self._release: Callable[[bool], None] | None = release
        self._drain = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._connection.read_body(self._limit)

    def finish(self) -> None:
        """Say that the rest of the body is of no interest but worth waiting for (see DRAIN_SECONDS)."""
        self._drain = True

    async def aclose(self) -> None:
        release, self._release = self._release, None
        if release:
            release(self._drain)


class StreamTransport(httpx.AsyncBaseTransport):
    """Carries requests to any number of origins over kept HTTP/1.1 connections.

    A response carries `extensions["finish"]`, to be called when the consumer has read all it wants
    and the few closing bytes may still arrive in the background.
    """

    def __init__(self, ssl_context: Callable[[], ssl.SSLContext] | None = None) -> None:
        self._ssl_context = ssl_context or ssl.create_default_context
        self._buffer = bytearray(READ_BUFFER)
        self._idle: defaultdict[_Key, list[_Connection]] = defaultdict(list)
        self._all: weakref.WeakSet[_Connection] = weakref.WeakSet()

    @property
    def open_connections(self) -> int:
        """Connections that are lent, idle or waiting for their closing bytes."""
        return sum(not connection.closed for connection in self._all)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return as soon as the head of its answer is there."""
        timeout = request.extensions.get("timeout", {})
        url = request.url
        key = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        data = await _encode_request(request)
        while True:
            connection = self._take_idle(key)
            fresh = connection is None
            if connection is None:
                connection = await self._connect(key, timeout.get("connect"))
            try:
                connection.write(data)
                await connection.read_head(timeout.get("read"))
            except BaseException as error:
                dropped = not fresh and connection.closed and connection.received == 0
                self._release(key, connection, drain=False)
                safe = request.method in _SAFE or request.extensions.get("repeatable", False)
                if dropped and safe and isinstance(error, httpx.RemoteProtocolError):
                    # Perhaps the server read it before it closed: what is not safe is not sent twice.
                    continue
                raise
            return self._respond(key, connection, timeout.get("read"))

    async def aclose(self) -> None:
        """Close every connection, lent ones too."""
        for connection in list(self._all):
            connection.abort()
        self._idle.clear()
        await asyncio.sleep(0)  # the event loop closes sockets in its next turn

    async def connect_ahead(self, url: httpx.URL, limit: float) -> None:
        """Open one connection and keep it idle, so that the next request finds it ready."""
        key = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        if not self._idle[key]:
            self._keep(key, await self._connect(key, limit))

    def _respond(self, key: _Key, connection: _Connection, limit: float | None) -> httpx.Response:
        body = _Body(connection, limit, lambda drain: self._release(key, connection, drain=drain))
        return httpx.Response(
            connection.status,
            headers=connection.headers,
            stream=body,
            extensions={"http_version": b"HTTP/1.1", "finish": body.finish},
        )

    def _take_idle(self, key: _Key) -> _Connection | None:
        pool = self._idle[key]
        while pool:
            connection = pool.pop()
            connection.stop_idling()
            if not connection.closed and not connection.is_readable():
                connection.begin()
                return connection
            connection.abort()
        return None

    async def _connect(self, key: _Key, limit: float | None) -> _Connection:
        scheme, host, port = key
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limit):
                _, connection = await loop.create_connection(
                    lambda: _Connection(loop, self._buffer),
                    host,
                    port,
                    ssl=self._ssl_context() if scheme == "https" else None,
                    **_eyeballs(loop, host),
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"no connection within {limit} s") from error
        except (OSError, UnicodeError) as error:
            # A name that cannot even be encoded is a UnicodeError.
            raise httpx.ConnectError(str(error)) from error
        self._all.add(connection)
        return connection

    def _release(self, key: _Key, connection: _Connection, *, drain: bool) -> None:
        if connection.complete:
            self._settle(key, connection)
        elif drain and not connection.closed:
            connection.idle_for(DRAIN_SECONDS, _Connection.abort)
            connection.when_complete(lambda done: self._settle(key, done))
        else:
            connection.abort()

    def _settle(self, key: _Key, connection: _Connection) -> None:
        """The answer is complete: keep the connection if it may serve another request."""
        connection.stop_idling()
        connection.when_complete(None)
        pool = self._idle[key] = [kept for kept in self._idle[key] if not kept.closed]
        if connection.keep_alive and not connection.closed and len(pool) < MAX_IDLE:
            self._keep(key, connection)
        else:
            connection.abort()

    def _keep(self, key: _Key, connection: _Connection) -> None:
        def drop(expired: _Connection) -> None:
            if expired in self._idle[key]:
                self._idle[key].remove(expired)
            expired.abort()

        self._idle[key].append(connection)
        connection.idle_for(IDLE_SECONDS, drop)


def _is_readable(descriptor: int) -> bool:
    if not hasattr(select, "poll"):
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _eyeballs(loop: asyncio.AbstractEventLoop, host: str) -> dict[str, Any]:
    """How long to wait before a second address of a host is tried beside the first.

    Addresses of this machine refuse at once, so they are tried one after another; that also keeps
    clear of asyncio's race, which drops a socket when it is cancelled (CPython 3.11). uvloop has no race.
    """
    is_near = host == "localhost" or host.replace(".", "").isdigit() or ":" in host
    races = not is_near and isinstance(loop, asyncio.BaseEventLoop)
    return {"happy_eyeballs_delay": EYEBALLS_SECONDS} if races else {}


async def _encode_request(request: httpx.Request) -> bytes:
    parts = [request.method.encode("ascii"), b" ", request.url.raw_path, b" HTTP/1.1\r\n"]
    for name, value in request.headers.raw:
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"\r\n")
    stream: Any = request.stream
    async for chunk in stream:
        parts.append(chunk)
    return b"".join(parts)
