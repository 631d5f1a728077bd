"""One accepted client, from its first byte to its last.

Invariant: everything a client owns (its requests, documents, settings and frames) hangs on its
`Connection`, and ends when the connection does.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

import anyio
from pydantic import ValidationError
from pydantic_core import to_json

from ollm_daemon.completion.engine import CompletionEngine
from ollm_daemon.config.settings import ConfigProblem, RoutingRequest, Settings
from ollm_daemon.protocol.initialize import InitializationOptions
from ollm_daemon.protocol.state import ParamsProblem
from ollm_daemon.server import convert
from ollm_daemon.server.configuration import ConnectionConfiguration, SharedConfiguration
from ollm_daemon.server.context import Context, DaemonFacts, Document
from ollm_daemon.server.dispatch import bind
from ollm_daemon.server.endpoint import (
    INVALID_REQUEST,
    PARSE_ERROR,
    Endpoint,
    Handler,
    RpcError,
)
from ollm_daemon.server.framing import FrameDecoder, FramingError
from ollm_daemon.server.greeting import initialize_result, look_up, position_encoding
from ollm_daemon.server.outbox import Outbox
from ollm_daemon.server.platforms import watching_process

if TYPE_CHECKING:
    from ollm_daemon.server.lsp import LspState

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 0.5
"""How long a leaving client may take to read what it is still owed."""
ABOUT_DOCUMENTS = frozenset(
    {
        "textDocument/didOpen",
        "textDocument/didChange",
        "textDocument/didClose",
        "workspace/didChangeWorkspaceFolders",
    }
)
"""Notifications that pygls takes; all other methods come from our own table."""
ALLOW = "Allow"
IGNORE = "Ignore"
_MESSAGE_TYPES = {"error": 1, "warning": 2}
_CLIENT_LAYERS = {
    "userSettings": "editor user settings",
    "workspaceSettings": "editor workspace settings",
    "flags": "flags",
}
"""Keys of initializationOptions, and of pushed settings that are told apart, → layers."""
_LAYER_FIELDS = {"user_settings", "workspace_settings", "flags"}


class Host(SharedConfiguration, DaemonFacts, Protocol):
    """The daemon, as a connection sees it."""

    def new_lsp_state(self, initialize_params: Any) -> LspState:
        """LSP state that shares the daemon's converter. Slow the first time, and may run in a thread."""

    def serving(self, connection: Connection) -> AbstractContextManager[None]:
        """Count the connection for the length of the block."""


class Connection:
    """State of one client. Transports call `receive`, `end` and `run`."""

    def __init__(self, host: Host, outbox: Outbox, *, token: str | None = None, greeted: Any = None) -> None:
        """Begin with a client that has yet to say `initialize`, or that was greeted with these params."""
        self.outbox = outbox
        self.exit_code = 1
        self._host = host
        self._token = token
        self._decoder = FrameDecoder(strict=token is not None)
        self._ended = anyio.Event()
        self._endpoint: Endpoint | None = None
        self._unread: list[bytes] = []
        self._resources = ExitStack()
        self._greeted = greeted
        self._client: dict[str, Any] = {}
        self._lsp: LspState | None = None
        self._lsp_backlog: list[tuple[str, Any]] = []
        self._lsp_loaded = anyio.Event()
        self.configuration = ConnectionConfiguration(host, self)
        self._context: Context | None = None

    @property
    def authenticated(self) -> bool:
        """Whether the client showed the token, where one is needed."""
        return self._token is None

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
        async with anyio.create_task_group() as task_group:
            self._task_group = task_group
            self._resources.enter_context(self._host.serving(self))
            self._endpoint = Endpoint(self.outbox, self, task_group)
            self._context = Context(
                configuration=self.configuration,
                outbox=self.outbox,
                daemon=self._host,
                start_soon=task_group.start_soon,
                notify=self._endpoint.notify,
                session=secrets.token_hex(16),
                work={},
                completion=CompletionEngine(
                    self._open_texts,
                    task_group.start_soon,
                    self._completion_changed,
                    self._host.completion_statistics,
                ),
                document=self._document,
                encoding=lambda: position_encoding(self._client),
            )
            if self._greeted is not None:
                self._welcome(self._greeted, _initialization_options(self._greeted, lenient=True))
            unread, self._unread = self._unread, []
            for data in unread:
                self.receive(data)
            await self._ended.wait()
            self._endpoint.cancel_all()
            task_group.cancel_scope.cancel()
            self._resources.close()
        await self.outbox.close(FLUSH_SECONDS)

    def receive(self, data: bytes) -> None:
        """Take bytes from the client. Never raises, never waits."""
        if self._endpoint is None:
            self._unread.append(data)
            return
        self._decoder.add(data)
        try:
            while not self._ended.is_set() and (body := self._decoder.take()) is not None:
                self._endpoint.receive(body)
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
            self._begin_pull()
        elif method == "workspace/didChangeConfiguration":
            self._take_settings(params)
        elif method == "window/workDoneProgress/cancel":
            self._stop_work(params)
        elif method == "ollm/completion/feedback":
            self._take_feedback(params)
        elif method in ABOUT_DOCUMENTS:
            self._lsp_backlog.append((method, params))
            if self._lsp is not None:
                self._take_lsp_backlog(self._lsp)
            elif len(self._lsp_backlog) == 1:
                self._task_group.start_soon(self._load_lsp)

    def _follow(self, method: str, params: Any) -> None:
        """Remember where the user is, for what is offered at the cursor."""
        uri = look_up(params, "textDocument", "uri")
        if self._context is None or not isinstance(uri, str):
            return
        places = self._context.completion.places
        if method == "textDocument/didClose":
            self._context.completion.forget(uri)
            return
        if places.uris and places.uris[-1] != uri:
            left = places.uris[-1]
            places.leave(left, self._open_texts().get(left, ""))
        changes = look_up(params, "contentChanges")
        last = changes[-1] if isinstance(changes, list) and changes else None
        line = look_up(last, "range", "start", "line")
        places.touch(uri, line if isinstance(line, int) else None)

    def _open_texts(self) -> dict[str, str]:
        documents = self._lsp.documents if self._lsp else {}
        return {uri: document.source for uri, document in documents.items()}

    async def _document(self, uri: str) -> Document | None:
        """An open document, once what has been said of documents is taken in."""
        if self._lsp_backlog:
            await self._lsp_loaded.wait()
        document = self._lsp.documents.get(uri) if self._lsp else None
        return Document(uri, document.language_id or "", document.source) if document else None

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

    async def _load_lsp(self) -> None:
        """Import what documents need, beside the loop, and take in what has been said meanwhile."""
        self._lsp = await anyio.to_thread.run_sync(self._host.new_lsp_state, self._client)
        self._take_lsp_backlog(self._lsp)
        self._lsp_loaded.set()

    def _take_lsp_backlog(self, lsp: LspState) -> None:
        backlog, self._lsp_backlog = self._lsp_backlog, []
        for method, params in backlog:
            try:
                lsp.call(method, params)
                self._follow(method, params)
            except (ValueError, KeyError) as error:
                logger.warning("%s from the client is ignored: %s", method, type(error).__name__)

    def _initialize(self, params: Any) -> bytes:
        try:
            options = _initialization_options(params)
        except RpcError:
            if not self.authenticated:
                self.end()
            raise
        if not self._check_token(options.token):
            self.end()
            raise RpcError(
                INVALID_REQUEST,
                "The token is missing or wrong: send the daemon's token as initializationOptions.token.",
            )
        if not isinstance(params, dict):
            raise convert.wrong_params("initialize", [ParamsProblem(key="", message="an object is expected")])
        self._welcome(params, options)
        return to_json(initialize_result(params))

    def _welcome(self, params: dict[str, Any], options: InitializationOptions) -> None:
        """Take in what the client says of itself."""
        assert self._endpoint is not None
        self._endpoint.initialized = True
        self._client = params
        self.configuration.set_workspace(_folder_of(_root_uri(params)))
        for key, data in options.model_dump(by_alias=True, include=_LAYER_FIELDS).items():
            if data is not None:
                self.configuration.set_client_layer(_CLIENT_LAYERS[key], data)
        if not self._can_pull:
            self.configuration.no_pull()
        process_id = params.get("processId")
        if isinstance(process_id, int) and process_id > 0:
            self._resources.enter_context(watching_process(process_id, self.end))

    def _check_token(self, shown: str | None) -> bool:
        if self._token is not None:
            if shown is None or not hmac.compare_digest(shown.encode(), self._token.encode()):
                return False
            self._token = None
        return True

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

    def _begin_pull(self) -> None:
        if self._can_pull:
            self._task_group.start_soon(self.configuration.pull)
        else:
            self.configuration.no_pull()

    def _take_settings(self, params: Any) -> None:
        settings = params.get("settings") if isinstance(params, dict) else None
        ours = settings.get("ollm") if isinstance(settings, dict) else None
        if isinstance(ours, dict):
            scoped = ours.keys() & _CLIENT_LAYERS.keys()
            if scoped:
                for key in scoped:
                    self.configuration.set_client_layer(_CLIENT_LAYERS[key], ours[key] or {})
            else:
                self.configuration.set_client_layer("editor workspace settings", ours)
            self._task_group.start_soon(self.configuration.changed)
        elif self._can_pull:
            self._task_group.start_soon(self._pull_again)

    async def _pull_again(self) -> None:
        await self.configuration.pull()
        await self.configuration.changed()

    # the voice of the configuration

    async def pull_settings(self) -> Any:
        """As `ClientVoice.pull_settings`, by `workspace/configuration`."""
        assert self._endpoint is not None
        try:
            answer = await self._endpoint.ask("workspace/configuration", {"items": [{"section": "ollm"}]})
        except RpcError:
            return None
        return answer[0] if isinstance(answer, list) and answer else None

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


def _initialization_options(params: Any, *, lenient: bool = False) -> InitializationOptions:
    """What a client says of itself. One that was greeted has its answer: what is wrong counts as unsaid."""
    raw = look_up(params, "initializationOptions")
    try:
        return InitializationOptions.model_validate(raw if isinstance(raw, dict) else {})
    except ValidationError as error:
        if lenient:
            return InitializationOptions()
        raise convert.invalid_params("initialize", error) from None


def _root_uri(params: dict[str, Any]) -> str | None:
    """The first workspace folder, else the root."""
    folders = params.get("workspaceFolders")
    first = look_up(folders[0], "uri") if isinstance(folders, list) and folders else None
    found = first or params.get("rootUri")
    if found is None and isinstance(params.get("rootPath"), str):
        found = Path(params["rootPath"]).absolute().as_uri()
    return found if isinstance(found, str) else None


def _folder_of(uri: str | None) -> Path | None:
    """The folder of a file URI; other schemes have no folder that could be read."""
    if not uri:
        return None
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        return None
    return Path(url2pathname(parts.path))
