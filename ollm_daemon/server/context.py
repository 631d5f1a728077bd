"""What a handler may use of its connection, and how names in a request become providers and models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import anyio

from ollm_daemon.completion.engine import CompletionEngine
from ollm_daemon.completion.statistics import CompletionStatistics
from ollm_daemon.errors import ConfigError, ProviderError
from ollm_daemon.generation import Candidate, StartSoon, choose_model
from ollm_daemon.protocol import state
from ollm_daemon.providers.base import ProviderAdapter
from ollm_daemon.server.configuration import ConnectionConfiguration, Resolved
from ollm_daemon.server.outbox import Outbox


class DaemonFacts(Protocol):
    """What all connections share, as handlers see it."""

    @property
    def completion_statistics(self) -> CompletionStatistics:
        """Counts of what is offered at cursors, over all connections."""

    def status(self) -> state.StatusResult:
        """The daemon's state."""

    async def default_provider(
        self, resolved: Resolved, model: str | None
    ) -> tuple[ProviderAdapter, list[str]]:
        """The provider when nobody chose one, for a model if one is named; and what the user should know."""

    def tell_everybody(self, method: str, params: Mapping[str, Any]) -> None:
        """Send a notification to every connection that has been initialized."""


@dataclass(frozen=True, slots=True)
class Document:
    """An open document, as it is now."""

    uri: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler may use of its connection.

    Attributes:
        session: Names the connection to servers behind a router.
        work: Scopes of work that the client may stop by its progress token.
        completion: What offers text at the cursor.
        document: Gives an open document, or `None`; waits until documents can be looked at.
        encoding: What positions are counted in.
    """

    configuration: ConnectionConfiguration
    outbox: Outbox
    daemon: DaemonFacts
    start_soon: StartSoon
    notify: Callable[[str, Mapping[str, Any]], None]
    session: str
    work: dict[str | int, anyio.CancelScope]
    completion: CompletionEngine
    document: Callable[[str], Awaitable[Document | None]]
    encoding: Callable[[], str]


@contextmanager
def naming(adapter: ProviderAdapter, model: str | None = None) -> Iterator[None]:
    """Let failures inside tell whose they are."""
    try:
        yield
    except ProviderError as error:
        error.provider, error.model = error.provider or adapter.name, error.model or model
        raise


@dataclass(frozen=True, slots=True)
class Named:
    """What names lead to.

    Attributes:
        is_chosen: Whether anybody chose the provider, by its name or by an alias.
        names: The names it was chosen by, for the fallbacks that are kept under them.
    """

    adapter: ProviderAdapter
    model: str | None
    is_chosen: bool
    names: tuple[str, ...]


async def candidates(
    context: Context, resolved: Resolved, provider: str | None, model: str | None
) -> tuple[list[Candidate], list[str]]:
    """Who may answer a request, the user's fallbacks last, and what the user should know about the choice.

    Raises:
        ConfigError: A name that nobody has, or a provider that the workspace may not choose.
    """
    settings, registry = resolved.settings, resolved.registry
    named = find_named(resolved, provider, model, configured=settings.model)
    adapter, notices = await _allowed(context, resolved, provider, named)
    fallbacks = next((settings.fallbacks[name] for name in named.names if name in settings.fallbacks), ())
    found = [Candidate(adapter, named.model)]
    for name in fallbacks:
        other, other_model = registry.resolve_target(name)
        if other is not adapter or other_model not in (None, named.model):
            found.append(Candidate(other, other_model))
    return found, notices


async def one_provider(context: Context, resolved: Resolved, provider: str | None) -> ProviderAdapter:
    """The provider that a request about a server means.

    Raises:
        ConfigError: As `candidates`.
    """
    return (await _allowed(context, resolved, provider, find_named(resolved, provider, None)))[0]


async def one_model(
    context: Context,
    resolved: Resolved,
    provider: str | None,
    model: str | None,
    configured: str | None = None,
) -> tuple[ProviderAdapter, str]:
    """The provider and the model that a request about a model means.

    Raises:
        ConfigError: As `candidates`.
        ProviderError: No model is named and the server has none.
    """
    named = find_named(resolved, provider, model, configured=configured)
    adapter, _ = await _allowed(context, resolved, provider, named)
    return adapter, named.model or (await choose_model(adapter))[0]


def find_named(
    resolved: Resolved, provider: str | None, model: str | None, *, configured: str | None = None
) -> Named:
    """What a request's names lead to, and where it has none, the settings'.

    A model's alias outranks a provider, unless the provider's name comes from a stronger place: from the
    request, or from a layer above the one that names the model.

    Args:
        configured: The model of the settings, where it counts.

    Raises:
        ConfigError: Nobody has the provider's name.
    """
    settings, registry = resolved.settings, resolved.registry
    by_name = provider or settings.provider
    named = model or configured
    alias = registry.model_alias(named)
    outranked = provider is not None or (model is None and settings.is_stronger("provider", "model"))
    if alias is not None and outranked and registry.resolve(by_name).name != alias.provider:
        # A model of another provider: what the request itself says may be a model's own name.
        alias, named = None, model
    if alias is not None:
        adapter, found = registry.resolve_target(named or "")
        return Named(adapter, found, is_chosen=True, names=(named or "", adapter.name))
    adapter, own = registry.resolve_alias(by_name)
    is_chosen = provider is not None or settings.origin_of("provider").layer != "default"
    return Named(adapter, named or own, is_chosen, (by_name, adapter.name))


async def _allowed(
    context: Context, resolved: Resolved, provider: str | None, named: Named
) -> tuple[ProviderAdapter, list[str]]:
    """The provider that answers, and what the user should know about the choice.

    Raises:
        ConfigError: The workspace chose it, and may not.
    """
    settings, adapter = resolved.settings, named.adapter
    # Whoever named a stand-in has chosen: nothing else is looked for.
    if not named.is_chosen and not any(name in settings.fallbacks for name in named.names):
        return await context.daemon.default_provider(resolved, named.model)
    refusal = settings.refusals.get(adapter.name)
    is_asked_for = provider is not None and resolved.registry.resolve(provider) is adapter
    if refusal and not is_asked_for:
        raise ConfigError(
            refusal,
            hint=f"Approve it with `ollm trust`, or set `providers.{adapter.name}.selectable: true` "
            "in your own configuration.",
        )
    return adapter, []
