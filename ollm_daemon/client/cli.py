"""`ollm`: ask a model from the shell, and look at what the daemon knows.

Exit codes: 0 answered · 2 wrong usage · 65 the request cannot be answered (empty or too long a
prompt, input that is not text) · 69 the server is not available · 70 a fault of ours · 74 reading or
writing failed · 76 the server's answer was broken · 77 the key is missing or wrong · 78 the configuration
is wrong · 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ollm_daemon.client._process import daemon_process
from ollm_daemon.client.arguments import check_words, make_parser
from ollm_daemon.client.exit_codes import CONFIG, DATA, INTERRUPTED, UNAVAILABLE, USAGE, UsageError
from ollm_daemon.client.render import Screen
from ollm_daemon.standard_streams import open_standard_streams

COMMANDS = ("config", "doctor", "models", "providers", "status", "trust")
MAX_INPUT = 8 << 20
"""Bytes of standard input: more than any model reads, and escaped it still fits a message."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    open_standard_streams()
    parser = make_parser(COMMANDS, (__doc__ or "").partition("\n\n")[2])
    flags = parser.parse_args(argv)
    check_words(parser, flags)
    screen = Screen(as_json=flags.json)
    try:
        # Read before the loop runs: there Ctrl-C would only cancel a task that is not listening.
        prompt = _read_prompt(flags)
        return asyncio.run(_run(flags, screen, prompt))
    except KeyboardInterrupt:
        screen.end_line()
        return INTERRUPTED
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - what is not ours is raised again
        from ollm_daemon.client.commands import report

        return report(error, screen)


async def _run(flags: argparse.Namespace, screen: Screen, prompt: str) -> int:
    key = _read_key(flags.api_key_file) if flags.api_key_file else flags.api_key
    if flags.connect is not None:
        from ollm_daemon.client import commands

        return await commands.run_connected(flags, screen, prompt, key, _find_token(flags.connect))
    async with daemon_process() as streams:
        # The contract takes as long to import as the daemon takes to come up, so both happen at once.
        from ollm_daemon.client import commands

        return await commands.run_own(flags, screen, prompt, key, streams)


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


def _read_key(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, ValueError, RuntimeError) as error:  # not text, or NUL in the path; `~` of nobody
        reason = getattr(error, "strerror", None) or (
            "not text" if isinstance(error, UnicodeDecodeError) else str(error).rstrip(".")
        )
        raise UsageError(f"The key file {path} cannot be read: {reason.lower()}.", CONFIG) from None


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
