"""The documents that a client has open, and where in them the user is.

What is said of documents before LSP's machinery is loaded waits in a backlog. A notification that is not
what LSP defines costs itself, and never a request that waits for the documents.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

import anyio

from ollm_daemon.completion.engine import CompletionEngine
from ollm_daemon.generation import StartSoon
from ollm_daemon.server.context import Document
from ollm_daemon.server.greeting import look_up

if TYPE_CHECKING:
    from ollm_daemon.server.lsp import LspState

logger = logging.getLogger(__name__)

ABOUT_DOCUMENTS = frozenset(
    {
        "textDocument/didOpen",
        "textDocument/didChange",
        "textDocument/didClose",
        "workspace/didChangeWorkspaceFolders",
    }
)
"""Notifications that pygls takes; all other methods come from our own table."""


class Documents:
    """One client's documents.

    Args:
        load: Makes the LSP state; slow the first time, and runs in a thread.
        start_soon: Starts a task that ends with the connection.
    """

    def __init__(self, load: Callable[[], LspState], start_soon: StartSoon) -> None:
        self._load = load
        self._start_soon = start_soon
        self._lsp: LspState | None = None
        self._backlog: list[tuple[str, Any]] = []
        self._loaded = anyio.Event()

    def notice(self, method: str, params: Any, engine: CompletionEngine) -> None:
        """Take in a notification about documents; `engine` is told where the user is."""
        self._backlog.append((method, params))
        if self._lsp is not None:
            self._take_in(self._lsp, engine)
        elif len(self._backlog) == 1:
            self._start_soon(self._loading(engine))

    def texts(self) -> dict[str, str]:
        """What is open now, by URI."""
        documents = self._lsp.documents if self._lsp else {}
        return {uri: document.source for uri, document in documents.items()}

    async def find(self, uri: str) -> Document | None:
        """An open document, once what has been said of documents is taken in."""
        if self._backlog:
            await self._loaded.wait()
        document = self._lsp.documents.get(uri) if self._lsp else None
        return Document(uri, document.language_id or "", document.source) if document else None

    def _loading(self, engine: CompletionEngine) -> Callable[[], Coroutine[Any, Any, None]]:
        async def load_lsp() -> None:
            try:
                self._lsp = await anyio.to_thread.run_sync(self._load)
                self._take_in(self._lsp, engine)
            finally:
                self._backlog.clear()
                self._loaded.set()

        return load_lsp

    def _take_in(self, lsp: LspState, engine: CompletionEngine) -> None:
        backlog, self._backlog = self._backlog, []
        for method, params in backlog:
            try:
                lsp.call(method, params)
                self._follow(method, params, engine)
            except Exception as error:  # noqa: BLE001 - pygls fails in its own ways on what is not LSP
                logger.warning("%s from the client is ignored: %s", method, type(error).__name__)

    def _follow(self, method: str, params: Mapping[str, Any], engine: CompletionEngine) -> None:
        """Remember where the user is, for what is offered at the cursor."""
        uri = look_up(params, "textDocument", "uri")
        if not isinstance(uri, str):
            return
        if method == "textDocument/didClose":
            engine.forget(uri)
            return
        places = engine.places
        if not places.uris or places.uris[-1] != uri:
            for left in places.uris[-1:]:
                places.leave(left, self.texts().get(left, ""))
            engine.entered(uri)
        changes = look_up(params, "contentChanges")
        last = changes[-1] if isinstance(changes, list) and changes else None
        line = look_up(last, "range", "start", "line")
        places.touch(uri, line if isinstance(line, int) else None)
