"""`ollm`: ask a model from the shell, and look at what the daemon knows.

Exit codes: 0 answered · 2 wrong usage · 65 the request cannot be answered (empty or too long a
prompt, input that is not text) · 69 the server is not available · 70 a fault of ours · 76 the server's
answer was broken · 77 the key is missing or wrong · 78 the configuration is wrong · 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from ollm_daemon.client._client import Daemon, DaemonError, DaemonGone, connect_daemon, open_daemon
from ollm_daemon.client.arguments import check_words, make_parser
from ollm_daemon.client.render import Screen, table
from ollm_daemon.protocol import chat, state

OK, USAGE, DATA, UNAVAILABLE, SOFTWARE, PROTOCOL, NO_PERMISSION, CONFIG, INTERRUPTED = (
    0,
    2,
    65,
    69,
    70,
    76,
    77,
    78,
    130,
)
INVALID_PARAMS = -32602
REQUEST_FAILED = -32803
EXIT_CODES: Mapping[str, int] = {
    "config": CONFIG,
    "unsupported": DATA,
    "invalid": DATA,
    "too_large": DATA,
    "context_length": DATA,
    "not_found": CONFIG,
    "auth": NO_PERMISSION,
    "forbidden": NO_PERMISSION,
    "unreachable": UNAVAILABLE,
    "dns": UNAVAILABLE,
    "tls": UNAVAILABLE,
    "proxy": UNAVAILABLE,
    "timeout_connect": UNAVAILABLE,
    "timeout_first_token": UNAVAILABLE,
    "timeout_idle": UNAVAILABLE,
    "timeout_total": UNAVAILABLE,
    "rate_limited": UNAVAILABLE,
    "overloaded": UNAVAILABLE,
    "backend": UNAVAILABLE,
    "redirect": PROTOCOL,
    "protocol": PROTOCOL,
    "bad_content_type": PROTOCOL,
    "stream_truncated": PROTOCOL,
    "limit": PROTOCOL,
    "internal": SOFTWARE,
}


class UsageError(Exception):
    """What the user asked for cannot be done; the exit code says which way."""

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    parser = make_parser(_COMMANDS, (__doc__ or "").partition("\n\n")[2])
    flags = parser.parse_args(argv)
    check_words(parser, flags)
    screen = Screen(as_json=flags.json)
    try:
        return asyncio.run(_run(flags, screen))
    except KeyboardInterrupt:
        screen.end_line()
        return INTERRUPTED
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - what is not ours is raised again
        return _report(_first(error), screen)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _report(error: BaseException, screen: Screen) -> int:
    """Say what went wrong in one sentence; gives the exit code."""
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
            screen.fail("The daemon ended before it answered.", "What it printed above says why.", {})
            return SOFTWARE
        case OSError():
            screen.fail(f"Cannot reach the daemon: {error.strerror or error}.", "", {"kind": "unreachable"})
            return UNAVAILABLE
        case _:
            raise error


async def _run(flags: argparse.Namespace, screen: Screen) -> int:
    prompt = _read_prompt(flags) if flags.command is None else ""
    async with _open(flags, screen) as daemon:
        await _apply_flags(daemon, flags)
        if flags.command in (None, "models"):
            await _check_configuration(daemon, screen)
        command: Callable[[Daemon, argparse.Namespace, Screen], Coroutine[Any, Any, int]]
        if flags.command is None:
            return await _ask(daemon, flags, screen, prompt)
        command = _COMMANDS[flags.command]
        return await command(daemon, flags, screen)


def _open(flags: argparse.Namespace, screen: Screen) -> AbstractAsyncContextManager[Daemon]:
    def on_notification(method: str, params: Any) -> None:
        if method == "$/progress":
            screen.take_progress(params.get("value"))
        elif method == "window/showMessage" and flags.command not in ("config", "doctor"):
            screen.note(str(params.get("message", "")), warning=True)

    settings = {key: value for key in ("provider", "model") if (value := getattr(flags, key))}
    options = {"flags": settings}
    folder = Path.cwd()
    if flags.connect is None:
        return open_daemon(options=options, folder=folder, on_notification=on_notification)
    host, port, token = _find_token(flags.connect)
    return connect_daemon(host, port, token, options=options, folder=folder, on_notification=on_notification)


def _find_token(address: str) -> tuple[str, int, str]:
    """The token of a running daemon, from the private file it left."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise UsageError(f"`--connect {address}` is not HOST:PORT.")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    state_home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = (Path(runtime) if runtime else Path(state_home)) / "ollm" / "run"
    path = folder / f"daemon-{port}.json"
    try:
        token = json.loads(path.read_text(encoding="utf-8"))["token"]
    except (OSError, ValueError, KeyError):
        raise UsageError(
            f"There is no daemon of yours on port {port}: its token file {path} is missing.", UNAVAILABLE
        ) from None
    return host.strip("[]") or "127.0.0.1", int(port), token


async def _apply_flags(daemon: Daemon, flags: argparse.Namespace) -> None:
    """Hand address and key to the daemon over the connection; they never stand in its arguments."""
    given: dict[str, str] = {}
    if flags.host:
        given["baseUrl"] = flags.host
    if flags.api_key_file:
        given["apiKey"] = _read_key(flags.api_key_file)
    elif flags.api_key:
        given["apiKey"] = flags.api_key
    if not given:
        return
    listed = await daemon.request("ollm/providers/list", None, state.ProvidersListResult)
    aliases = {alias.alias: alias.provider for alias in listed.aliases}
    name = aliases.get(flags.provider, flags.provider)
    name = name or next(provider.name for provider in listed.providers if provider.is_default)
    layer = {"provider": name, "providers": {name: given}}
    if flags.model:
        layer["model"] = flags.model
    daemon.notify("workspace/didChangeConfiguration", {"settings": {"ollm": {"flags": layer}}})


def _read_key(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise UsageError(f"The key file {path} cannot be read: {reason.lower()}.", CONFIG) from None


async def _check_configuration(daemon: Daemon, screen: Screen) -> None:
    """A wrong configuration is an error here: what would answer is not what the user wrote down."""
    config = await daemon.request("ollm/config/get", None, state.ConfigGetResult)
    errors = [problem for problem in config.problems if problem.severity == "error"]
    if errors:
        screen.forget_notes()
        first = errors[0]
        place = (
            f"{first.source}:{first.line}: " if first.line else f"{first.source}: " if first.source else ""
        )
        raise DaemonError(
            -32803,
            f"{place}{first.message}",
            {"kind": "config", "hint": first.hint or "Correct it and try again."},
        )


def _read_prompt(flags: argparse.Namespace) -> str:
    """The prompt, with standard input as its context when that is not a terminal."""
    context = ""
    if sys.stdin is not None and not sys.stdin.closed and not sys.stdin.isatty():
        data = sys.stdin.buffer.read()
        try:
            context = data.decode("utf-8")
        except UnicodeDecodeError:
            raise UsageError("Standard input is not UTF-8 text; a model reads text only.", DATA) from None
        if "\0" in context:
            raise UsageError("Standard input is binary; a model reads text only.", DATA)
    prompt = flags.prompt or ""
    text = f"{prompt}\n\n{context}" if prompt.strip() and context.strip() else prompt or context
    if not text.strip():
        raise UsageError(
            "There is no prompt: give one with -p, or text on standard input. See `ollm --help`.",
            USAGE if flags.prompt is None else DATA,
        )
    return text


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
    pending = (await daemon.request("ollm/trust/get", None, state.TrustGetResult)).pending
    if not pending:
        screen.note("This workspace asks for nothing that needs your approval.")
    for request in pending:
        screen.write(f"{request.question}\n  written in {request.source}")
        for key, value in request.values.items():
            if value is not None:
                screen.write(f"  {key}: {value}")
        if not flags.yes:
            if not sys.stdin.isatty():
                raise UsageError(
                    "Nobody can be asked here; run it in a terminal or with --yes.", NO_PERMISSION
                )
            answer = await asyncio.to_thread(input, "Allow it? [y/N] ")
            if answer.strip().lower() not in ("y", "yes"):
                continue
        params = state.TrustApproveParams(digest=request.digest)
        await daemon.request("ollm/trust/approve", params, state.TrustApproveResult)
        screen.note("Allowed, for exactly this content.")
    return OK


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
