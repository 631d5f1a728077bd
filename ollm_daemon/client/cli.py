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
import sys
from collections.abc import Sequence
from pathlib import Path

from ollm_daemon.client._process import daemon_process
from ollm_daemon.client.arguments import check_words, make_parser
from ollm_daemon.client.exit_codes import CONFIG, DATA, INTERRUPTED, UNAVAILABLE, USAGE, UsageError
from ollm_daemon.client.render import Screen

COMMANDS = ("config", "doctor", "models", "providers", "status", "trust")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    parser = make_parser(COMMANDS, (__doc__ or "").partition("\n\n")[2])
    flags = parser.parse_args(argv)
    check_words(parser, flags)
    screen = Screen(as_json=flags.json)
    try:
        return asyncio.run(_run(flags, screen))
    except KeyboardInterrupt:
        screen.end_line()
        return INTERRUPTED
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - what is not ours is raised again
        from ollm_daemon.client.commands import report

        return report(error, screen)


async def _run(flags: argparse.Namespace, screen: Screen) -> int:
    prompt = _read_prompt(flags) if flags.command is None else ""
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
    path = folder / f"daemon-{port}.json"
    try:
        token = json.loads(path.read_text(encoding="utf-8"))["token"]
    except (OSError, ValueError, KeyError):
        raise UsageError(
            f"There is no daemon of yours on port {port}: its token file {path} is missing.", UNAVAILABLE
        ) from None
    return host.strip("[]") or "127.0.0.1", int(port), token


def _read_key(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise UsageError(f"The key file {path} cannot be read: {reason.lower()}.", CONFIG) from None


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
