"""The arguments of `ollm`, checked one by one."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ollm_daemon import __version__


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


def make_parser(commands: Iterable[str], exit_codes: str) -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="ollm",
        description="Ask a local or self-hosted model.",
        epilog=exit_codes,
    )
    parser.add_argument("command", nargs="?", choices=sorted(commands), help="look instead of asking")
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
