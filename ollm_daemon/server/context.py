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

    async def default_provider(self, resolved: Resolved) -> tuple[ProviderAdapter, str | None]:
        """The provider when nobody configured one, and what to tell the user about it."""

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


async def candidates(
    context: Context, provider: str | None, model: str | None
) -> tuple[list[Candidate], list[str]]:
    """Who may answer a request, the user's fallbacks last, and what the user should know about the choice.

    Raises:
        ConfigError: A name that nobody has, or a provider that the workspace may not choose.
    """
    resolved = await context.configuration.current()
    settings, registry = resolved.settings, resolved.registry
    adapter, chosen, notices = await _first(context, resolved, provider, model or settings.model)
    names = (model or settings.model or "", provider or settings.provider, adapter.name)
    fallbacks = next((settings.fallbacks[name] for name in names if name in settings.fallbacks), ())
    found = [Candidate(adapter, chosen)]
    for name in fallbacks:
        other, other_model = registry.resolve_target(name)
        if other is not adapter or other_model not in (None, chosen):
            found.append(Candidate(other, other_model))
    return found, notices


async def one_provider(context: Context, provider: str | None) -> ProviderAdapter:
    """The provider that a request about a server means.

    Raises:
        ConfigError: As `candidates`.
    """
    resolved = await context.configuration.current()
    return (await _first(context, resolved, provider, None))[0]


async def one_model(context: Context, provider: str | None, model: str | None) -> tuple[ProviderAdapter, str]:
    """The provider and the model that a request about a model means.

    Raises:
        ConfigError: As `candidates`.
        ProviderError: No model is named and the server has none.
    """
    resolved = await context.configuration.current()
    adapter, chosen, _ = await _first(context, resolved, provider, model)
    return adapter, chosen or (await choose_model(adapter))[0]


async def _first(
    context: Context, resolved: Resolved, provider: str | None, model: str | None
) -> tuple[ProviderAdapter, str | None, list[str]]:
    settings, registry = resolved.settings, resolved.registry
    notices: list[str] = []
    is_default = provider is None and settings.origin_of("provider").layer == "default"
    adapter, model = registry.resolve_model(provider or settings.provider, model)
    # Whoever named a stand-in has chosen: nothing else is looked for.
    if is_default and adapter.name == settings.provider and adapter.name not in settings.fallbacks:
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
    return adapter, model, notices
