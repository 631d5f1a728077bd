"""One accepted client, from its first byte to its last.

Invariant: everything a client owns (its requests, documents, settings and frames) hangs on its
`Connection`, and ends when the connection does. A fault costs one action of this client, at most the
connection, and never another client.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import TYPE_CHECKING, Any, Protocol

import anyio
from anyio.abc import TaskGroup
from pydantic import ValidationError
from pydantic_core import to_json

from ollm_daemon.completion.engine import CompletionEngine
from ollm_daemon.config.settings import ConfigProblem, RoutingRequest, Settings
from ollm_daemon.errors import ConfigError
from ollm_daemon.protocol.initialize import InitializationOptions
from ollm_daemon.protocol.state import ParamsProblem
from ollm_daemon.server import convert
from ollm_daemon.server.configuration import ConnectionConfiguration, SharedConfiguration
from ollm_daemon.server.context import Context, DaemonFacts, find_named
from ollm_daemon.server.dispatch import bind
from ollm_daemon.server.documents import ABOUT_DOCUMENTS, Documents
from ollm_daemon.server.endpoint import (
    INVALID_REQUEST,
    PARSE_ERROR,
    Endpoint,
    Handler,
    RpcError,
)
from ollm_daemon.server.faults import contained
from ollm_daemon.server.framing import MAX_BODY, FrameDecoder, FramingError
from ollm_daemon.server.greeting import initialize_result, look_up, position_encoding
from ollm_daemon.server.outbox import Outbox
from ollm_daemon.server.platforms import watching_process
from ollm_daemon.server.workspace import workspace_folder

if TYPE_CHECKING:
    from ollm_daemon.server.lsp import LspState

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 0.5
"""How long a leaving client may take to read what it is still owed."""
ALLOW = "Allow"
IGNORE = "Ignore"
_MESSAGE_TYPES = {"error": 1, "warning": 2}
WORKSPACE_SETTINGS = "editor workspace settings"
"""The layer of what an editor pushes or is asked for: many editors fill it from files of the repository."""
AHEAD_SECONDS = 0.25
"""Quiet after `initialized` before the server is met: a client that begins at once has its own way there."""
MAX_FIRST_BODY = 256 << 10
"""Bytes of the message that shows the token; whoever has not shown it may not make the daemon hold more."""


class Host(SharedConfiguration, DaemonFacts, Protocol):
    """The daemon, as a connection sees it."""

    def new_lsp_state(self, initialize_params: Any) -> LspState:
        """LSP state that shares the daemon's converter. Slow the first time, and may run in a thread."""

    def serving(self, connection: Connection) -> AbstractContextManager[None]:
        """Count the connection for the length of the block."""


class Door(Protocol):
    """Who decides whether a client may come in."""

    def admit(self, connection: Connection, token: str | None) -> str:
        """Why the client stays out; empty when it is in."""


class Connection:
    """State of one client. Transports call `receive`, `end` and `run`."""

    def __init__(
        self, host: Host, outbox: Outbox, *, door: Door | None = None, greeted: dict[str, Any] | None = None
    ) -> None:
        """Begin with a client that has yet to say `initialize`, or that was greeted with these params.

        Args:
            door: Whom to show the client's token first. Without one the client started the daemon itself.
        """
        self.outbox = outbox
        self.exit_code = 1
        self._host = host
        self._door = door
        self._is_child = door is None
        self._decoder = FrameDecoder(strict=door is not None, max_body=MAX_FIRST_BODY if door else MAX_BODY)
        self._ended = anyio.Event()
        self._endpoint: Endpoint | None = None
        self._unread: list[bytes] = []
        self._resources = ExitStack()
        self._greeted = greeted
        self._client: dict[str, Any] = {}
        self._documents = Documents(self._new_lsp, self.start_soon)
        self.configuration = ConnectionConfiguration(host, self)
        self._context: Context | None = None

    @property
    def authenticated(self) -> bool:
        """Whether the client showed the token, where one is needed."""
        return self._door is None

    @property
    def in_message(self) -> bool:
        """Whether part of a message has arrived and the rest has not."""
        return self._decoder.in_message

    @property
    def running(self) -> int:
        """Requests that are not answered yet."""
        return self._endpoint.running if self._endpoint else 0

    async def run(self) -> None:
        """Serve until the client leaves; on return nothing of the connection is left."""
        try:
            async with anyio.create_task_group() as task_group:
                self._begin(task_group)
                await self._ended.wait()
                if self._endpoint:
                    self._endpoint.cancel_all()
                task_group.cancel_scope.cancel()
                self._resources.close()
        finally:
            self._resources.close()
        await self.outbox.close(FLUSH_SECONDS)

    def _begin(self, task_group: TaskGroup) -> None:
        self._task_group = task_group
        self._resources.enter_context(self._host.serving(self))
        self._endpoint = Endpoint(self.outbox, self, task_group)
        self._context = Context(
            configuration=self.configuration,
            outbox=self.outbox,
            daemon=self._host,
            start_soon=self.start_soon,
            notify=self._endpoint.notify,
            session=secrets.token_hex(16),
            work={},
            completion=CompletionEngine(
                self._documents.texts,
                self.start_soon,
                self._completion_changed,
                self._host.completion_statistics,
            ),
            document=self._documents.find,
            encoding=lambda: position_encoding(self._client),
        )
        if self._greeted is not None:
            # What is wrong in it cannot be refused any more: the layers tell it as problems.
            with contained("initialize"):
                self._welcome(self._greeted, look_up(self._greeted, "initializationOptions"))
        unread, self._unread = self._unread, []
        for data in unread:
            self.receive(data)

    def start_soon(self, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task that ends with the connection; a fault in it is logged and ends it alone."""
        self._task_group.start_soon(_run_contained, action)

    def receive(self, data: bytes) -> None:
        """Take bytes from the client; never waits. Bytes that are not frames end the connection."""
        if self._endpoint is None:
            self._unread.append(data)
            return
        if self._ended.is_set():
            return
        self._decoder.add(data)
        try:
            while not self._ended.is_set() and (body := self._decoder.take()) is not None:
                self._endpoint.receive(body)
                if not self.authenticated:
                    self.end()
        except FramingError as error:
            if not error.foreign and self.authenticated:
                self._endpoint.respond_error(None, PARSE_ERROR, f"Parse error: {error}.")
            self.end()

    def end(self) -> None:
        """The client is gone, or has to go."""
        self._ended.set()

    # the router of the endpoint

    def call_now(self, method: str, params: Any) -> bytes | None:
        """As `Router.call_now`: the life cycle is answered at once."""
        if method == "initialize":
            return self._initialize(params)
        return self._shut_down() if method == "shutdown" else None

    def handler(self, method: str) -> Handler | None:
        """As `Router.handler`."""
        assert self._context is not None
        return bind(self._context, method)

    def notice(self, method: str, params: Any) -> None:
        """As `Router.notice`; unknown notifications are ignored, as LSP wants."""
        if method == "exit":
            self.exit_code = 0 if self._endpoint and self._endpoint.shut_down else 1
            self.end()
        elif method == "initialized":
            if self._can_pull:
                self.start_soon(self._pull_settings)
            self.start_soon(self._connect_ahead)
        elif method == "workspace/didChangeConfiguration":
            self._take_settings(params)
        elif method == "window/workDoneProgress/cancel":
            self._stop_work(params)
        elif method == "ollm/completion/feedback":
            self._take_feedback(params)
        elif method in ABOUT_DOCUMENTS:
            assert self._context is not None
            self._documents.notice(method, params, self._context.completion)

    def _completion_changed(self, state: str, message: str) -> None:
        self.tell("ollm/completion/didChange", {"state": state, **({"message": message} if message else {})})

    def _take_feedback(self, params: Any) -> None:
        if self._context is None:
            return
        statistics, event = self._context.completion.statistics, look_up(params, "event")
        statistics.accepted += event in ("accepted", "partiallyAccepted")
        statistics.rejected += event == "rejected"

    def _stop_work(self, params: Any) -> None:
        token = params.get("token") if isinstance(params, dict) else None
        scope = self._context.work.get(token) if self._context and isinstance(token, str | int) else None
        if scope:
            scope.cancel()

    def tell(self, method: str, params: Mapping[str, Any]) -> None:
        """Send a notification, if the client has been initialized."""
        if self._endpoint and self._endpoint.initialized:
            self._endpoint.notify(method, params)

    def _new_lsp(self) -> LspState:
        """Tells pygls what the client was promised, not what it said: that need not be what LSP defines."""
        encodings = {"general": {"positionEncodings": [position_encoding(self._client)]}}
        return self._host.new_lsp_state({"processId": None, "rootUri": None, "capabilities": encodings})

    def _initialize(self, params: Any) -> bytes:
        raw = look_up(params, "initializationOptions")
        try:
            options = InitializationOptions.model_validate(raw if isinstance(raw, dict) else {})
        except ValidationError as error:
            raise convert.invalid_params("initialize", error) from None
        if self._door is not None:
            refusal = self._door.admit(self, options.token)
            if refusal:
                raise RpcError(INVALID_REQUEST, refusal)
            self._door = None
            self._decoder.max_body = MAX_BODY
        if not isinstance(params, dict):
            raise convert.wrong_params("initialize", [ParamsProblem(key="", message="an object is expected")])
        self._welcome(params, raw)
        return to_json(initialize_result(params))

    def _welcome(self, params: dict[str, Any], options: Any) -> None:
        """Take in what the client says of itself."""
        assert self._endpoint is not None
        self._endpoint.initialized = True
        self._client = params
        self.configuration.set_workspace(workspace_folder(params))
        if isinstance(options, dict):
            self.configuration.set_client_layers(options)
        if self._can_pull:
            self.configuration.expect_pull()
        process_id = params.get("processId")
        # The number of a process means nothing to us when the client may run elsewhere.
        if self._is_child and isinstance(process_id, int) and process_id > 0:
            self._resources.enter_context(watching_process(process_id, self.end))

    def _shut_down(self) -> bytes:
        assert self._endpoint is not None
        self._endpoint.shut_down = True
        self._endpoint.cancel_all()
        return b"null"

    @property
    def _can_pull(self) -> bool:
        return look_up(self._client, "capabilities", "workspace", "configuration") is True

    @property
    def _can_ask(self) -> bool:
        return isinstance(look_up(self._client, "capabilities", "window", "showMessage"), dict)

    def _take_settings(self, params: Any) -> None:
        """`workspace/didChangeConfiguration`: the settings, or only word that there are others now."""
        settings = params.get("settings") if isinstance(params, dict) else None
        if isinstance(settings, dict) and "ollm" in settings:
            self.configuration.set_client_layer(WORKSPACE_SETTINGS, settings["ollm"])
            self.configuration.changed()
        elif self._can_pull:
            self.start_soon(self._pull_settings)

    async def _pull_settings(self) -> None:
        """Ask the client for its settings; an error is no answer, and what is known stays."""
        assert self._endpoint is not None
        try:
            answer = await self._endpoint.ask("workspace/configuration", {"items": [{"section": "ollm"}]})
            data = answer[0] if isinstance(answer, list) and answer else None
            self.configuration.set_client_layer(WORKSPACE_SETTINGS, data)
            self.configuration.changed()
        except RpcError:
            pass
        finally:
            self.configuration.end_pull()

    async def _connect_ahead(self) -> None:
        """Meet the server before the first request does; what goes wrong is left to that request."""
        await anyio.sleep(AHEAD_SECONDS)
        if self.configuration.needed:
            return
        resolved = await self.configuration.ahead()
        with suppress(ConfigError):
            adapter = find_named(resolved, None, None, configured=resolved.settings.model).adapter
            if adapter.name not in resolved.settings.refusals:
                await adapter.connect_ahead()

    # the voice of the configuration

    @property
    def can_ask(self) -> bool:
        """As `ClientVoice.can_ask`."""
        return self._can_ask and self._endpoint is not None

    async def ask_approval(self, request: RoutingRequest) -> bool:
        """As `ClientVoice.ask_approval`, by `window/showMessageRequest`."""
        if not self._can_ask or self._endpoint is None:
            return False
        params = {
            "type": _MESSAGE_TYPES["warning"],
            "message": f"{request.question} Allow it? It is written in {request.source}.",
            "actions": [{"title": ALLOW}, {"title": IGNORE}],
        }
        try:
            answer = await self._endpoint.ask("window/showMessageRequest", params)
        except RpcError:
            return False
        return isinstance(answer, dict) and answer.get("title") == ALLOW

    def show_problem(self, problem: ConfigProblem) -> None:
        """As `ClientVoice.show_problem`, by `window/showMessage`."""
        if self._endpoint:
            message = f"{problem} {problem.hint}".strip()
            self._endpoint.notify(
                "window/showMessage", {"type": _MESSAGE_TYPES[problem.severity], "message": message}
            )

    def settings_changed(self, settings: Settings) -> None:
        """As `ClientVoice.settings_changed`."""
        if self._context:
            self._context.completion.settings_changed()
        if self._endpoint:
            problems = [
                convert.from_problem(problem).model_dump(by_alias=True, exclude_none=True)
                for problem in settings.problems
            ]
            self._endpoint.notify("ollm/config/didChange", {"problems": problems})


async def _run_contained(action: Callable[[], Awaitable[None]]) -> None:
    with contained(getattr(action, "__qualname__", "a task")):
        await action()
