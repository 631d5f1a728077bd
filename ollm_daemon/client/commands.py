"""`ollm models`, `providers`, `config`, `trust` and `status`: a look at what the daemon knows."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from ollm_daemon.client._client import Daemon
from ollm_daemon.client.exit_codes import CONFIG, NO_PERMISSION, OK, UsageError
from ollm_daemon.client.render import Screen, one_line, table
from ollm_daemon.protocol import state


async def _models(daemon: Daemon, flags: argparse.Namespace, screen: Screen) -> int:
    result = await daemon.request("ollm/models/list", state.ModelsListParams(), state.ModelsListResult)
    if screen.as_json:
        screen.write_json(result)
    elif not result.models:
        screen.note(f"{result.provider} has no models.")
    else:
        rows = [
            [
                model.id,
                _size(model.size_bytes),
                model.parameter_size or "",
                model.quantization or "",
                f"{model.context_length} tokens" if model.context_length else "",
                "loaded" if model.loaded else "",
            ]
            for model in result.models
        ]
        screen.write(table(["MODEL", "SIZE", "PARAMETERS", "QUANTIZATION", "WINDOW", ""], rows))
    return OK


async def _providers(daemon: Daemon, flags: argparse.Namespace, screen: Screen) -> int:
    result = await daemon.request("ollm/providers/list", None, state.ProvidersListResult)
    if screen.as_json:
        screen.write_json(result)
        return OK
    rows = [
        [
            ("* " if provider.is_default else "  ") + provider.name,
            provider.kind,
            provider.base_url or "",
            provider.backend,
        ]
        for provider in result.providers
    ]
    screen.write(table(["  PROVIDER", "KIND", "ADDRESS", "SERVER"], rows))
    for alias in result.aliases:
        target = f"{alias.provider}/{alias.model}" if alias.model else alias.provider
        screen.write(f"  {alias.alias} → {target}")
    return OK


async def _config(daemon: Daemon, flags: argparse.Namespace, screen: Screen) -> int:
    result = await daemon.request("ollm/config/get", None, state.ConfigGetResult)
    if screen.as_json:
        screen.write_json(result)
    else:
        rows = [
            [
                setting.key,
                setting.value if isinstance(setting.value, str) else json.dumps(setting.value),
                _origin(setting.origin),
            ]
            for setting in result.settings
            if flags.all or setting.origin.layer != "default"
        ]
        screen.write(
            table(["SETTING", "VALUE", "FROM"], rows) if rows else "Nothing is configured; see --all."
        )
        for problem in result.problems:
            place = f"{problem.source}:{problem.line}: " if problem.line else ""
            screen.note(f"{place}{problem.message} {problem.hint or ''}".strip(), warning=True)
    return CONFIG if any(problem.severity == "error" for problem in result.problems) else OK


async def _trust(daemon: Daemon, flags: argparse.Namespace, screen: Screen) -> int:
    result = await daemon.request("ollm/trust/get", None, state.TrustGetResult)
    if screen.as_json:
        screen.write_json(result)
    elif not result.pending:
        screen.note("This workspace asks for nothing that needs your approval.")
    for request in result.pending:
        if not screen.as_json:
            screen.write(f"{one_line(request.question)}\n  written in {one_line(request.source)}")
            for key, value in request.values.items():
                # Quoted, so that a value cannot look like a line of ours.
                screen.write(f"  {one_line(key)}: {json.dumps(value)}")
        if flags.yes or (not screen.as_json and await _is_allowed()):
            params = state.TrustApproveParams(digest=request.digest)
            await daemon.request("ollm/trust/approve", params, state.TrustApproveResult)
            screen.note("Allowed, for exactly this content.")
    return OK


async def _is_allowed() -> bool:
    """What the user answers; the end of input is a no.

    A thread reads, and Ctrl-C ends the wait without it.
    """
    if not sys.stdin.isatty():
        raise UsageError("Nobody can be asked here; run it in a terminal or with --yes.", NO_PERMISSION)
    sys.stdout.write("Allow it? [y/N] ")
    sys.stdout.flush()
    loop = asyncio.get_running_loop()
    line: asyncio.Future[bytes] = loop.create_future()

    def take(data: bytes) -> None:
        if not line.done():
            line.set_result(data)

    def read() -> None:
        try:
            data = os.read(sys.stdin.fileno(), 1 << 12)
        except OSError:
            data = b""
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(take, data)

    threading.Thread(target=read, name="answer", daemon=True).start()
    return (await line).strip().lower() in (b"y", b"yes")


async def _status(daemon: Daemon, flags: argparse.Namespace, screen: Screen) -> int:
    result = await daemon.request("ollm/status", None, state.StatusResult)
    if screen.as_json:
        screen.write_json(result)
    else:
        values = result.model_dump(by_alias=True, exclude_none=True)
        screen.write(table(["", ""], [[key, str(value)] for key, value in values.items()]))
    return OK


Command = Callable[[Daemon, argparse.Namespace, Screen], Coroutine[Any, Any, int]]
COMMANDS: Mapping[str, Command] = {
    "models": _models,
    "providers": _providers,
    "config": _config,
    "trust": _trust,
    "status": _status,
}


def _origin(origin: state.SettingOrigin) -> str:
    place = origin.source or ""
    return f"{origin.layer} {place}:{origin.line}" if origin.line else f"{origin.layer} {place}".strip()


def _size(size: int | None) -> str:
    if size is None:
        return ""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
