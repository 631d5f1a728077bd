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
from collections.abc import Sequence
from pathlib import Path

from ollm_daemon import __version__
from ollm_daemon.client._process import daemon_process
from ollm_daemon.client.exit_codes import CONFIG, DATA, INTERRUPTED, UNAVAILABLE, USAGE, UsageError
from ollm_daemon.client.render import Screen

COMMANDS = ("config", "models", "providers", "status", "trust")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    flags = _parser().parse_args(argv)
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


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ollm",
        description="Ask a local or self-hosted model.",
        epilog=re.sub(r"\s+", " ", (__doc__ or "").partition("\n\n")[2]),
    )
    parser.add_argument("command", nargs="?", choices=COMMANDS, help="look instead of asking")
    parser.add_argument("-p", "--prompt", help="what to ask; standard input becomes its context")
    parser.add_argument("--provider", help="local, vllm, openai-compatible, a backend's name or an alias")
    parser.add_argument("--model", help="model or alias")
    parser.add_argument("--host", metavar="URL", help="address of the provider's server")
    parser.add_argument("--api-key", help="key of the server; better in a file or the environment")
    parser.add_argument("--api-key-file", metavar="FILE", help="file that holds the key")
    parser.add_argument("--system", help="system message")
    parser.add_argument("--temperature", type=_temperature, help="randomness; 0 is greedy")
    parser.add_argument("--max-tokens", type=_count, metavar="N", help="most tokens to generate")
    parser.add_argument("--seed", type=int, help="seed of the sampler")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument("--connect", metavar="[HOST:]PORT", help="use a daemon that runs with --tcp")
    parser.add_argument("--all", action="store_true", help="with config: built-in values too")
    parser.add_argument("--yes", action="store_true", help="with trust: approve without asking")
    parser.add_argument("--version", action="version", version=f"ollm {__version__}")
    return parser
