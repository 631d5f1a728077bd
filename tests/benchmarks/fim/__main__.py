"""`python -m tests.benchmarks.fim`: see the package's docstring."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio

from ollm_daemon.providers.backends import BACKENDS
from tests.benchmarks.fim.embedded import embedded_model, write_with_marks
from tests.benchmarks.fim.holes import Hole, choose_holes, installed_files, matching_files
from tests.benchmarks.fim.scores import Filling, markdown, write_json
from tests.benchmarks.fim.writers import (
    BLOCK_TOKENS,
    HOLE_SECONDS,
    WriterError,
    fill_holes,
)
from tests.fakes.llama_server import llama_server
from tests.fakes.peer import in_memory

EXIT_FAILED = 2


def main(arguments: list[str]) -> int:
    """Fill holes and report; gives 2 when nobody fills them."""
    flags = _parser().parse_args(arguments)
    files = matching_files(flags.files) if flags.files else installed_files()
    holes = choose_holes(files, flags.holes, flags.seed)
    if not holes:
        print("There is no file to cut holes from.", file=sys.stderr)
        return EXIT_FAILED
    began = time.monotonic()
    try:
        with _server(flags) as url:
            fillings = anyio.run(_fill, flags, url, holes)
    except (WriterError, FileNotFoundError) as error:
        print(f"fim: {error}", file=sys.stderr)
        return EXIT_FAILED
    facts = {
        "Model": f"{flags.model or 'the one that is loaded'}, {flags.provider or url}",
        "Holes": f"{len(fillings) // 2} of {len(holes)}, seed {flags.seed}",
        "Sent along": f"up to {flags.context_tokens} tokens",
        "Time": f"{time.monotonic() - began:.0f} s",
    }
    if flags.embedded:
        facts["Model"] = f"{embedded_model().stem}, with marks it was not taught"
    print(markdown(facts, fillings))
    if flags.json:
        write_json(flags.json, facts, fillings)
    return 0


@contextlib.contextmanager
def _server(flags: argparse.Namespace) -> Iterator[str | None]:
    """Where the server is; for the embedded model one is started."""
    if not flags.embedded:
        yield flags.url
        return
    with tempfile.TemporaryDirectory(prefix="ollm-fim-") as folder:
        model = write_with_marks(embedded_model(), Path(folder) / "marked.gguf")
        with llama_server(model, context=flags.context_tokens + 2 * BLOCK_TOKENS) as server:
            flags.backend = "llamacpp"
            yield server.url


async def _fill(flags: argparse.Namespace, url: str | None, holes: list[Hole]) -> list[Filling]:
    settings = _settings(flags, url)
    with tempfile.TemporaryDirectory(prefix="ollm-fim-") as empty:
        # A provider's name may mean one of the user's own configuration.
        home = Path(empty) if url else Path.home()
        async with in_memory(home, None if url else dict(os.environ)) as peer:
            peer.patience = HOLE_SECONDS
            await peer.initialize(options={"flags": settings})
            try:
                return await fill_holes(
                    peer, holes, context_tokens=flags.context_tokens, seconds=flags.seconds
                )
            except WriterError as error:
                failure = error
    raise failure


def _settings(flags: argparse.Namespace, url: str | None) -> dict[str, Any]:
    completion = {"debounceMs": 0, "contextTokens": flags.context_tokens, "maxTokens": BLOCK_TOKENS}
    settings: dict[str, Any] = {
        "completion": {**completion, **({"family": flags.family} if flags.family else {})}
    }
    if flags.model:
        settings["model"] = flags.model
    if url:
        provider = {"kind": "openai-compatible", "backend": flags.backend, "baseUrl": url}
        if flags.backend == "ollama":
            provider = {"kind": "local", "baseUrl": url}
        return {**settings, "provider": "fim", "providers": {"fim": provider}}
    return {**settings, "provider": flags.provider}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.fim", description="How good offers are."
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--provider", metavar="NAME", help="a provider of the daemon or of your configuration")
    where.add_argument("--url", help="a server")
    where.add_argument("--embedded", action="store_true", help="SmolLM2-135M, which was not taught this")
    backends = ["auto", "ollama", *sorted(set(BACKENDS) - {"ollama"})]
    parser.add_argument("--backend", default="auto", choices=backends, help="what the server at --url is")
    parser.add_argument("--model", help="which of its models; without one it chooses")
    parser.add_argument("--family", help="the model's kind, when its name does not tell")
    parser.add_argument(
        "--files", nargs="+", metavar="GLOB", help="cut holes from these, not what is installed"
    )
    parser.add_argument("--holes", type=int, default=60, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument(
        "--context-tokens",
        type=int,
        default=1024,
        metavar="N",
        help="of everything that is sent along (256 suits a small model on a slow processor)",
    )
    parser.add_argument("--seconds", type=float, default=600, help="begin no hole after so long")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write scores and every filling")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
