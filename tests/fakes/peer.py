"""A client that says exactly what the test wants, over memory, standard streams or a socket.

It can send half a frame, nonsense or two messages in one write, and stop reading: what a well-behaved
client library cannot. Everything the daemon sends is kept in `messages`, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio

from ollm_daemon.daemon import Daemon
from ollm_daemon.server.connection import Connection
from ollm_daemon.server.framing import FrameDecoder, encode_frame
from ollm_daemon.server.outbox import Outbox

PATIENCE = 15.0
Message = dict[str, Any]


class Peer:
    """One client."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.messages: list[Message] = []
        self.closed = False
        self.patience = PATIENCE
        self._write = write
        self._decoder = FrameDecoder()
        self._change = anyio.Event()
        self._ids = itertools.count(1)
        self.transport: MemoryTransport | None = None
        self.in_process: Daemon | None = None

    # what the daemon says

    def feed(self, data: bytes) -> None:
        """Take bytes from the daemon."""
        self._decoder.add(data)
        while (body := self._decoder.take()) is not None:
            self.messages.append(json.loads(body))
        self.changed()

    def hang_up(self) -> None:
        """The daemon closed the connection."""
        self.closed = True
        self.changed()

    def changed(self) -> None:
        """Wake whoever waits."""
        self._change.set()
        self._change = anyio.Event()

    @property
    def daemon(self) -> Daemon:
        """The daemon, when it runs in this process."""
        assert self.in_process
        return self.in_process

    async def until(self, predicate: Callable[[], Any]) -> Any:
        """Wait until `predicate` gives something."""
        with anyio.fail_after(self.patience):
            while not (found := predicate()):
                await self._change.wait()
        return found

    async def answer(self, identifier: Any) -> Message:
        """The response to a request, waited for; `None` asks for one without an id."""
        message: Message = await self.until(
            lambda: next(
                (m for m in self.messages if "method" not in m and m.get("id", "") == identifier), None
            )
        )
        return message

    async def notification(self, method: str) -> Any:
        """The params of the first notification or request of a method, waited for."""
        message = await self.until(
            lambda: next((m for m in self.messages if m.get("method") == method), None)
        )
        return message["params"]

    def deltas(self, token: Any = None) -> list[Message]:
        """Params of all deltas, or of those of one stream."""
        return [
            m["params"]
            for m in self.messages
            if m.get("method") == "ollm/completion/delta"
            and (token is None or m["params"]["streamToken"] == token)
        ]

    def text(self, token: Any = None) -> str:
        """The text of a stream's deltas."""
        return "".join(d["delta"]["text"] for d in self.deltas(token) if d["delta"]["kind"] == "text")

    # what the client says

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._write(data)

    def send(self, *messages: Any) -> None:
        """Send messages, framed, in one write."""
        self._write(b"".join(encode_frame(json.dumps(m).encode()) for m in messages))

    def notify(self, method: str, params: Any = None) -> None:
        """Send a notification."""
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def ask(self, method: str, params: Any = None, identifier: Any = None) -> Any:
        """Send a request; gives its id."""
        identifier = next(self._ids) if identifier is None else identifier
        message = {"jsonrpc": "2.0", "id": identifier, "method": method}
        self.send(message if params is None else {**message, "params": params})
        return identifier

    async def request(self, method: str, params: Any = None) -> Any:
        """Send a request and give its result.

        Raises:
            AssertionError: The answer is an error.
        """
        message = await self.answer(self.ask(method, params))
        assert "error" not in message, message
        return message["result"]

    async def error(self, method: str, params: Any = None) -> Message:
        """Send a request that fails and give its error."""
        message = await self.answer(self.ask(method, params))
        assert "error" in message, message
        error: Message = message["error"]
        return error

    async def initialize(
        self, *, options: Any = None, folder: Path | None = None, capabilities: Any = None, pid: Any = None
    ) -> Any:
        """Say hello."""
        params = {
            "processId": pid,
            "rootUri": folder.as_uri() if folder else None,
            "capabilities": capabilities or {},
            "initializationOptions": options,
        }
        result = await self.request("initialize", params)
        self.notify("initialized", {})
        return result

    async def chat(self, prompt: str = "Say something.", **params: Any) -> Any:
        """One chat, to its result."""
        return await self.request("ollm/chat", chat_params(prompt, **params))


def chat_params(prompt: str = "Say something.", **params: Any) -> Message:
    """Params of `ollm/chat` with one user message."""
    return {"messages": [{"role": "user", "content": prompt}], **params}


def flags(url: str, kind: str = "openai-compatible", **more: Any) -> Message:
    """`initializationOptions` that make `here` the provider, at an address.

    What the server is counts as known, so that scripts need not answer the questions that find it out.
    """
    if kind == "openai-compatible":
        more = {"backend": "generic", **more}
    return {
        "flags": {
            "provider": "here",
            "model": "m",
            "providers": {"here": {"kind": kind, "baseUrl": url, **more}},
        }
    }


class MemoryTransport:
    """The writing side of a connection in this process. The client always reads, unless `stalled`."""

    def __init__(self, peer: Peer, outbox: Outbox) -> None:
        self._peer = peer
        self._outbox = outbox
        self._kept = bytearray()
        self._high = 1 << 16
        self.stalled = False

    def write(self, data: bytes) -> None:
        self._kept += data
        if self.stalled:
            if len(self._kept) > self._high:
                self._outbox.pause()
            return
        self.drain()

    def read_again(self) -> None:
        """The client reads what has piled up, and everything after it."""
        self.stalled = False
        self.drain()
        self._outbox.resume()

    def drain(self) -> None:
        data = bytes(self._kept)
        self._kept.clear()
        self._peer.feed(data)

    def is_closing(self) -> bool:
        return self._peer.closed

    def close(self) -> None:
        self._peer.hang_up()

    def abort(self) -> None:
        self._peer.hang_up()

    def set_write_buffer_limits(self, high: int) -> None:
        self._high = high


@contextlib.asynccontextmanager
async def in_memory(home: Path, environment: Mapping[str, str] | None = None) -> AsyncIterator[Peer]:
    """A daemon and its one client in this process."""
    daemon = Daemon({"HOME": str(home), **(environment or {})})
    async with with_daemon(daemon) as peer:
        yield peer
    await daemon.aclose()


@contextlib.asynccontextmanager
async def with_daemon(daemon: Daemon) -> AsyncIterator[Peer]:
    """One more client of a daemon in this process."""
    outbox = Outbox()
    connection = Connection(daemon, outbox)
    peer = Peer(connection.receive)
    peer.in_process = daemon
    transport = MemoryTransport(peer, outbox)
    outbox.attach(transport)
    peer.transport = transport
    async with anyio.create_task_group() as task_group:
        task_group.start_soon(connection.run)
        try:
            yield peer
        finally:
            connection.end()


class Process:
    """The daemon as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, peer: Peer) -> None:
        self.process = process
        self.peer = peer
        self.stderr = bytearray()

    def log(self, data: bytes) -> None:
        """Take what it writes to standard error."""
        self.stderr += data
        self.peer.changed()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    async def exit_code(self, limit: float = PATIENCE) -> int:
        """Wait for its end."""
        with anyio.fail_after(limit):
            return await self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)


@contextlib.asynccontextmanager
async def over_stdio(
    home: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    command: tuple[str, ...] = (sys.executable, "-P", "-m", "ollm_daemon"),
) -> AsyncIterator[Process]:
    """A daemon process and its client on standard streams."""
    process = await asyncio.create_subprocess_exec(
        *command,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=process_environment(home, environment),
    )
    assert process.stdin
    running = Process(process, Peer(process.stdin.write))
    async with anyio.create_task_group() as task_group:
        task_group.start_soon(_pump, process.stdout, running.peer.feed, running.peer.hang_up)
        task_group.start_soon(_pump, process.stderr, running.log, running.peer.changed)
        try:
            yield running
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            process.stdin.close()


@contextlib.asynccontextmanager
async def over_tcp(port: int) -> AsyncIterator[Peer]:
    """A client of a daemon that listens."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    peer = Peer(writer.write)
    async with anyio.create_task_group() as task_group:
        task_group.start_soon(_pump, reader, peer.feed, peer.hang_up)
        try:
            yield peer
        finally:
            writer.transport.abort()
            task_group.cancel_scope.cancel()


async def _pump(
    reader: asyncio.StreamReader | None, on_data: Callable[[bytes], Any], on_end: Callable[[], Any]
) -> None:
    assert reader
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            on_data(data)
    on_end()


def process_environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a daemon process of a test sees: nothing of the machine's own settings."""
    kept = {key: os.environ[key] for key in ("PATH", "SYSTEMROOT", "VIRTUAL_ENV") if key in os.environ}
    return {**kept, "HOME": str(home), "PYTHONWARNINGS": "error", **(more or {})}
