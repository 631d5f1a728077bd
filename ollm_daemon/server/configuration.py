"""The settings of one connection: what the daemon knows, what this client says, what its workspace says.

The workspace's file is read when settings are first looked at. If part of what the workspace wants needs
approval and the client can ask its user, the user is asked once for each content, when a request needs
settings and never before. Resolving never waits. A request waits a while for what its client has yet to
tell and for what its user has yet to answer, then goes on without; what comes later counts from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import anyio

from ollm_daemon.config.layers import Layer, make_layer
from ollm_daemon.config.resolve import Outside, resolve
from ollm_daemon.config.settings import ConfigProblem, RoutingRequest, Settings
from ollm_daemon.config.sources import (
    FileStamp,
    file_stamp,
    load_workspace_file,
    workspace_file_path,
)
from ollm_daemon.errors import ConfigError
from ollm_daemon.registry import ProviderRegistry

PULL_SECONDS = 2.0
"""How long the client may take to tell its settings before requests go on without them."""
ASK_SECONDS = 120.0
"""How long requests wait for the user's answer; one that comes later still counts."""
CLIENT_LAYERS = {
    "userSettings": "editor user settings",
    "workspaceSettings": "editor workspace settings",
    "flags": "flags",
}
"""What a client tells apart in `initializationOptions` and `ollm/config/set` → layers."""


class SharedConfiguration(Protocol):
    """What all connections share."""

    def base_layers(self) -> tuple[Layer, ...]:
        """Built-in defaults, the user's file and the environment."""

    def is_user_file(self, path: Path) -> bool:
        """Whether a workspace's file is the user's own, as in a workspace that is the home folder."""

    def outside(self, workspace: str) -> Outside:
        """The world, as resolving asks for it."""

    def approve(self, request: RoutingRequest) -> None:
        """Remember an approval.

        Raises:
            ConfigError: It cannot be kept.
        """

    def registry(self, settings: Settings) -> tuple[ProviderRegistry, list[ConfigProblem]]:
        """The providers of these settings, and what is wrong with those that are missing."""


class ClientVoice(Protocol):
    """How the user behind a connection is reached."""

    @property
    def can_ask(self) -> bool:
        """Whether the user can be asked anything."""

    async def ask_approval(self, request: RoutingRequest) -> bool:
        """Whether the user agrees; `False` at once when nobody can be asked."""

    def show_problem(self, problem: ConfigProblem) -> None:
        """Tell the user what to mend."""

    def settings_changed(self, settings: Settings) -> None:
        """Tell the client that settings were resolved anew."""

    def start_soon(self, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task that ends with the connection."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Settings and the providers built from them. A request keeps the pair it began with: as long as somebody
    holds the registry, its providers stay open.
    """

    settings: Settings
    registry: ProviderRegistry


class _Wait:
    """Something that requests wait for, up to a deadline that is the same for all of them."""

    def __init__(self, seconds: float) -> None:
        self._deadline = anyio.current_time() + seconds
        self._ended = anyio.Event()

    @property
    def over(self) -> bool:
        return self._ended.is_set() or anyio.current_time() >= self._deadline

    def end(self) -> None:
        self._ended.set()

    async def wait(self) -> None:
        with anyio.CancelScope(deadline=self._deadline):
            await self._ended.wait()


class ConnectionConfiguration:
    """Settings of one connection, resolved when first needed and again when something changes."""

    def __init__(self, shared: SharedConfiguration, voice: ClientVoice) -> None:
        self._shared = shared
        self._voice = voice
        self._layers: dict[str, Layer] = {}
        self._folder: Path | None = None
        self._trusted = True
        self._stamp: FileStamp | None = None
        self._reload_file = False
        self._needed = False
        self._resolved: Resolved | None = None
        self._stale = False
        self._pull: _Wait | None = None
        self._asking: _Wait | None = None
        self._to_ask: list[RoutingRequest] = []
        self._asked: set[str] = set()
        self._shown: set[ConfigProblem] = set()

    def set_workspace(self, folder: Path | None) -> None:
        """Where the workspace is."""
        self._folder = folder

    def set_client_layer(self, name: str, data: Any) -> None:
        """Take settings that the client tells; `None` clears the layer."""
        self._layers[name] = self._keep_good(name, make_layer(name, data))
        self._stale = True

    def set_client_layers(self, told: Mapping[str, Any]) -> None:
        """Take the layers that a client tells apart, and `workspaceTrusted`."""
        for key, name in CLIENT_LAYERS.items():
            if told.get(key) is not None:
                self.set_client_layer(name, told[key])
        if isinstance(trusted := told.get("workspaceTrusted"), bool):
            self._trusted = trusted
            self._stale = True

    def expect_pull(self) -> None:
        """The client will be asked for its settings; requests wait for its answer a little."""
        self._pull = _Wait(PULL_SECONDS)

    def end_pull(self) -> None:
        """The client has answered."""
        if self._pull:
            self._pull.end()

    async def current(self) -> Resolved:
        """The settings that count now."""
        await self._wait_for_client()
        self._needed = True
        resolved = self._told()
        while self._asking is not None and resolved.settings.pending and not self._asking.over:
            await self._asking.wait()
            resolved = self._told()
        return resolved

    @property
    def needed(self) -> bool:
        """Whether a request has needed settings yet."""
        return self._needed

    async def ahead(self) -> Resolved:
        """The settings that would count now, before anybody needs them: the user hears nothing of them."""
        await self._wait_for_client()
        return self._fresh()

    def changed(self) -> None:
        """Something changed: resolve again, if anybody has needed settings yet."""
        self._stale = True
        if self._needed:
            self._voice.settings_changed(self._told().settings)

    def workspace_file_changed(self) -> bool:
        """Whether the workspace's file is no longer the one that was read."""
        if self._folder is None or "workspace file" not in self._layers:
            return False
        if file_stamp(workspace_file_path(self._folder)) == self._stamp:
            return False
        self._reload_file = True
        return True

    def approve(self, digest: str) -> bool:
        """Approve what is pending under `digest`, in the user's name; false when nothing is.

        Raises:
            ConfigError: The approval cannot be kept.
        """
        request = next((one for one in self._fresh().settings.pending if one.digest == digest), None)
        if request is None or not self._trusted:
            return False
        self._shared.approve(request)
        self._needed = True
        self.changed()
        return True

    async def _wait_for_client(self) -> None:
        if self._pull is not None:
            await self._pull.wait()
            self._pull = None

    def _told(self) -> Resolved:
        """Fresh settings, of which the user hears what is wrong and what needs approval."""
        resolved = self._fresh()
        for problem in resolved.settings.problems:
            if problem not in self._shown:
                self._shown.add(problem)
                if not (problem.awaits_approval and (self._voice.can_ask or not self._trusted)):
                    self._voice.show_problem(problem)  # else a question says the same, or the editor does
        self._ask_about(resolved.settings.pending)
        return resolved

    def _fresh(self) -> Resolved:
        if self._resolved is None or self._stale:
            self._resolved = self._resolve()
            self._stale = False
        return self._resolved

    def _resolve(self) -> Resolved:
        self._load_workspace_file()
        workspace = str(self._folder.resolve()) if self._folder else ""
        layers = (*self._shared.base_layers(), *self._layers.values())
        outside = self._shared.outside(workspace)
        if not self._trusted:
            outside = replace(outside, approved=lambda request: False)
        settings = resolve(layers, outside)
        registry, problems = self._shared.registry(settings)
        problems = [*settings.problems, *problems, *alias_problems(registry, settings)]
        return Resolved(replace(settings, problems=tuple(problems)), registry)

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

    def _ask_about(self, pending: Sequence[RoutingRequest]) -> None:
        """Ask the user what has not been asked before, one question after the other."""
        if not self._trusted:
            return
        self._to_ask += [request for request in pending if request.digest not in self._asked]
        self._asked.update(request.digest for request in self._to_ask)
        if self._to_ask and self._asking is None:
            self._asking = _Wait(ASK_SECONDS)
            self._voice.start_soon(self._ask)

    async def _ask(self) -> None:
        """A task of the connection, not of the request that came first: that one may be cancelled."""
        try:
            while self._to_ask:
                request = self._to_ask.pop(0)
                if await self._voice.ask_approval(request):
                    self._take_approval(request)
        finally:
            if self._asking:
                self._asking.end()
            self._asking = None

    def _take_approval(self, request: RoutingRequest) -> None:
        try:
            self._shared.approve(request)
        except ConfigError as error:
            self._voice.show_problem(ConfigProblem("error", str(error), error.hint))
        else:
            self.changed()


def keep_good(known: Layer | None, fresh: Layer) -> Layer:
    """`fresh`, or when it is broken the last good values with the new problems."""
    if not fresh.broken or known is None:
        return fresh
    return replace(fresh, values=known.values, lines=known.lines)


def alias_problems(registry: ProviderRegistry, settings: Settings) -> list[ConfigProblem]:
    """Register the users' aliases; what cannot be registered is a problem."""
    errors = registry.register_aliases(settings.aliases)
    return [ConfigProblem("warning", str(error), error.hint, "aliases") for error in errors]
