"""Our end of one JSON-RPC connection: every request gets exactly one answer, whatever happens.

Takes message bodies, never raises and never waits. What a method does is the router's business; this
module owns ids, the order of the life cycle, cancellation and what goes wrong on the way.

Invariants: one response for each request id; a response is the last frame of its request; ids of the
client and our own are different tables.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import anyio
from anyio.abc import TaskGroup
from pydantic_core import to_json

from ollm_daemon.json_text import parse_json
from ollm_daemon.server.faults import contained
from ollm_daemon.server.framing import encode_frame
from ollm_daemon.server.outbox import Outbox

logger = logging.getLogger(__name__)

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
NOT_INITIALIZED = -32002
REQUEST_CANCELLED = -32800
REQUEST_FAILED = -32803

MAX_RUNNING = 64
"""Requests of one connection that run at once."""
MAX_WAITING = 256
"""Requests of one connection that wait for their turn."""

Id = int | str
Handler = Callable[[Any], Awaitable[bytes]]
"""Takes raw params, gives the result as JSON text; raises `RpcError` for everything foreseen."""


class RpcError(Exception):
    """An answer that is an error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class Router(Protocol):
    """What a connection does with messages."""

    def call_now(self, method: str, params: Any) -> bytes | None:
        """Answer a request at once, as JSON text; `None` when the method takes time or is unknown.

        Raises:
            RpcError: The answer is an error.
        """

    def handler(self, method: str) -> Handler | None:
        """The handler of a request that takes time."""

    def notice(self, method: str, params: Any) -> None:
        """Take a notification."""


class Endpoint:
    """One connection's JSON-RPC state."""

    def __init__(self, outbox: Outbox, router: Router, task_group: TaskGroup) -> None:
        self._outbox = outbox
        self._router = router
        self._task_group = task_group
        self._running: dict[Id, anyio.CancelScope] = {}
        self._waiting: dict[Id, tuple[str, Handler, Any]] = {}
        self._asked: dict[str, asyncio.Future[Any]] = {}
        self._next_ask = 0
        self.initialized = False
        self.shut_down = False

    @property
    def running(self) -> int:
        """Requests that are not answered yet."""
        return len(self._running) + len(self._waiting)

    def receive(self, body: bytes) -> None:
        """Take one message body."""
        try:
            message = parse_json(body)
        except ValueError:
            self.respond_error(None, PARSE_ERROR, "The message is not JSON.")
            return
        problem = _what_is_wrong(message)
        if problem:
            identifier = message.get("id") if isinstance(message, dict) else None
            self.respond_error(
                identifier if _is_id(identifier) else None, INVALID_REQUEST, f"Invalid request: {problem}."
            )
            return
        if "method" not in message:
            self._receive_response(message)
        elif "id" in message:
            self._receive_request(message["id"], message["method"], message.get("params"))
        else:
            self._receive_notification(message["method"], message.get("params"))

    def respond_error(self, identifier: Id | None, code: int, message: str, data: Any = None) -> None:
        """Answer with an error; `None` as id where the id could not be read."""
        error: dict[str, Any] = {"code": code, "message": message}
        if data is not None:
            error["data"] = data
        self._send({"jsonrpc": "2.0", "id": identifier, "error": error})

    def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Send a notification."""
        self._send({"jsonrpc": "2.0", "method": method, "params": params})

    async def ask(self, method: str, params: Mapping[str, Any]) -> Any:
        """Send a request to the client and wait for its result.

        Raises:
            RpcError: The client answered with an error, or the connection is closing.
        """
        self._next_ask += 1
        identifier = f"ollm-{self._next_ask}"
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked[identifier] = future
        try:
            self._send({"jsonrpc": "2.0", "id": identifier, "method": method, "params": params})
            return await future
        finally:
            del self._asked[identifier]

    def cancel_all(self) -> None:
        """Cancel what is running; each request is still answered."""
        for identifier in list(self._waiting):
            self._cancel(identifier)
        for scope in list(self._running.values()):
            scope.cancel()
        for future in self._asked.values():
            if not future.done():
                future.set_exception(RpcError(REQUEST_CANCELLED, "The connection is closing."))

    def _receive_request(self, identifier: Id, method: str, params: Any) -> None:
        refusal = self._refusal(method)
        if refusal is None and (identifier in self._running or identifier in self._waiting):
            refusal = INVALID_REQUEST, "Invalid request: this id is in use by a request that is running."
        if refusal:
            self.respond_error(identifier, *refusal)
            return
        try:
            result = self._router.call_now(method, params)
            handler = None if result is not None else self._router.handler(method)
        except RpcError as error:
            self.respond_error(identifier, error.code, str(error), error.data)
            return
        except Exception:  # noqa: BLE001 - a fault costs one request
            self._respond_fault(identifier, method)
            return
        if result is not None:
            self._respond(identifier, result)
        elif handler is None:
            self.respond_error(identifier, METHOD_NOT_FOUND, f"There is no method {method[:200]}.")
        elif len(self._running) < MAX_RUNNING:
            self._start(identifier, method, handler, params)
        elif len(self._waiting) < MAX_WAITING:
            self._waiting[identifier] = (method, handler, params)
        else:
            self.respond_error(
                identifier, REQUEST_FAILED, "Too many requests are waiting.", {"kind": "limit"}
            )

    def _start(self, identifier: Id, method: str, handler: Handler, params: Any) -> None:
        scope = self._running[identifier] = anyio.CancelScope()
        self._task_group.start_soon(self._run, identifier, method, handler, params, scope)

    def _start_next(self) -> None:
        """A place is free: the request that has waited longest takes it."""
        identifier = next(iter(self._waiting), None)
        if identifier is not None:
            self._start(identifier, *self._waiting.pop(identifier))

    def _cancel(self, identifier: Any) -> None:
        """Cancel a request; one that waits for its turn is answered at once."""
        if self._waiting.pop(identifier, None):
            self.respond_error(identifier, REQUEST_CANCELLED, "The request was cancelled.")
        elif scope := self._running.get(identifier):
            scope.cancel()

    def _refusal(self, method: str) -> tuple[int, str] | None:
        """Why a request is not allowed at this point of the connection's life."""
        if self.shut_down:
            return INVALID_REQUEST, "Invalid request: shutdown was received."
        if not self.initialized and method != "initialize":
            return NOT_INITIALIZED, "The server is not initialized."
        if self.initialized and method == "initialize":
            return INVALID_REQUEST, "Invalid request: initialize was received before."
        return None

    async def _run(
        self, identifier: Id, method: str, handler: Handler, params: Any, scope: anyio.CancelScope
    ) -> None:
        """Run one request to its one answer."""
        answered = False
        try:
            with scope:
                result = await handler(params)
                # No await stands between the handler's end and the answer: a cancel comes too late.
                answered = True
                self._respond(identifier, result)
        except RpcError as error:
            answered = True
            self.respond_error(identifier, error.code, str(error), error.data)
        except Exception:  # noqa: BLE001 - a fault costs one request
            answered = True
            self._respond_fault(identifier, method)
        finally:
            del self._running[identifier]
            if not answered:
                self.respond_error(identifier, REQUEST_CANCELLED, "The request was cancelled.")
            self._start_next()

    def _respond(self, identifier: Id, result: bytes) -> None:
        body = b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (to_json(identifier), result)
        self._outbox.put(encode_frame(body))

    def _respond_fault(self, identifier: Id, method: str) -> None:
        logger.exception("a fault in %s", method)
        self.respond_error(
            identifier, INTERNAL_ERROR, "Internal error; the daemon's log says more.", {"kind": "internal"}
        )

    def _receive_notification(self, method: str, params: Any) -> None:
        if method == "$/cancelRequest":
            identifier = params.get("id") if isinstance(params, dict) else None
            if _is_id(identifier):
                self._cancel(identifier)
        elif self.initialized or method == "exit":
            with contained(method):
                self._router.notice(method, params)

    def _receive_response(self, message: Mapping[str, Any]) -> None:
        identifier = message["id"]
        future = self._asked.get(identifier) if isinstance(identifier, str) else None
        if future is None or future.done():
            return
        error = message.get("error")
        if error is None:
            future.set_result(message.get("result"))
        else:
            code = error.get("code") if isinstance(error, dict) else None
            text = error.get("message") if isinstance(error, dict) else None
            future.set_exception(
                RpcError(code if isinstance(code, int) else INTERNAL_ERROR, str(text or "no reason given"))
            )

    def _send(self, message: Mapping[str, Any]) -> None:
        self._outbox.put(encode_frame(to_json(message)))


def _is_id(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))


def _what_is_wrong(message: Any) -> str:
    """Why a JSON value is not a message of JSON-RPC 2.0; empty when it is one."""
    if isinstance(message, list):
        return "batches are not part of the language server protocol"
    if not isinstance(message, dict):
        return "a message is an object"
    if message.get("jsonrpc") != "2.0":
        return '`jsonrpc` is not "2.0"'
    if "method" in message:
        if not isinstance(message["method"], str):
            return "`method` is not text"
        if "id" in message and not _is_id(message["id"]):
            return "`id` is neither a number nor text"
        if not isinstance(message.get("params"), dict | list | None):
            return "`params` is neither an object nor an array"
        if "result" in message or "error" in message:
            return "a message is a request or a response, not both"
        return ""
    if "id" not in message or ("result" not in message) == ("error" not in message):
        return "neither a request nor a response"
    return ""
