"""The least that a daemon can be: asyncio and the standard library, written by hand for one upstream.

It checks nothing, knows no errors, settings or backpressure, and finds a token's text by its position.
What it costs is the price of the operating system and the event loop; the daemon is measured against it.

    python tests/benchmarks/floor_daemon.py --stdio | --tcp
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any
from urllib.parse import urlsplit

READ_BUFFER = 1 << 16
_TEXT = b'"content":"'
_END_LINE = b"0\r"
"""The size of the last HTTP chunk."""


class Upstream(asyncio.BufferedProtocol):
    """One connection to the upstream: the stream it carries, or `None` while it is idle."""

    def __init__(self, idle: list[Upstream]) -> None:
        self.stream: Stream | None = None
        self.transport: Any = None
        self._idle = idle
        self._buffer = bytearray(READ_BUFFER)
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        stream = self.stream
        if stream is None:
            return
        *lines, self._tail = (self._tail + self._buffer[:nbytes]).split(b"\n")
        texts = [text for line in lines if line.startswith(b"data: {") and (text := _text_of(line))]
        if texts:
            stream.send(b"".join(texts))
        if _END_LINE in lines:
            self.stream, self._tail = None, b""
            self._idle.append(self)
            stream.finish()

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._idle:
            self._idle.remove(self)


def _text_of(line: bytes) -> bytes:
    start = line.find(_TEXT) + len(_TEXT)
    return line[start : line.index(b'"', start)] if start >= len(_TEXT) else b""


class Stream:
    """One `ollm/chat`."""

    def __init__(self, client: Client, message: dict[str, Any]) -> None:
        self.identifier = message["id"]
        token = json.dumps(message["params"]["streamToken"]).encode()
        self._client = client
        self._upstream: Upstream | None = None
        self._prefix = (
            b'{"jsonrpc":"2.0","method":"ollm/completion/delta","params":{"streamToken":%b,' % token
        )
        self._parts: list[bytes] = []

    async def start(self) -> None:
        """Send the request upstream, on a kept connection if there is one."""
        client = self._client
        body = json.dumps({"model": client.model, "messages": [], "stream": True}).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body)
        if client.idle:
            upstream = client.idle.pop()
        else:
            loop = asyncio.get_running_loop()
            _, upstream = await loop.create_connection(lambda: Upstream(client.idle), *client.address)
        self._upstream = upstream
        upstream.stream = self
        upstream.transport.write(head + body)

    def send(self, text: bytes) -> None:
        """Send one delta."""
        seq = len(self._parts)
        self._parts.append(text)
        self._client.send(b'%b"seq":%d,"delta":{"kind":"text","text":"%b"}}}' % (self._prefix, seq, text))

    def finish(self) -> None:
        """Send the result."""
        text = b"".join(self._parts).decode()
        result = {"message": {"role": "assistant", "content": text}}
        self._client.answer(self.identifier, result=result)

    def cancel(self) -> None:
        """Close the upstream and say so."""
        if self._upstream:
            self._upstream.transport.abort()
        self._client.answer(self.identifier, error={"code": -32800, "message": "cancelled"})


class Client(asyncio.Protocol):
    """One client of this daemon."""

    def __init__(self, writer: Any = None) -> None:
        self.idle: list[Upstream] = []
        self.address = ("", 0)
        self.model = ""
        self.ended = asyncio.get_running_loop().create_future()
        self._writer = writer
        self._streams: dict[Any, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._writer = self._writer or transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while (end := self._unread.find(b"\r\n\r\n")) >= 0:
            stop = end + 4 + int(self._unread[:end].split(b":")[1])
            if len(self._unread) < stop:
                return
            body, self._unread = self._unread[end + 4 : stop], self._unread[stop:]
            self._take(json.loads(body))

    def send(self, body: bytes) -> None:
        """Send one message."""
        self._writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    def answer(self, identifier: Any, **outcome: Any) -> None:
        """Answer a request."""
        self._streams.pop(identifier, None)
        self.send(json.dumps({"jsonrpc": "2.0", "id": identifier, **outcome}).encode())

    def _take(self, message: dict[str, Any]) -> None:
        match message["method"]:
            case "initialize":
                flags = (message["params"].get("initializationOptions") or {}).get("flags")
                if flags:
                    url = urlsplit(flags["providers"][flags["provider"]]["baseUrl"])
                    self.address = (url.hostname or "", url.port or 80)
                self.answer(message["id"], result={"capabilities": {}})
            case "ollm/chat":
                self.model = message["params"]["model"]
                stream = self._streams[message["id"]] = Stream(self, message)
                task = asyncio.get_running_loop().create_task(stream.start())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case "$/cancelRequest":
                stream_or_none = self._streams.get(message["params"]["id"])
                if stream_or_none:
                    stream_or_none.cancel()
            case "shutdown":
                self.answer(message["id"], result=None)
            case "exit":
                self._writer.close()


async def serve_stdio() -> None:
    """Serve one client on standard streams."""
    loop = asyncio.get_running_loop()
    writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout)
    _, client = await loop.connect_read_pipe(lambda: Client(writer), sys.stdin)
    await client.ended


async def serve_tcp() -> None:
    """Serve clients on a free port."""
    server = await asyncio.get_running_loop().create_server(Client, "127.0.0.1", 0)
    sys.stderr.write(f"floor listens on 127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stderr.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve_tcp() if "--tcp" in sys.argv else serve_stdio())
