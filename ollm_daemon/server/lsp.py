"""What pygls does for us: LSP types, and the documents of one client in any position encoding.

pygls is used as a library of state, not as a server: its own reader, writer, dispatch and `exit`
are never run (they serve one client, leave requests unanswered and end the process). One
`LanguageServer` per connection; all of them share one converter, which is costly to build.

Importing this module takes longer than everything else together, so it is imported when a client first
speaks of documents (see `Connection`).
"""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Any, cast

from cattrs import Converter
from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol, default_converter
from pygls.workspace import TextDocument

from ollm_daemon import __version__


class LspState:
    """The LSP side of one connection."""

    def __init__(self, converter: Converter, initialize_params: Any) -> None:
        self._converter = converter
        self._server = LanguageServer(
            "ollm-daemon",
            __version__,
            protocol_cls=_Protocol,
            converter_factory=lambda: converter,
        )
        self._protocol = cast("_Protocol", self._server.protocol)
        self.capabilities: dict[str, Any] = self.call("initialize", initialize_params)["capabilities"]

    def call(self, method: str, params: Any) -> Any:
        """Run one built-in method to its end and give its result as plain data.

        Raises:
            ValueError: The params are not what LSP defines for the method.
        """
        message_type = types.METHOD_TO_TYPES[method][0]
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "id": 0}
        if params is not None:
            message["params"] = params
        try:
            structured: Any = self._converter.structure(message, message_type).params
        except Exception as error:
            raise ValueError(f"not what LSP defines for {method}") from error
        result = self._protocol.run_builtin(method, structured)
        return self._converter.unstructure(result)

    @property
    def documents(self) -> dict[str, TextDocument]:
        """Documents the client has open, by URI."""
        return dict(self._server.workspace.text_documents)


class _Protocol(LanguageServerProtocol):
    # pygls caches these two with lru_cache on methods, which keeps closed connections alive.
    def get_message_type(self, method: str) -> Any:  # type: ignore[override]
        return types.METHOD_TO_TYPES.get(method, (None,))[0]

    def get_result_type(self, method: str) -> Any:  # type: ignore[override]
        return types.METHOD_TO_TYPES.get(method, (None, None))[1]

    def run_builtin(self, method: str, params: Any) -> Any:
        """Run a built-in handler; those in the tables above end before this returns."""
        outcomes: list[Future[Any]] = []
        self._execute_handler(method, self._get_handler(method), outcomes.append, (params,))
        self._request_futures.clear()
        return outcomes[0].result()


def make_converter() -> Converter:
    """The converter that all connections share."""
    for name in ("pygls", "cattrs"):
        logging.getLogger(name).setLevel(logging.WARNING)
    converter: Converter = default_converter()  # type: ignore[no-untyped-call]
    return converter
