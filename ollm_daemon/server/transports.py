"""Standard streams and sockets: from a byte stream to a `Connection` and back.

Invariant: reading never waits for writing; on standard streams descriptor 1 carries frames alone.
"""

from __future__ import annotations

import asyncio
import functools
import hmac
import ipaddress
import json
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import anyio
from anyio.abc import TaskGroup

from ollm_daemon.errors import ConfigError
from ollm_daemon.server.connection import Connection, Host
from ollm_daemon.server.faults import contained
from ollm_daemon.server.greeting import Greeting
from ollm_daemon.server.outbox import HIGH_WATER, Outbox, WriteTransport
from ollm_daemon.server.platforms import ThreadWriter, is_pipe, read_in_thread, write_private_file

MAX_CONNECTIONS = 16
"""Clients that are let in at once."""
MAX_STRANGERS = 16
"""Connections that have yet to show the token; one more ends the oldest of them."""
HANDSHAKE_SECONDS = 5.0
HALF_MESSAGE_SECONDS = 60.0
READ_BUFFER = 64 << 10
TOKEN_BYTES = 32


class _Writing(asyncio.BaseProtocol):
    """Tells an outbox what its transport tells."""

    def __init__(self, outbox: Outbox, on_lost: Callable[[], None]) -> None:
        self._outbox = outbox
        self._on_lost = on_lost

    def pause_writing(self) -> None:
        self._outbox.pause()

    def resume_writing(self) -> None:
        self._outbox.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._outbox.lost()
        self._on_lost()


class _Reading(asyncio.Protocol):
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def data_received(self, data: bytes) -> None:
        self._connection.receive(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.end()


async def serve_stdio(host: Host, frames_in: BinaryIO, frames_out: BinaryIO, greeting: Greeting) -> int:
    """Serve one client on two descriptors and give the process's exit code."""
    loop = asyncio.get_running_loop()
    outbox = Outbox()
    connection = Connection(host, outbox, greeted=greeting.params)
    connection.receive(greeting.unread)
    writing = _Writing(outbox, connection.end)
    transport: WriteTransport
    if is_pipe(frames_out):
        pipe, _ = await loop.connect_write_pipe(lambda: writing, frames_out)
        transport = cast("WriteTransport", pipe)
        transport.set_write_buffer_limits(HIGH_WATER)
    else:
        transport = ThreadWriter(frames_out, writing)
    outbox.attach(transport)
    reading = None
    if is_pipe(frames_in):
        reading, _ = await loop.connect_read_pipe(lambda: _Reading(connection), frames_in)
    else:
        read_in_thread(frames_in, connection.receive, connection.end)
    try:
        await connection.run()
    finally:
        if reading:
            reading.close()
        if not transport.is_closing():
            # A signal came. What fits into the pipe leaves; uvloop's loop does not close around an open one.
            outbox.flush()
            transport.abort()
    return connection.exit_code


class _Socket(asyncio.BufferedProtocol):
    """One accepted socket."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._buffer = bytearray(READ_BUFFER)
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._connection: Connection | None = None
        self._outbox: Outbox | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(HIGH_WATER)
        # asyncio does so for sockets it made itself; without it a delta waits 40 ms for an acknowledgement.
        accepted = self._transport.get_extra_info("socket")
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._outbox = Outbox()
        self._outbox.attach(cast("WriteTransport", self._transport))
        self._connection = self._listener.accept(self._outbox)
        self._watch(HANDSHAKE_SECONDS, lambda connection: connection.authenticated)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        connection = self._connection
        if connection is None:
            return
        connection.receive(bytes(memoryview(self._buffer)[:nbytes]))
        if connection.authenticated:
            if connection.in_message:
                self._watch(HALF_MESSAGE_SECONDS, lambda connection: not connection.in_message)
            elif self._timer:
                self._timer.cancel()
                self._timer = None

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        if self._outbox:
            self._outbox.pause()

    def resume_writing(self) -> None:
        if self._outbox:
            self._outbox.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        if self._outbox and self._connection:
            self._outbox.lost()
            self._connection.end()

    def _watch(self, seconds: float, satisfied: Callable[[Connection], bool]) -> None:
        """Close the socket if the condition does not hold after a while."""
        if self._timer is not None and self._connection and self._connection.authenticated:
            return

        def look() -> None:
            self._timer = None
            if self._connection and not satisfied(self._connection):
                self._connection.end()
                if self._transport:
                    self._transport.abort()

        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, look)


class Listener:
    """A socket that is bound and a token that is kept; `serve` lets clients in.

    Strangers, who have yet to show the token, have places of their own: they cannot take those of clients.
    """

    def __init__(self, bound: socket.socket, token: str, token_file: Path) -> None:
        self.host, self.port = bound.getsockname()[:2]
        self.token_file = token_file
        self._socket = bound
        self._token = token
        self._clients: set[Connection] = set()
        self._strangers: dict[Connection, None] = {}
        self._accept: Callable[[Outbox], Connection]

    async def serve(self, host: Host) -> None:
        """Accept clients until cancelled; each is a connection of its own in one task group."""
        loop = asyncio.get_running_loop()
        async with anyio.create_task_group() as task_group:
            self._accept = functools.partial(self._begin, host, task_group)
            server = await loop.create_server(lambda: _Socket(self), sock=self._socket)
            try:
                await anyio.sleep_forever()
            finally:
                server.close()

    def accept(self, outbox: Outbox) -> Connection:
        """A connection for one more stranger."""
        return self._accept(outbox)

    def admit(self, connection: Connection, token: str | None) -> str:
        """As `Door.admit`."""
        if token is None or not hmac.compare_digest(token.encode(), self._token.encode()):
            return "The token is missing or wrong: send the daemon's token as initializationOptions.token."
        if len(self._clients) >= MAX_CONNECTIONS:
            return f"The daemon serves {MAX_CONNECTIONS} clients already, and no more at once."
        self._strangers.pop(connection, None)
        self._clients.add(connection)
        return ""

    def _begin(self, host: Host, task_group: TaskGroup, outbox: Outbox) -> Connection:
        if len(self._strangers) >= MAX_STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.end()
        connection = Connection(host, outbox, door=self)
        self._strangers[connection] = None
        task_group.start_soon(self._run, connection)
        return connection

    async def _run(self, connection: Connection) -> None:
        try:
            with contained("a connection"):
                await connection.run()
        finally:
            self._clients.discard(connection)
            self._strangers.pop(connection, None)


def parse_listen_address(text: str, *, any_address: bool) -> tuple[str, int]:
    """`[HOST:]PORT`; the host is numeric, and loopback unless `any_address`.

    Raises:
        ConfigError: It is not.
    """
    host, colon, port = text.rpartition(":")
    host = host.strip("[]") if colon else "127.0.0.1"
    try:
        address = ipaddress.ip_address(host)
        number = int(port)
    except ValueError:
        raise ConfigError(
            f"`--tcp {text}` is not an address to listen on.",
            hint="Give a port, or 127.0.0.1:PORT; the host must be numeric. Port 0 picks a free one.",
        ) from None
    if not address.is_loopback and not any_address:
        raise ConfigError(
            f"`--tcp {text}` would let other machines in.",
            hint="Listen on 127.0.0.1, or add --allow-remote if that is what you want.",
        )
    if not 0 <= number <= 65535:
        raise ConfigError(f"`--tcp {text}`: a port is a number from 0 to 65535.")
    return host, number


def token_path(folder: Path, host: str, port: int) -> Path:
    """Where the daemon that listens there keeps its token; one port may be open on several addresses."""
    name = port if host == "127.0.0.1" else f"{host.replace(':', '_')}-{port}"
    return folder / f"daemon-{name}.json"


@contextmanager
def open_listener(address: tuple[str, int], folder: Path) -> Iterator[Listener]:
    """Bind a socket and keep a token for the length of the block.

    Raises:
        ConfigError: The port is taken, or the token cannot be kept private.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        bound = socket.create_server(address, family=family)
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on {address[0]}:{address[1]}: {(error.strerror or str(error)).lower()}.",
            hint="Choose another port; 0 picks a free one.",
        ) from error
    with bound:
        token = secrets.token_hex(TOKEN_BYTES)
        host, port = bound.getsockname()[:2]
        path = token_path(folder, host, port)
        content = json.dumps({"host": host, "port": port, "pid": os.getpid(), "token": token})
        try:
            write_private_file(path, content)
        except OSError as error:
            raise ConfigError(
                f"The daemon's token cannot be kept private: {error}.",
                hint=f"Make {folder} a folder of your own.",
            ) from error
        try:
            yield Listener(bound, token, path)
        finally:
            path.unlink(missing_ok=True)
