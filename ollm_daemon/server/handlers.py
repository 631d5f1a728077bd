"""What each method of ours does: thin functions between wire types and the features below."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from ollm_daemon.generation import run_chat
from ollm_daemon.protocol import chat, state
from ollm_daemon.protocol.base import WireModel
from ollm_daemon.server import convert, model_handlers
from ollm_daemon.server.completion_handlers import answer_infill, check_privacy
from ollm_daemon.server.context import Context, candidates
from ollm_daemon.server.deltas import delta_sink
from ollm_daemon.server.images import load_images


async def answer_chat(context: Context, params: chat.ChatParams) -> chat.ChatResult:
    """`ollm/chat`."""
    resolved = await context.configuration.current()
    found, notices = await candidates(context, resolved, params.provider, params.model)
    params = await load_images(params)
    session = _session(context, params.conversation_id)
    request = convert.to_chat_request(params, resolved.settings.options, session)
    with delta_sink(context.outbox, params.stream_token, params.min_interval_ms or 0) as sink:
        result = await run_chat(found, request, sink, context.start_soon)
    return convert.from_result(replace(result, warnings=(*notices, *result.warnings)))


def _session(context: Context, conversation: str | None) -> str:
    """A name for a conversation that tells a server nothing of the client's own."""
    if conversation is None:
        return context.session
    return hashlib.sha256(f"{context.session} {conversation}".encode()).hexdigest()[:32]


async def get_config(context: Context, params: state.NoParams) -> state.ConfigGetResult:
    """`ollm/config/get`."""
    settings = (await context.configuration.current()).settings
    return state.ConfigGetResult(
        settings=[convert.from_setting(setting) for setting in settings.effective],
        problems=[convert.from_problem(problem) for problem in settings.problems],
    )


async def set_config(context: Context, params: state.ConfigSetParams) -> state.ConfigSetResult:
    """`ollm/config/set`."""
    context.configuration.set_client_layers(params.model_dump(by_alias=True))
    context.configuration.changed()
    settings = (await context.configuration.current()).settings
    return state.ConfigSetResult(problems=[convert.from_problem(problem) for problem in settings.problems])


async def get_trust(context: Context, params: state.NoParams) -> state.TrustGetResult:
    """`ollm/trust/get`."""
    settings = (await context.configuration.current()).settings
    return state.TrustGetResult(pending=[convert.from_routing(request) for request in settings.pending])


async def approve_trust(context: Context, params: state.TrustApproveParams) -> state.TrustApproveResult:
    """`ollm/trust/approve`."""
    return state.TrustApproveResult(approved=context.configuration.approve(params.digest))


async def get_status(context: Context, params: state.NoParams) -> state.StatusResult:
    """`ollm/status`."""
    return context.daemon.status()


HANDLERS: Mapping[str, Callable[[Context, Any], Awaitable[WireModel]]] = {
    "ollm/chat": answer_chat,
    "ollm/infill": answer_infill,
    "ollm/privacy/check": check_privacy,
    **model_handlers.HANDLERS,
    "ollm/config/get": get_config,
    "ollm/config/set": set_config,
    "ollm/trust/get": get_trust,
    "ollm/trust/approve": approve_trust,
    "ollm/status": get_status,
}
