"""What each method of ours does: thin functions between wire types and the features below."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ollm_daemon.errors import ConfigError
from ollm_daemon.generation import StartSoon, choose_model, run_chat
from ollm_daemon.protocol import chat, state
from ollm_daemon.protocol.base import WireModel
from ollm_daemon.providers.base import ProviderAdapter
from ollm_daemon.server import convert
from ollm_daemon.server.configuration import ConnectionConfiguration, Resolved
from ollm_daemon.server.deltas import delta_sink
from ollm_daemon.server.outbox import Outbox


class DaemonFacts(Protocol):
    """What `ollm/status` tells, and the choice made for users who chose nothing."""

    def status(self) -> state.StatusResult:
        """The daemon's state."""

    async def default_provider(self, resolved: Resolved) -> tuple[ProviderAdapter, str | None]:
        """The provider when nobody configured one, and what to tell the user about it."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler may use of its connection."""

    configuration: ConnectionConfiguration
    outbox: Outbox
    daemon: DaemonFacts
    start_soon: StartSoon


async def answer_chat(context: Context, params: chat.ChatParams) -> chat.ChatResult:
    """`ollm/chat`."""
    resolved = await context.configuration.current()
    adapter, model, notices = await _target(context, resolved, params)
    request = convert.to_chat_request(params, model, resolved.settings.options)
    with delta_sink(context.outbox, params.stream_token, params.min_interval_ms or 0) as sink:
        result = await run_chat(adapter, request, sink, context.start_soon)
    return convert.from_result(replace(result, warnings=(*notices, *result.warnings)))


async def _target(
    context: Context, resolved: Resolved, params: chat.ChatParams
) -> tuple[ProviderAdapter, str, list[str]]:
    """Provider and model of a request, and what the user should know about the choice."""
    notices: list[str] = []
    wanted = params.model or resolved.settings.model
    adapter, model = await _resolve(context, resolved, params.provider, wanted, notices)
    if model is None:
        model, notice = await choose_model(adapter)
        if notice:
            notices.append(notice)
    return adapter, model, notices


async def _resolve(
    context: Context, resolved: Resolved, provider: str | None, model: str | None, notices: list[str]
) -> tuple[ProviderAdapter, str | None]:
    settings, registry = resolved.settings, resolved.registry
    is_default = provider is None and settings.origin_of("provider").layer == "default"
    adapter, model = registry.resolve_model(provider or settings.provider, model)
    if is_default and adapter.name == settings.provider:
        adapter, notice = await context.daemon.default_provider(resolved)
        if notice:
            notices.append(notice)
    refusal = settings.refusals.get(adapter.name)
    is_asked_for = provider is not None and registry.resolve(provider) is adapter
    if refusal and not is_asked_for:
        raise ConfigError(
            refusal,
            hint=f"Approve it with `ollm trust`, or set `providers.{adapter.name}.selectable: true` "
            "in your own configuration.",
        )
    return adapter, model


async def list_models(context: Context, params: state.ModelsListParams) -> state.ModelsListResult:
    """`ollm/models/list`."""
    resolved = await context.configuration.current()
    adapter, _ = await _resolve(context, resolved, params.provider, None, [])
    models = await adapter.list_models()
    return state.ModelsListResult(
        provider=adapter.name, models=[convert.from_model(model) for model in models]
    )


async def list_providers(context: Context, params: state.NoParams) -> state.ProvidersListResult:
    """`ollm/providers/list`."""
    resolved = await context.configuration.current()
    registry = resolved.registry
    try:
        default = registry.resolve(resolved.settings.provider).name
    except ConfigError:
        default = ""
    providers = []
    for adapter in registry.providers():
        can = adapter.capabilities
        providers.append(
            state.ProviderInfo(
                name=adapter.name,
                kind=resolved.settings.providers[adapter.name].kind,
                base_url=adapter.base_url or None,
                backend=adapter.backend.title,
                streaming_format=adapter.streaming_format,
                is_default=adapter.name == default,
                capabilities=state.ProviderCapabilities(
                    list_models=can.list_models,
                    pull_models=can.pull_models,
                    delete_models=can.delete_models,
                    tools=can.tools,
                    images=can.images,
                    response_formats=sorted(can.response_formats - {"text"}),
                ),
            )
        )
    aliases = [
        state.AliasInfo(alias=alias, provider=target.provider, model=target.model)
        for alias, target in sorted(registry.aliases.items())
    ]
    return state.ProvidersListResult(providers=providers, aliases=aliases)


async def get_config(context: Context, params: state.NoParams) -> state.ConfigGetResult:
    """`ollm/config/get`."""
    settings = (await context.configuration.current()).settings
    return state.ConfigGetResult(
        settings=[convert.from_setting(setting) for setting in settings.effective],
        problems=[convert.from_problem(problem) for problem in settings.problems],
    )


async def get_trust(context: Context, params: state.NoParams) -> state.TrustGetResult:
    """`ollm/trust/get`."""
    settings = (await context.configuration.current()).settings
    return state.TrustGetResult(pending=[convert.from_routing(request) for request in settings.pending])


async def approve_trust(context: Context, params: state.TrustApproveParams) -> state.TrustApproveResult:
    """`ollm/trust/approve`."""
    try:
        approved = await context.configuration.approve(params.digest)
    except OSError as error:
        raise ConfigError(
            f"The approval cannot be kept: {error.strerror or error}.",
            hint="Make the state folder writable (XDG_STATE_HOME, or ~/.local/state).",
        ) from error
    return state.TrustApproveResult(approved=approved)


async def get_status(context: Context, params: state.NoParams) -> state.StatusResult:
    """`ollm/status`."""
    return context.daemon.status()


HANDLERS: Mapping[str, Callable[[Context, Any], Awaitable[WireModel]]] = {
    "ollm/chat": answer_chat,
    "ollm/models/list": list_models,
    "ollm/providers/list": list_providers,
    "ollm/config/get": get_config,
    "ollm/trust/get": get_trust,
    "ollm/trust/approve": approve_trust,
    "ollm/status": get_status,
}
