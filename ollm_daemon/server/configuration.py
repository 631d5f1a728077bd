"""The settings of one connection: what the daemon knows, what this client says, what its workspace says.

The workspace's file is read when the first request needs settings, never before. If part of what the
workspace wants needs approval and the client can ask its user, the user is asked once for each
content; a request that needs settings waits for the answer, and without an answer it goes on without.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import anyio

from ollm_daemon.config.layers import Layer, make_layer
from ollm_daemon.config.resolve import Outside, resolve
from ollm_daemon.config.settings import ConfigProblem, RoutingRequest, Settings
from ollm_daemon.config.sources import file_stamp, load_workspace_file, workspace_file_path
from ollm_daemon.registry import ProviderRegistry

PULL_SECONDS = 2.0
"""How long the client may take to tell its settings before requests go on without them."""
ASK_SECONDS = 120.0


class SharedConfiguration(Protocol):
    """What all connections share."""

    def base_layers(self) -> tuple[Layer, ...]:
        """Built-in defaults, the user's file and the environment."""

    def is_user_file(self, path: Path) -> bool:
        """Whether a workspace's file is the user's own, as in a workspace that is the home folder."""

    def outside(self, workspace: str) -> Outside:
        """The world, as resolving asks for it."""

    def approve(self, request: RoutingRequest) -> None:
        """Remember an approval."""

    def registry(self, settings: Settings) -> ProviderRegistry:
        """The providers of these settings."""


class ClientVoice(Protocol):
    """How the user behind a connection is reached."""

    async def pull_settings(self) -> Any:
        """The client's settings for `ollm`, or `None` when it has none to tell."""

    async def ask_approval(self, request: RoutingRequest) -> bool:
        """Whether the user agrees; `False` at once when nobody can be asked."""

    def show_problem(self, problem: ConfigProblem) -> None:
        """Tell the user what to mend."""

    def settings_changed(self, settings: Settings) -> None:
        """Tell the client that settings were resolved anew."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Settings and the providers built from them; a generation keeps the pair it began with."""

    settings: Settings
    registry: ProviderRegistry


class ConnectionConfiguration:
    """Settings of one connection, resolved when first needed and again when something changes."""

    def __init__(self, shared: SharedConfiguration, voice: ClientVoice) -> None:
        self._shared = shared
        self._voice = voice
        self._layers: dict[str, Layer] = {}
        self._folder: Path | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._reload_file = False
        self._needed = False
        self._resolved: Resolved | None = None
        self._lock = anyio.Lock()
        self._pulled = anyio.Event()
        self._asked: set[str] = set()
        self._shown: set[ConfigProblem] = set()

    def set_workspace(self, folder: Path | None) -> None:
        """Where the workspace is."""
        self._folder = folder

    def set_client_layer(self, name: str, data: Any) -> None:
        """Take settings that the client tells."""
        self._layers[name] = self._keep_good(name, make_layer(name, data))
        self._resolved = None

    async def pull(self) -> None:
        """Ask the client for its settings; requests wait for this a little."""
        try:
            with anyio.move_on_after(PULL_SECONDS):
                data = await self._voice.pull_settings()
                if data is not None:
                    self.set_client_layer("editor workspace settings", data)
        finally:
            self._pulled.set()

    def no_pull(self) -> None:
        """The client has no settings to pull."""
        self._pulled.set()

    async def current(self) -> Resolved:
        """The settings that count now."""
        if self._resolved is not None and self._pulled.is_set():
            return self._resolved
        with anyio.move_on_after(PULL_SECONDS):
            await self._pulled.wait()
        self._needed = True
        async with self._lock:
            if self._resolved is None:
                await self._resolve()
                await self._ask_what_is_pending()
            assert self._resolved is not None
            return self._resolved

    async def changed(self) -> None:
        """Something outside changed: resolve again, if anybody has needed settings yet."""
        if not self._needed:
            return
        self._resolved = None
        resolved = await self.current()
        self._voice.settings_changed(resolved.settings)

    def workspace_file_changed(self) -> bool:
        """Whether the workspace's file is no longer the one that was read."""
        if self._folder is None or "workspace file" not in self._layers:
            return False
        if file_stamp(workspace_file_path(self._folder)) == self._stamp:
            return False
        self._reload_file = True
        return True

    async def approve(self, digest: str) -> bool:
        """Approve what is pending under `digest`, in the user's name."""
        resolved = await self.current()
        for request in resolved.settings.pending:
            if request.digest == digest:
                self._shared.approve(request)
                await self.changed()
                return True
        return False

    async def _resolve(self) -> None:
        self._load_workspace_file()
        workspace = str(self._folder.resolve()) if self._folder else ""
        layers = (*self._shared.base_layers(), *self._layers.values())
        settings = resolve(layers, self._shared.outside(workspace))
        registry = self._shared.registry(settings)
        problems = [*settings.problems, *alias_problems(registry, settings)]
        settings = replace(settings, problems=tuple(problems))
        self._resolved = Resolved(settings, registry)
        for problem in problems:
            if problem not in self._shown:
                self._shown.add(problem)
                self._voice.show_problem(problem)

    def _load_workspace_file(self) -> None:
        known = self._layers.get("workspace file")
        if self._folder is None or (known is not None and not self._reload_file):
            return
        if self._shared.is_user_file(workspace_file_path(self._folder)):
            return
        self._reload_file = False
        self._stamp = file_stamp(workspace_file_path(self._folder))
        layer = self._keep_good("workspace file", load_workspace_file(self._folder))
        self._layers["workspace file"] = layer

    def _keep_good(self, name: str, layer: Layer) -> Layer:
        return keep_good(self._layers.get(name), layer)

    async def _ask_what_is_pending(self) -> None:
        assert self._resolved is not None
        agreed = False
        for request in self._resolved.settings.pending:
            if request.digest in self._asked:
                continue
            self._asked.add(request.digest)
            with anyio.move_on_after(ASK_SECONDS):
                if await self._voice.ask_approval(request):
                    self._shared.approve(request)
                    agreed = True
        if agreed:
            await self._resolve()


def keep_good(known: Layer | None, fresh: Layer) -> Layer:
    """`fresh`, or when it is broken the last good values with the new problems."""
    if not fresh.broken or known is None:
        return fresh
    return replace(fresh, values=known.values, lines=known.lines)


def alias_problems(registry: ProviderRegistry, settings: Settings) -> list[ConfigProblem]:
    """Register the users' aliases; what cannot be registered is a problem."""
    errors = registry.register_aliases(settings.aliases)
    return [ConfigProblem("warning", str(error), error.hint, "aliases") for error in errors]
