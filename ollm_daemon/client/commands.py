"""What each command of `ollm` asks the daemon, and what becomes of the answer."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from ollm_daemon.client._client import Daemon, DaemonError, DaemonGone, connect_daemon, running
from ollm_daemon.client.exit_codes import (
    CONFIG,
    EXIT_CODES,
    IO_ERROR,
    NO_PERMISSION,
    OK,
    SOFTWARE,
    UNAVAILABLE,
    UsageError,
)
from ollm_daemon.client.render import Screen, one_line, table
from ollm_daemon.protocol import chat, state

INVALID_PARAMS = -32602
REQUEST_FAILED = -32803
ERROR_MESSAGE = 1
"""LSP's `MessageType.Error`."""
_ANSWERED_BY_A_SERVER = frozenset({None, "models"})
"""Commands, none among them, that fail on a wrong configuration."""
_TELLS_ITSELF = frozenset({"config", "doctor"})
"""Commands that tell what is wrong with the configuration."""


async def run_own(
    flags: argparse.Namespace,
    screen: Screen,
    prompt: str,
    key: str | None,
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> int:
    """Run a command with a daemon of our own on these streams; gives the exit code."""
    daemon = Daemon(*streams, _notes(flags, screen))
    async with running(daemon, _options(flags), Path.cwd()):
        return await _command(daemon, flags, screen, prompt, key)


async def run_connected(
    flags: argparse.Namespace,
    screen: Screen,
    prompt: str,
    key: str | None,
    address: tuple[str, int, str],
) -> int:
    """Run a command with the daemon at a host and port, with its token; gives the exit code."""
    more: dict[str, Any] = {"options": _options(flags), "on_notification": _notes(flags, screen)}
    async with contextlib.AsyncExitStack() as stack:
        try:
            connecting = connect_daemon(*address, folder=Path.cwd(), **more)
            daemon = await stack.enter_async_context(connecting)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UsageError(
                f"Cannot reach the daemon at {flags.connect}: {reason.lower()}.", UNAVAILABLE
            ) from None
        return await _command(daemon, flags, screen, prompt, key)


def report(error: BaseException, screen: Screen) -> int:
    """Say what went wrong in one sentence; gives the exit code.

    Raises:
        BaseException: The error, if it is none of ours.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case BrokenPipeError():
            # Whoever read our output has left; nothing is left to say.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return OK
        case UsageError():
            screen.fail(str(error), "", {"kind": "usage"})
            return error.code
        case DaemonError():
            kind = (
                error.data.kind if error.data else "invalid" if error.code == INVALID_PARAMS else "internal"
            )
            shown = error.data.model_dump(by_alias=True, exclude_none=True) if error.data else {"kind": kind}
            screen.fail(str(error), (error.data and error.data.hint) or "", shown)
            return EXIT_CODES.get(kind, SOFTWARE)
        case DaemonGone():
            hint = "If it printed nothing above, somebody else ended it."
            screen.fail("The daemon ended before it answered.", hint, {"kind": "internal"})
            return SOFTWARE
        case OSError():
            screen.fail(f"Reading or writing failed: {error.strerror or error}.", "", {"kind": "internal"})
            return IO_ERROR
        case _:
            raise error


def _options(flags: argparse.Namespace) -> Mapping[str, Any]:
    """`initializationOptions`."""
    return {"flags": {key: value for key in ("provider", "model") if (value := getattr(flags, key))}}


def _notes(flags: argparse.Namespace, screen: Screen) -> Callable[[str, Any], None]:
    def on_notification(method: str, params: Any) -> None:
        if method == "$/progress":
            screen.take_progress(params.get("value"))
        elif method == "window/showMessage" and flags.command not in _TELLS_ITSELF:
            if params.get("type") == ERROR_MESSAGE and flags.command in _ANSWERED_BY_A_SERVER:
                return  # the run ends with it: see `_check_configuration`
            screen.note(str(params.get("message", "")), warning=True)

    return on_notification


async def _command(
    daemon: Daemon, flags: argparse.Namespace, screen: Screen, prompt: str, key: str | None
) -> int:
    await _apply_flags(daemon, flags, key)
    if flags.command in _ANSWERED_BY_A_SERVER:
        await _check_configuration(daemon)
    if flags.command is None:
        return await _ask(daemon, flags, screen, prompt)
    command: Callable[[Daemon, argparse.Namespace, Screen], Coroutine[Any, Any, int]]
    command = _COMMANDS[flags.command]
    return await command(daemon, flags, screen)


async def _apply_flags(daemon: Daemon, flags: argparse.Namespace, key: str | None) -> None:
    """Hand address and key to the daemon over the connection; they never stand in its arguments."""
    given: dict[str, str] = {}
    if flags.host:
        given["baseUrl"] = flags.host
    if key:
        given["apiKey"] = key
    if not given:
        return
    listed = await daemon.request("ollm/providers/list", None, state.ProvidersListResult)
    aliases = {alias.alias: alias.provider for alias in listed.aliases}
    default = next((provider.name for provider in listed.providers if provider.is_default), None)
    name = aliases.get(flags.provider, flags.provider) or default
    if name is None:
        raise UsageError("The provider that is configured is not known; name one with --provider.", CONFIG)
    layer = {"provider": name, "providers": {name: given}}
    if flags.model:
        layer["model"] = flags.model
    await daemon.request("ollm/config/set", state.ConfigSetParams(flags=layer), state.ConfigSetResult)


async def _check_configuration(daemon: Daemon) -> None:
    """A wrong configuration is an error here: what would answer is not what the user wrote down."""
    config = await daemon.request("ollm/config/get", None, state.ConfigGetResult)
    first = next((problem for problem in config.problems if problem.severity == "error"), None)
    if first is not None:
        place = (
            f"{first.source}:{first.line}: " if first.line else f"{first.source}: " if first.source else ""
        )
        data = {"kind": "config", "hint": first.hint or "Correct it and try again."}
        raise DaemonError(REQUEST_FAILED, f"{place}{first.message}", data)


async def _ask(daemon: Daemon, flags: argparse.Namespace, screen: Screen, prompt: str) -> int:
    content: str | list[chat.ContentPart] = prompt
    if flags.image:
        images = [chat.ImageContent(type="image", uri=_image_uri(path)) for path in flags.image]
        content = [*images, chat.TextContent(type="text", text=prompt)]
    messages = [chat.Message(role="user", content=content)]
    if flags.system:
        messages.insert(0, chat.Message(role="system", content=flags.system))
    options = chat.GenerationOptions(
        temperature=flags.temperature, max_tokens=flags.max_tokens, seed=flags.seed
    )
    async with daemon.chat(chat.ChatParams(messages=messages, options=options)) as stream:
        try:
            async for delta in stream:
                screen.show(delta)
        except DaemonError:
            screen.end_line()
            raise
    screen.finish(stream.result)
    return OK


def _image_uri(path: str) -> str:
    """The path as the daemon finds it, wherever it runs."""
    is_uri = re.match(r"[a-z][a-z0-9+.-]+:", path, re.IGNORECASE)
    return path if is_uri else str(Path(path).expanduser().absolute())


async def _models(daemon: Daemon, flags: argparse.Namespace, screen: Screen) -> int:
    from ollm_daemon.client.models import run_models

    await run_models(daemon, screen, flags.arguments)
    return OK


async def _doctor(daemon: Daemon, flags: argparse.Namespace, screen: Screen) -> int:
    from ollm_daemon.client.doctor import run_doctor

    return OK if await run_doctor(daemon, screen, generate=not flags.no_generate) else UNAVAILABLE


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


_COMMANDS = {
    "doctor": _doctor,
    "models": _models,
    "providers": _providers,
    "config": _config,
    "trust": _trust,
    "status": _status,
}


def _origin(origin: state.SettingOrigin) -> str:
    place = origin.source or ""
    return f"{origin.layer} {place}:{origin.line}" if origin.line else f"{origin.layer} {place}".strip()
