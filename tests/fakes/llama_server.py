"""llama.cpp's real HTTP server in a child process, from the `xllamacpp` wheel.

    with llama_server(model, api_key="k") as server:
        ...                          # server.url answers /v1/chat/completions and the rest

Run as a program it is that child: it prints `LISTENING URL` and lives until its standard input ends.
"""

from __future__ import annotations

import argparse
import importlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 30.0
"""Seconds after which a child that has said nothing is killed."""


@dataclass(frozen=True)
class LlamaServer:
    """A server that is up."""

    url: str
    pid: int


@contextmanager
def llama_server(
    model: Path,
    *,
    api_key: str | None = None,
    parallel: int = 1,
    context: int = 2048,
    batch: int = 2048,
    template: str | None = None,
) -> Iterator[LlamaServer]:
    """A server with `model` loaded; `context` is what each of its `parallel` slots gets.

    Args:
        batch: Tokens that it reads at once; of a window no larger `/infill` keeps nothing for other files.
        template: The chat template, when it is not to be the model's own.
    """
    options = [f"--parallel={parallel}", f"--context={context}", f"--batch={batch}"]
    if template is not None:
        options.append(f"--template={template}")
    if api_key is not None:
        options.append(f"--api-key={api_key}")
    with _child(model, options) as process:
        yield LlamaServer(_line_with(process, "LISTENING ").split()[1], process.pid)


@contextmanager
def loading_llama_server(pipe: Path) -> Iterator[LlamaServer]:
    """A server that stays at loading its model, for the model is a pipe nobody writes to."""
    os.mkfifo(pipe)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]  # it tells its own only once the model is there
    with _child(pipe, [f"--port={port}", "--verbose"]) as process:
        _line_with(process, "load_model: loading model")
        yield LlamaServer(f"http://127.0.0.1:{port}", process.pid)


@contextmanager
def _child(model: Path, options: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, __file__, str(model), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _line_with(process: subprocess.Popen[str], text: str) -> str:
    """The child's first line with `text`."""
    assert process.stdout
    said = []
    guard = threading.Timer(PATIENCE, process.kill)
    guard.start()
    try:
        for line in process.stdout:
            if text in line:
                return line
            said.append(line)
    finally:
        guard.cancel()
        guard.join()
    raise RuntimeError("llama.cpp's server did not start:\n" + "".join(said))


def _serve() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--api-key")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--template")
    parser.add_argument("--verbose", action="store_true")
    wanted = parser.parse_args()

    xllamacpp = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = wanted.model
    params.hostnames = ["127.0.0.1"]
    params.port = wanted.port
    params.n_parallel = wanted.parallel
    params.n_ctx = wanted.context * wanted.parallel
    params.n_batch = wanted.batch
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.use_jinja = True
    params.warmup = False
    params.ui = False
    params.offline = True
    if wanted.api_key:
        params.api_keys = [wanted.api_key]
    if wanted.template:
        params.chat_template = wanted.template
    if not wanted.verbose:
        params.verbosity = -1
    server = xllamacpp.Server(params)
    print("LISTENING", server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    _serve()
