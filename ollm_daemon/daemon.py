"""The composition root: settings, providers and clients put together in one process.

Owns what all connections share (the user's layers, one adapter per provider settings, approvals) and
the root of the task tree. Knows of everything and decides nothing.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import anyio
from anyio.abc import TaskGroup

from ollm_daemon import __version__
from ollm_daemon.completion.statistics import CompletionStatistics
from ollm_daemon.config.layers import Layer, make_layer
from ollm_daemon.config.resolve import Outside
from ollm_daemon.config.settings import ConfigProblem, RoutingRequest, Settings
from ollm_daemon.config.sources import (
    Environment,
    FileStamp,
    environment_proxy,
    file_stamp,
    is_same_file,
    load_environment,
    load_user_file,
    read_secret_file,
    run_folder,
    stamp_key_file,
    state_folder,
    user_file_path,
)
from ollm_daemon.config.trust import Approvals
from ollm_daemon.discovery import Found, find_local_servers, is_listening
from ollm_daemon.domain import ProviderSettings
from ollm_daemon.errors import ConfigError, ErrorKind, UnreachableError
from ollm_daemon.protocol import PROTOCOL_VERSION, state
from ollm_daemon.providers import embedded
from ollm_daemon.providers.backends import BACKENDS, VLLM_FRONTS
from ollm_daemon.providers.base import ProviderAdapter
from ollm_daemon.providers.catalog import KINDS
from ollm_daemon.registry import ProviderRegistry
from ollm_daemon.server import convert
from ollm_daemon.server.configuration import Resolved, keep_good
from ollm_daemon.server.connection import Connection
from ollm_daemon.server.faults import contained
from ollm_daemon.server.greeting import Greeting
from ollm_daemon.server.platforms import resident_bytes
from ollm_daemon.server.transports import open_listener, serve_stdio

if TYPE_CHECKING:
    from ollm_daemon.server.lsp import LspState

logger = logging.getLogger(__name__)

WATCH_SECONDS = 1.0
"""How often configuration files are looked at; one `stat` each."""
CLOSE_SECONDS = 1.0
EMBEDDED_ANSWERED = (
    "No model server is running on this machine, so the small embedded model answered. "
    "Start Ollama, or set `provider`, for better answers."
)
_OWN_KINDS = {"ollama": "local", "embedded": "embedded"}
"""Backends with an adapter of their own; all others speak OpenAI's dialect or vLLM's."""


class Daemon:
    """One process."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._started_at = time.monotonic()
        self._converter: Any = None
        self._making_lsp_state = threading.Lock()
        self._approvals = Approvals(state_folder(environment))
        self._defaults = default_layer()
        self._environment_layer = load_environment(environment)
        self._user_layer = load_user_file(environment)
        self._user_stamp = self._stamp_user_file()
        self._adapters: dict[ProviderSettings, ProviderAdapter] = {}
        self._uses: Counter[ProviderSettings] = Counter()
        self._key_files: dict[str, FileStamp | None] = {}
        self._connections: set[Connection] = set()
        self.completion_statistics = CompletionStatistics()

    async def run_stdio(self, frames_in: BinaryIO, frames_out: BinaryIO, greeting: Greeting) -> int:
        """Serve one client on standard streams; gives the exit code."""
        code = 1
        with _ending_signals() as signals:
            async with anyio.create_task_group() as task_group:
                task_group.start_soon(_end_on_signal, signals, task_group)
                task_group.start_soon(self.watch_files)
                code = await serve_stdio(self, frames_in, frames_out, greeting)
                task_group.cancel_scope.cancel()
        await self.aclose()
        return code

    async def run_tcp(self, address: tuple[str, int]) -> int:
        """Serve any number of clients on a socket until a signal comes.

        Raises:
            ConfigError: The port is taken, or the token cannot be kept private.
        """
        folder = run_folder(self._environment)
        if folder is None:
            raise ConfigError(
                "There is no folder of yours to keep the daemon's token in.",
                hint="Set HOME, XDG_STATE_HOME or XDG_RUNTIME_DIR to an absolute path.",
            )
        # Signals first: whoever reads the line below may send one at once, and the token file has to go.
        with _ending_signals() as signals, open_listener(address, folder) as listener:
            async with anyio.create_task_group() as task_group:
                task_group.start_soon(_end_on_signal, signals, task_group)
                task_group.start_soon(self.watch_files)
                task_group.start_soon(listener.serve, self)
                shown = f"[{listener.host}]" if ":" in listener.host else listener.host
                sys.stderr.write(
                    f"ollm-daemon listens on {shown}:{listener.port}; its token is in {listener.token_file}\n"
                )
                sys.stderr.flush()
            await self.aclose()
        return 0

    # what connections ask for

    def new_lsp_state(self, initialize_params: Any) -> LspState:
        """As `Host.new_lsp_state`."""
        from ollm_daemon.server.lsp import LspState, make_converter

        # Clients that come at the same time ask from threads of their own, and what is made is shared.
        with self._making_lsp_state:
            if self._converter is None:
                self._converter = make_converter()
                gc.freeze()
            return LspState(self._converter, initialize_params)

    @contextmanager
    def serving(self, connection: Connection) -> Iterator[None]:
        """As `Host.serving`."""
        self._connections.add(connection)
        try:
            yield
        finally:
            self._connections.discard(connection)

    def base_layers(self) -> tuple[Layer, ...]:
        """As `SharedConfiguration.base_layers`."""
        return self._defaults, self._user_layer, self._environment_layer

    def is_user_file(self, path: Path) -> bool:
        """As `SharedConfiguration.is_user_file`."""
        own = user_file_path(self._environment)
        return own is not None and is_same_file(own, path)

    def outside(self, workspace: str) -> Outside:
        """As `SharedConfiguration.outside`."""
        return Outside(
            workspace=workspace,
            approved=self._approvals.holds,
            read_secret=self._read_key_file,
            proxy_for=lambda url: environment_proxy(url, self._environment),
        )

    def approve(self, request: RoutingRequest) -> None:
        """As `SharedConfiguration.approve`."""
        try:
            self._approvals.add(request)
        except OSError as error:
            raise ConfigError(
                f"The approval cannot be kept: {error.strerror or error}.",
                hint="Make the state folder writable (XDG_STATE_HOME, or ~/.local/state).",
            ) from error

    def registry(self, settings: Settings) -> tuple[ProviderRegistry, list[ConfigProblem]]:
        """Providers of these settings; equal provider settings share one adapter and its sockets.

        An adapter is in use as long as a registry that names it lives: with a connection's settings, and with
        a request that began under former ones.
        """
        registry = ProviderRegistry()
        problems = []
        used = []
        for name, provider in settings.providers.items():
            if provider.kind == "embedded" and not embedded.is_installed(provider.model_path):
                continue
            try:
                adapter = self._adapters.get(provider) or KINDS[provider.kind](provider)
            except ConfigError as error:
                problems.append(ConfigProblem("error", str(error), error.hint, f"providers.{name}"))
                continue
            self._adapters[provider] = adapter
            used.append(provider)
            registry.register(name, adapter)
        self._uses.update(used)
        weakref.finalize(registry, self._uses.subtract, used).atexit = False
        return registry, problems

    def status(self) -> state.StatusResult:
        """As `DaemonFacts.status`."""
        return state.StatusResult(
            version=__version__,
            protocol_version=PROTOCOL_VERSION,
            pid=os.getpid(),
            uptime_ms=(time.monotonic() - self._started_at) * 1e3,
            connections=len(self._connections),
            requests=sum(connection.running for connection in self._connections),
            upstream_connections=sum(adapter.open_connections for adapter in self._adapters.values()),
            memory_bytes=resident_bytes(),
            completion=convert.from_statistics(self.completion_statistics),
        )

    def tell_everybody(self, method: str, params: Mapping[str, Any]) -> None:
        """As `DaemonFacts.tell_everybody`."""
        for connection in self._connections:
            connection.tell(method, params)

    async def default_provider(
        self, resolved: Resolved, model: str | None
    ) -> tuple[ProviderAdapter, list[str]]:
        """Ollama when it is up; else the embedded model when no server is up at all, and nobody configured
        Ollama or named a model; else an error that names what is.
        """
        registry, settings = resolved.registry, resolved.settings
        ollama = registry.resolve(settings.provider)
        address = settings.providers[ollama.name].base_url
        # A knock says nothing about another machine, which may be behind a proxy.
        if not address.is_loopback or await is_listening(address):
            return ollama, []
        found = await find_local_servers()
        is_open = model is None and not settings.is_configured(ollama.name)
        if is_open and not found and "embedded" in registry.names:
            return registry.resolve("embedded"), [EMBEDDED_ANSWERED]
        raise self._nothing_to_ask(ollama, found, has_embedded="embedded" in registry.names)

    def _nothing_to_ask(
        self, ollama: ProviderAdapter, found: list[Found], *, has_embedded: bool
    ) -> UnreachableError:
        if found:
            names = ", ".join(f"{server.facts.title} at {server.base_url}" for server in found)
            flag = next((server.identity.backend for server in found if server.identity.backend), None)
            how = f"--provider {flag}" if flag else f"--provider openai-compatible --host {found[0].base_url}"
            hint = f"But there is {names}: choose it with `{how}` or the setting `provider`."
        elif has_embedded:
            hint = f"{ollama.backend.start} Or choose the small embedded model: `--provider embedded`."
        else:
            hint = f"{ollama.backend.start} Or try a small model without a server: {embedded.INSTALL}"
        error = UnreachableError(
            f"Ollama does not answer at {ollama.base_url}, and no other provider is configured.",
            kind=ErrorKind.UNREACHABLE,
            hint=hint,
        )
        error.provider = ollama.name
        return error

    # what the process does by itself

    async def watch_files(self) -> None:
        """Read files of the configuration again when they change, and close what no settings use any more."""
        while True:
            await anyio.sleep(WATCH_SECONDS)
            with contained("the watch over files"):
                self._look_at_files()
            with contained("closing providers"):
                await self._close_unused()

    def _look_at_files(self) -> None:
        everybody = [self._reload_user_file(), self._are_key_files_new()]
        for connection in list(self._connections):
            with contained("settings"):
                if connection.configuration.workspace_file_changed() or any(everybody):
                    connection.configuration.changed()

    def _reload_user_file(self) -> bool:
        stamp = self._stamp_user_file()
        if stamp == self._user_stamp:
            return False
        self._user_stamp = stamp
        self._user_layer = keep_good(self._user_layer, load_user_file(self._environment))
        return True

    def _stamp_user_file(self) -> FileStamp | None:
        path = user_file_path(self._environment)
        return file_stamp(path) if path else None

    def _read_key_file(self, path: str) -> tuple[str | None, str]:
        self._key_files[path] = stamp_key_file(path)
        return read_secret_file(path)

    def _are_key_files_new(self) -> bool:
        """Whether a key file has changed; the settings that are resolved next read it."""
        changed = {path for path, stamp in self._key_files.items() if stamp_key_file(path) != stamp}
        for path in changed:
            del self._key_files[path]
        return bool(changed)

    async def _close_unused(self) -> None:
        """Close adapters that are in no settings any more; their sockets and child processes go with them.

        A model that is loaded in a child process waits for the next client, unless another has its place.
        """
        used = {settings for settings, count in self._uses.items() if count > 0}
        is_model_used = any(settings.kind == "embedded" for settings in used)
        for settings in self._adapters.keys() - used:
            if settings.kind != "embedded" or is_model_used:
                adapter = self._adapters.pop(settings)
                del self._uses[settings]
                await adapter.aclose()

    async def aclose(self) -> None:
        """Close what connections shared; bounded, as somebody waits for the process to end."""
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            for adapter in list(self._adapters.values()):
                await adapter.aclose()


def _ending_signals() -> AbstractContextManager[AsyncIterator[signal.Signals]]:
    names = ("SIGTERM", "SIGINT", "SIGHUP")
    return anyio.open_signal_receiver(*(getattr(signal, name) for name in names if hasattr(signal, name)))


async def _end_on_signal(signals: AsyncIterator[signal.Signals], task_group: TaskGroup) -> None:
    async for _ in signals:
        task_group.cancel_scope.cancel()


def default_layer() -> Layer:
    """What holds when nobody says otherwise: every backend under its own name at its default address,
    and the seed's three built-in providers.
    """
    providers: dict[str, dict[str, Any]] = {}
    for name, backend in BACKENDS.items():
        kind = _OWN_KINDS.get(name, "vllm" if name in VLLM_FRONTS else "openai-compatible")
        entry: dict[str, Any] = {"kind": kind, "baseUrl": backend.default_url}
        if kind == "openai-compatible":
            entry["backend"] = name
        if kind == "embedded":
            del entry["baseUrl"]
        providers[_OWN_NAMES.get(name, name)] = entry
    providers["openai-compatible"]["backend"] = "auto"
    return make_layer("default", {"providers": providers, "aliases": {"ollama": "local"}})


_OWN_NAMES = {"ollama": "local", "generic": "openai-compatible"}
