"""METHODS × handlers: raw params in, validated call, JSON text out.

The one place where a named failure becomes an error response. A method without a handler, or a handler
without a row in METHODS, fails here at import.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from ollm_daemon.errors import OllmError
from ollm_daemon.protocol.methods import METHODS
from ollm_daemon.protocol.state import ParamsProblem
from ollm_daemon.server import convert
from ollm_daemon.server.completion_handlers import LSP_HANDLERS
from ollm_daemon.server.context import Context
from ollm_daemon.server.endpoint import Handler
from ollm_daemon.server.handlers import HANDLERS

_REQUESTS = {name for name, method in METHODS.items() if method.sender == "client" and method.result}
if set(HANDLERS) != _REQUESTS:
    raise ImportError(f"methods and handlers differ: {sorted(_REQUESTS ^ set(HANDLERS))}")


def bind(context: Context, method: str) -> Handler | None:
    """The handler of a method for one connection, or `None` for a method that is not ours."""
    if method in LSP_HANDLERS:
        return _bind_lsp(context, method)
    function = HANDLERS.get(method)
    if function is None:
        return None
    params_type = METHODS[method].params

    async def call(params: Any) -> bytes:
        if isinstance(params, list):
            raise convert.wrong_params(method, [ParamsProblem(key="", message="an object is expected")])
        try:
            validated = params_type.model_validate(params if params is not None else {})
        except ValidationError as error:
            raise convert.invalid_params(method, error) from None
        try:
            result = await function(context, validated)
        except OllmError as error:
            raise convert.to_rpc_error(error) from error
        return result.model_dump_json(by_alias=True, exclude_none=True).encode()

    return call


def _bind_lsp(context: Context, method: str) -> Handler:
    """The handler of one of LSP's own methods, whose params are plain data."""
    function = LSP_HANDLERS[method]

    async def call(params: Any) -> bytes:
        try:
            return to_json(await function(context, params))
        except OllmError as error:
            raise convert.to_rpc_error(error) from error

    return call
