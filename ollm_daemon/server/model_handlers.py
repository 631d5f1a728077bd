"""What the methods about models and servers do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from ollm_daemon.checkup import check_provider
from ollm_daemon.discovery import find_local_servers
from ollm_daemon.domain import ChatRequest
from ollm_daemon.errors import ConfigError
from ollm_daemon.protocol import state
from ollm_daemon.protocol.base import WireModel
from ollm_daemon.providers.facts import ModelAction
from ollm_daemon.server import convert
from ollm_daemon.server.context import Context, find_named, naming, one_model, one_provider
from ollm_daemon.server.progress import WorkDone

_TITLES: Mapping[ModelAction, str] = {
    "pull": "Downloading {model}",
    "delete": "Deleting {model}",
    "load": "Loading {model}",
    "unload": "Unloading {model}",
}


async def list_models(context: Context, params: state.ModelsListParams) -> state.ModelsListResult:
    """`ollm/models/list`."""
    resolved = await context.configuration.current()
    adapter = await one_provider(context, resolved, params.provider)
    with naming(adapter):
        models = await adapter.list_models()
    return state.ModelsListResult(
        provider=adapter.name, models=[convert.from_model(model) for model in models]
    )


async def show_model(context: Context, params: state.ModelsShowParams) -> state.ModelsShowResult:
    """`ollm/models/show`."""
    resolved = await context.configuration.current()
    adapter, model = await one_model(context, resolved, params.provider, params.model)
    with naming(adapter, model):
        shown = await adapter.show_model(model)
    return state.ModelsShowResult(provider=adapter.name, model=convert.from_model(shown))


async def change_model(
    action: ModelAction, context: Context, params: state.ModelsChangeParams
) -> state.ModelsChangeResult:
    """`ollm/models/pull`, `delete`, `load` and `unload`."""
    resolved = await context.configuration.current()
    adapter, model = await one_model(context, resolved, params.provider, params.model)
    keep_alive = params.keep_alive if isinstance(params, state.ModelsLoadParams) else None
    work = WorkDone(context, params.work_done_token, _TITLES[action].format(model=model))
    with work.running(), naming(adapter, model):
        async with adapter.change_model(action, model, keep_alive) as progress:
            async for step in progress:
                await work.report(step)
    context.daemon.tell_everybody("ollm/models/didChange", {"provider": adapter.name})
    return state.ModelsChangeResult(provider=adapter.name, model=model)


async def count_tokens(context: Context, params: state.TokensCountParams) -> state.TokensCountResult:
    """`ollm/tokens/count`."""
    resolved = await context.configuration.current()
    adapter, model = await one_model(
        context, resolved, params.provider, params.model, configured=resolved.settings.model
    )
    messages = tuple(convert.to_message(message) for message in params.messages)
    count = await adapter.count_tokens(ChatRequest(model, messages))
    return state.TokensCountResult(tokens=count.tokens, exact=count.exact, provider=adapter.name, model=model)


async def detect_providers(context: Context, params: state.NoParams) -> state.ProvidersDetectResult:
    """`ollm/providers/detect`."""
    registry = (await context.configuration.current()).registry
    servers = []
    for found in await find_local_servers():
        address = str(found.base_url)
        there = [adapter for adapter in registry.providers() if adapter.base_url == address]
        named = next((one for one in there if one.backend is found.facts), there[0] if there else None)
        servers.append(
            state.DetectedServer(
                base_url=address,
                backend=found.identity.backend,
                title=found.facts.title,
                version=found.identity.version,
                state=found.identity.state,
                provider=named.name if named else None,
            )
        )
    return state.ProvidersDetectResult(servers=servers)


async def check(context: Context, params: state.ProvidersCheckParams) -> state.ProvidersCheckResult:
    """`ollm/providers/check`."""
    resolved = await context.configuration.current()
    settings = resolved.settings
    name = params.provider or settings.provider
    adapter = resolved.registry.resolve(name)
    own = resolved.registry.resolve(settings.provider) is adapter
    named = find_named(resolved, name, None, configured=settings.model if own else None)
    checkup = await check_provider(adapter, named.model, generate=params.generate)
    return convert.from_checkup(adapter, checkup)


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
                    pull_models="pull" in can.actions,
                    delete_models="delete" in can.actions,
                    load_models="load" in can.actions,
                    unload_models="unload" in can.actions,
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


HANDLERS: Mapping[str, Callable[[Context, Any], Awaitable[WireModel]]] = {
    "ollm/models/list": list_models,
    "ollm/models/show": show_model,
    "ollm/models/pull": partial(change_model, "pull"),
    "ollm/models/delete": partial(change_model, "delete"),
    "ollm/models/load": partial(change_model, "load"),
    "ollm/models/unload": partial(change_model, "unload"),
    "ollm/providers/list": list_providers,
    "ollm/providers/detect": detect_providers,
    "ollm/providers/check": check,
    "ollm/tokens/count": count_tokens,
}
