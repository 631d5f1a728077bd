"""The command line of `ollm`: what it takes, and what is refused with a sentence."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping

from ollm_daemon import __version__

MODEL_WORDS: Mapping[str, int] = {"list": 0, "ps": 0, "show": 1, "pull": 1, "rm": 1, "load": 1, "unload": 1}
"""What `ollm models` takes, and how many names of models after it."""


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


def make_parser(commands: Iterable[str], epilog: str) -> argparse.ArgumentParser:
    """The parser of `ollm`; `check_words` looks at the words behind a command."""
    parser = argparse.ArgumentParser(
        prog="ollm",
        description="Ask a local or self-hosted model.",
        epilog=re.sub(r"\s+", " ", epilog),
    )
    parser.add_argument("command", nargs="?", choices=sorted(commands), help="look instead of asking")
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="WORD",
        help="with models: ps, show MODEL, pull MODEL, rm MODEL, load MODEL or unload MODEL",
    )
    parser.add_argument("-p", "--prompt", help="what to ask; standard input becomes its context")
    parser.add_argument("--provider", help="local, vllm, openai-compatible, a backend's name or an alias")
    parser.add_argument("--model", help="model or alias")
    parser.add_argument("--host", metavar="URL", help="address of the provider's server")
    parser.add_argument("--api-key", help="key of the server; better in a file or the environment")
    parser.add_argument("--api-key-file", metavar="FILE", help="file that holds the key")
    parser.add_argument(
        "--image", action="append", default=[], metavar="FILE", help="an image to ask about; may be repeated"
    )
    parser.add_argument("--system", help="system message")
    parser.add_argument("--temperature", type=_temperature, help="randomness; 0 is greedy")
    parser.add_argument("--max-tokens", type=_count, metavar="N", help="most tokens to generate")
    parser.add_argument("--seed", type=int, help="seed of the sampler")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument("--connect", metavar="[HOST:]PORT", help="use a daemon that runs with --tcp")
    parser.add_argument("--all", action="store_true", help="with config: built-in values too")
    parser.add_argument("--no-generate", action="store_true", help="with doctor: let no model write")
    parser.add_argument("--yes", action="store_true", help="with trust: approve without asking")
    parser.add_argument("--version", action="version", version=f"ollm {__version__}")
    return parser


def check_words(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> None:
    """Refuse words that the command does not take."""
    words = flags.arguments
    if flags.command == "models" and words:
        if words[0] not in MODEL_WORDS:
            parser.error(f"`ollm models {words[0]}` is not known; it takes {', '.join(MODEL_WORDS)}")
        if len(words) - 1 != MODEL_WORDS[words[0]]:
            parser.error(f"`ollm models {words[0]}` takes {MODEL_WORDS[words[0]] or 'no'} MODEL")
    elif words:
        parser.error(f"unrecognized arguments: {' '.join(words)}")
