"""The daemon that editors talk to, and the model behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.editors.editors import environment
from tests.fakes.peer import over_tcp

TOKENS = 8
"""Of one offer, so that it is no longer than a line of the screen."""


def configure(home: Path, url: str, **completion: Any) -> None:
    """A user's configuration with a llama.cpp server."""
    provider = {"kind": "openai-compatible", "backend": "llamacpp", "baseUrl": url}
    settings = {
        "provider": "here",
        "model": "tiny",
        "providers": {"here": provider},
        "completion": {"maxTokens": TOKENS, **completion},
    }
    folder = home / ".ollm"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(json.dumps(settings))


@contextlib.contextmanager
def listening(home: Path) -> Iterator[Path]:
    """A daemon that listens on a port; gives the file with its address and token."""
    command = ("ollm-daemon", "--tcp", "0")
    process = subprocess.Popen(
        command, env={**environment(home)}, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stderr
        line = process.stderr.readline()
        try:
            yield Path(line.rsplit(" ", 1)[1].strip())
        finally:
            process.terminate()


def status(daemon_file: Path) -> Any:
    """What a daemon says of itself to one more client."""
    daemon = json.loads(daemon_file.read_text())

    async def ask() -> Any:
        async with over_tcp(daemon["port"]) as peer:
            await peer.initialize(options={"token": daemon["token"]})
            return await peer.request("ollm/status")

    return asyncio.run(ask())


def written(url: str, prefix: str, suffix: str) -> str:
    """What the model writes between two texts, in the same line: asked of its server directly."""
    body = {
        "input_prefix": prefix,
        "input_suffix": suffix,
        "n_predict": TOKENS,
        "temperature": 0,
    }
    answer = httpx.post(f"{url}/infill", json=body, timeout=20, trust_env=False)
    text: str = answer.json()["content"].partition("\n")[0].rstrip()
    assert text
    return text
