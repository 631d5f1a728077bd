"""One connection to a daemon: frames, ids, and streams as async iterators."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from ollm_daemon.client._process import DAEMON_COMMAND, LEAVE_SECONDS, MAX_HEADER, daemon_process
from ollm_daemon.protocol.base import WireModel
from ollm_daemon.protocol.chat import (
    ChatParams,
    ChatResult,
    CompletionDeltaParams,
    FinishReason,
    StatusDelta,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
)
from ollm_daemon.protocol.state import ErrorData, ErrorKind

Result = TypeVar("Result", bound=WireModel)
AnyDelta = TextDelta | ThinkingDelta | ToolCallDelta | StatusDelta
OnNotification = Callable[[str, Any], None]

INTERNAL_ERROR = -32603


class DaemonError(Exception):
    """The daemon answered with an error.

    Attributes:
        code: JSON-RPC error code.
        data: Kind and hint, when the code is -32803.
    """

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = _error_data(data)


def _error_data(data: Any) -> ErrorData | None:
    """`data` of an error; a kind that a newer daemon has counts as `internal`."""
    if not isinstance(data, dict) or "kind" not in data:
        return None
    known = data if data["kind"] in get_args(ErrorKind) else {**data, "kind": "internal"}
    try:
        return ErrorData.model_validate(known)
    except ValidationError:
        return None


class DaemonGone(Exception):
    """The connection ended before the answer came."""


class ChatStream:
    """Deltas of one chat, in order; `result` once they have ended."""

    def __init__(self) -> None:
        self._deltas: asyncio.Queue[AnyDelta | None] = asyncio.Queue()
        self._result: ChatResult | None = None
        self._error: BaseException | None = None

    @property
    def result(self) -> ChatResult:
        """The whole answer.

        Raises:
            RuntimeError: The stream has not been read to its end.
        """
        if self._result is None:
            raise RuntimeError("the stream has not ended")
        return self._result

    async def __aiter__(self) -> AsyncIterator[AnyDelta]:
        """Deltas until the answer is complete.

        Raises:
            DaemonError: The daemon answered with an error.
            DaemonGone: The connection ended.
        """
        while (delta := await self._deltas.get()) is not None:
            yield delta
        if self._error:
            raise self._error


class Daemon:
    """A connection to a daemon that has been initialized."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_notification: OnNotification | None = None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_notification = on_notification
        self._next_id = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._streams: dict[int, ChatStream] = {}
        self._gone = False

    async def request(self, method: str, params: WireModel | None, result: type[Result]) -> Result:
        """Send a request and wait for its result.

        Raises:
            DaemonError: The daemon answered with an error.
            DaemonGone: The connection ended.
        """
        payload = params.model_dump(mode="json", by_alias=True, exclude_none=True) if params else {}
        return result.model_validate(await self._answer(self._send_request(method, payload)))

    def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Send a notification."""
        self._send({"jsonrpc": "2.0", "method": method, "params": params})

    @contextlib.asynccontextmanager
    async def chat(self, params: ChatParams) -> AsyncIterator[ChatStream]:
        """Stream one chat for the length of the block; leaving early cancels it upstream."""
        identifier = self._next_id
        payload = params.model_dump(mode="json", by_alias=True, exclude_none=True)
        future = self._send_request("ollm/chat", {**payload, "streamToken": identifier})
        stream = self._streams[identifier] = ChatStream()
        future.add_done_callback(lambda done: _finish(stream, done))
        try:
            yield stream
        finally:
            if not future.done():
                self.notify("$/cancelRequest", {"id": identifier})
                with contextlib.suppress(TimeoutError, DaemonError, DaemonGone):
                    await asyncio.wait_for(asyncio.shield(future), LEAVE_SECONDS)
            del self._streams[identifier]

    async def initialize(self, options: Mapping[str, Any], folder: Path | None) -> Any:
        """Say hello; gives the daemon's capabilities."""
        params = {
            "processId": os.getpid(),
            "clientInfo": {"name": "ollm"},
            "rootUri": folder.as_uri() if folder else None,
            "capabilities": {},
            "initializationOptions": options,
        }
        answer = await self._answer(self._send_request("initialize", params))
        self.notify("initialized", {})
        return answer

    async def leave(self) -> None:
        """Say goodbye."""
        with contextlib.suppress(DaemonGone, DaemonError, TimeoutError):
            await asyncio.wait_for(self._answer(self._send_request("shutdown", None)), LEAVE_SECONDS)
            self._send({"jsonrpc": "2.0", "method": "exit"})
        with contextlib.suppress(OSError):
            self._writer.close()

    async def read_on(self) -> None:
        """Take messages until the connection ends."""
        try:
            while True:
                header = await self._reader.readuntil(b"\r\n\r\n")
                fields = dict(line.split(b":", 1) for line in header.strip().lower().split(b"\r\n"))
                body = await self._reader.readexactly(int(fields[b"content-length"]))
                self._receive(json.loads(body))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, ValueError, KeyError):
            # The end, or bytes that are no messages.
            pass
        finally:
            self._gone = True
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(DaemonGone("The daemon closed the connection."))

    def _receive(self, message: Mapping[str, Any]) -> None:
        method = message.get("method")
        if method == "ollm/completion/delta":
            self._take_delta(message.get("params"))
        elif method is None:
            self._take_answer(message)
        elif "id" in message:
            error = {"code": -32601, "message": f"This client does not know {method}."}
            self._send({"jsonrpc": "2.0", "id": message["id"], "error": error})
        elif self._on_notification:
            self._on_notification(method, message.get("params"))

    def _take_delta(self, params: Any) -> None:
        try:
            delta = CompletionDeltaParams.model_validate(params)
        except ValidationError:
            return  # of a kind that only a newer daemon knows
        stream = self._streams.get(delta.stream_token) if isinstance(delta.stream_token, int) else None
        if stream:
            stream._deltas.put_nowait(delta.delta)

    def _take_answer(self, message: Mapping[str, Any]) -> None:
        future = self._waiting.pop(message["id"], None) if message.get("id") is not None else None
        if future is None or future.done():
            return
        error = message.get("error")
        if isinstance(error, dict):
            code, text = error.get("code"), str(error.get("message"))
            future.set_exception(
                DaemonError(code if isinstance(code, int) else INTERNAL_ERROR, text, error.get("data"))
            )
        else:
            future.set_result(message.get("result"))

    def _send_request(self, method: str, params: Any) -> asyncio.Future[Any]:
        if self._gone:
            raise DaemonGone("The daemon closed the connection.")
        identifier = self._next_id
        self._next_id += 1
        future = self._waiting[identifier] = asyncio.get_running_loop().create_future()
        message = {"jsonrpc": "2.0", "id": identifier, "method": method}
        self._send(message if params is None else {**message, "params": params})
        return future

    def _send(self, message: Mapping[str, Any]) -> None:
        body = json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")
        self._writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    @staticmethod
    async def _answer(future: asyncio.Future[Any]) -> Any:
        return await future


def _finish(stream: ChatStream, future: asyncio.Future[Any]) -> None:
    if future.cancelled():
        stream._error = DaemonGone("The request was abandoned.")
    elif future.exception():
        stream._error = future.exception()
    else:
        try:
            stream._result = _result_of(future.result())
        except ValidationError:
            stream._error = DaemonError(INTERNAL_ERROR, "The daemon's answer is not one this client knows.")
    stream._deltas.put_nowait(None)


def _result_of(answer: Any) -> ChatResult:
    """The answer; a reason that a newer daemon has for its end is an unknown one."""
    if isinstance(answer, dict) and answer.get("finishReason") not in get_args(FinishReason):
        answer = {**answer, "finishReason": "unknown"}
    return ChatResult.model_validate(answer)


@contextlib.asynccontextmanager
async def open_daemon(
    *,
    command: Sequence[str] = DAEMON_COMMAND,
    options: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    on_notification: OnNotification | None = None,
) -> AsyncIterator[Daemon]:
    """Start a daemon of our own over its standard streams; it ends with the block.

    Args:
        options: `initializationOptions`.
        folder: The workspace.
        on_notification: Called with method and params of every notification but deltas.
    """
    async with (
        daemon_process(command) as streams,
        running(Daemon(*streams, on_notification), options, folder) as daemon,
    ):
        yield daemon


@contextlib.asynccontextmanager
async def connect_daemon(
    host: str,
    port: int,
    token: str,
    *,
    options: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    on_notification: OnNotification | None = None,
) -> AsyncIterator[Daemon]:
    """Connect to a daemon that runs with `--tcp`; it goes on after the block.

    Raises:
        OSError: Nothing is listening there.
        DaemonError: The token is wrong.
    """
    reader, writer = await asyncio.open_connection(host, port, limit=MAX_HEADER)
    daemon = Daemon(reader, writer, on_notification)
    async with running(daemon, {**(options or {}), "token": token}, folder):
        yield daemon


@contextlib.asynccontextmanager
async def running(
    daemon: Daemon, options: Mapping[str, Any] | None, folder: Path | None
) -> AsyncIterator[Daemon]:
    """Say hello to a daemon and read what it says for the length of the block; then say goodbye."""
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(daemon.read_on())
        try:
            await daemon.initialize(options or {}, folder)
            yield daemon
        finally:
            await daemon.leave()
            reading.cancel()
