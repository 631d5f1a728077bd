"""`ollm`: ask a model from the shell, and look at what the daemon knows.

Exit codes: 0 answered · 2 wrong usage · 65 the request cannot be answered (empty or too long a
prompt, input that is not text) · 69 the server is not available · 70 a fault of ours · 74 reading or
writing failed · 76 the server's answer was broken · 77 the key is missing or wrong · 78 the configuration
is wrong · 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from ollm_daemon.client._client import Daemon, DaemonError, DaemonGone, connect_daemon, open_daemon
from ollm_daemon.client.arguments import make_parser
from ollm_daemon.client.commands import COMMANDS
from ollm_daemon.client.exit_codes import (
    CONFIG,
    DATA,
    EXIT_CODES,
    INTERRUPTED,
    IO_ERROR,
    OK,
    SOFTWARE,
    UNAVAILABLE,
    USAGE,
    UsageError,
)
from ollm_daemon.client.render import Screen
from ollm_daemon.protocol import chat, state
from ollm_daemon.standard_streams import open_standard_streams

_ANSWERED_BY_A_SERVER = frozenset({None, "models"})
"""Commands, none among them, that fail on a wrong configuration."""
INVALID_PARAMS = -32602
REQUEST_FAILED = -32803
ERROR_MESSAGE = 1
"""LSP's `MessageType.Error`."""
MAX_INPUT = 8 << 20
"""Bytes of standard input: more than any model reads, and escaped it still fits a message."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    open_standard_streams()
    exit_codes = re.sub(r"\s+", " ", (__doc__ or "").partition("\n\n")[2])
    flags = make_parser(COMMANDS, exit_codes).parse_args(argv)
    screen = Screen(as_json=flags.json)
    try:
        # Read before the loop runs: there Ctrl-C would only cancel a task that is not listening.
        prompt = _read_prompt(flags)
        return asyncio.run(_run(flags, screen, prompt))
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
            hint = "If it printed nothing above, somebody else ended it."
            screen.fail("The daemon ended before it answered.", hint, {"kind": "internal"})
            return SOFTWARE
        case OSError():
            screen.fail(f"Reading or writing failed: {error.strerror or error}.", "", {"kind": "internal"})
            return IO_ERROR
        case _:
            raise error


async def _run(flags: argparse.Namespace, screen: Screen, prompt: str) -> int:
    async with _open(flags, screen) as daemon:
        await _apply_flags(daemon, flags)
        if flags.command in _ANSWERED_BY_A_SERVER:
            await _check_configuration(daemon)
        if flags.command is None:
            return await _ask(daemon, flags, screen, prompt)
        return await COMMANDS[flags.command](daemon, flags, screen)


@contextlib.asynccontextmanager
async def _open(flags: argparse.Namespace, screen: Screen) -> AsyncIterator[Daemon]:
    def on_notification(method: str, params: Any) -> None:
        if method != "window/showMessage" or flags.command == "config":
            return
        if params.get("type") == ERROR_MESSAGE and flags.command in _ANSWERED_BY_A_SERVER:
            return  # the run ends with it: see `_check_configuration`
        screen.note(str(params.get("message", "")), warning=True)

    options = {"flags": {key: value for key in ("provider", "model") if (value := getattr(flags, key))}}
    more: dict[str, Any] = {"options": options, "folder": Path.cwd(), "on_notification": on_notification}
    async with contextlib.AsyncExitStack() as stack:
        if flags.connect is None:
            daemon = await stack.enter_async_context(open_daemon(**more))
        else:
            try:
                connecting = connect_daemon(*_find_token(flags.connect), **more)
                daemon = await stack.enter_async_context(connecting)
            except OSError as error:
                reason = error.strerror or str(error)
                raise UsageError(
                    f"Cannot reach the daemon at {flags.connect}: {reason.lower()}.", UNAVAILABLE
                ) from None
        yield daemon


def _find_token(address: str) -> tuple[str, int, str]:
    """The token of a running daemon, from the private file it left."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise UsageError(f"`--connect {address}` is not HOST:PORT.")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    state_home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = (Path(runtime) if runtime else Path(state_home)) / "ollm" / "run"
    host = host.strip("[]") or "127.0.0.1"
    name = port if host == "127.0.0.1" else f"{host.replace(':', '_')}-{port}"
    path = folder / f"daemon-{name}.json"
    try:
        token = json.loads(path.read_text(encoding="utf-8"))["token"]
    except (OSError, ValueError, KeyError):
        raise UsageError(
            f"There is no daemon of yours on port {port}: its token file {path} is missing.", UNAVAILABLE
        ) from None
    return host, int(port), token


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
    default = next((provider.name for provider in listed.providers if provider.is_default), None)
    name = aliases.get(flags.provider, flags.provider) or default
    if name is None:
        raise UsageError("The provider that is configured is not known; name one with --provider.", CONFIG)
    layer = {"provider": name, "providers": {name: given}}
    if flags.model:
        layer["model"] = flags.model
    await daemon.request("ollm/config/set", state.ConfigSetParams(flags=layer), state.ConfigSetResult)


def _read_key(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, ValueError, RuntimeError) as error:  # not text, or NUL in the path; `~` of nobody
        reason = getattr(error, "strerror", None) or (
            "not text" if isinstance(error, UnicodeDecodeError) else str(error).rstrip(".")
        )
        raise UsageError(f"The key file {path} cannot be read: {reason.lower()}.", CONFIG) from None


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


def _read_prompt(flags: argparse.Namespace) -> str:
    """The prompt, with standard input as its context when that is not a terminal; none for a command."""
    if flags.command is not None:
        if flags.prompt is not None:
            raise UsageError(f"`ollm {flags.command}` takes no prompt.")
        return ""
    context = ""
    if not sys.stdin.isatty():
        data = sys.stdin.buffer.read(MAX_INPUT + 1)
        if len(data) > MAX_INPUT:
            raise UsageError(f"Standard input is larger than {MAX_INPUT >> 20} MiB.", DATA)
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
    messages = [chat.Message(role="user", content=prompt)]
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
