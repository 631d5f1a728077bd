"""Other projects to stand beside, installed on demand into folders of their own under the user's cache.

Each has its own folder, since some of them want different versions of the same library. Nothing is
installed unless it is asked for, and nothing into the project's own environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.processes import ROOT

_DONE = ".installed"


@dataclass(frozen=True, slots=True)
class Peer:
    """A project in a released version.

    Attributes:
        registry: Where it comes from.
        package: What to install.
        start: How its language server is started, if it is one; `{folder}` is where it was installed.
        with_packages: What it needs and does not say.
    """

    registry: str
    package: str
    start: tuple[str, ...] = ()
    with_packages: tuple[str, ...] = ()


PEERS: Mapping[str, Peer] = {
    "httpx-sse": Peer("pypi", "httpx-sse==0.4.3", with_packages=("httpx==0.28.1",)),
    "ollama": Peer("pypi", "ollama==0.6.3"),
    "openai": Peer("pypi", "openai==3.54.0"),
    "any-llm": Peer("pypi", "any-llm-sdk[openai]==1.40.2"),
    "litellm": Peer("pypi", "litellm==1.106.2"),
    "jedi-language-server": Peer(
        "pypi", "jedi-language-server==0.47.0", ("{folder}/bin/jedi-language-server",)
    ),
    "tabby-agent": Peer(
        "npm",
        "tabby-agent@1.5.0",
        ("node", "{folder}/node_modules/tabby-agent/dist/cli.js", "--lsp", "--stdio"),
    ),
    "copilot-language-server": Peer(
        "npm",
        "@github/copilot-language-server@1.539.0",
        ("node", "{folder}/node_modules/@github/copilot-language-server/dist/language-server.js", "--stdio"),
    ),
}
LANGUAGE_SERVERS = tuple(name for name, peer in PEERS.items() if peer.start)


class NotAvailable(Exception):
    """A peer that cannot be had here; the text says why."""


def install(peer: Peer) -> Path:
    """The folder a peer is installed in; installs it when it is not.

    Raises:
        NotAvailable: It cannot be.
    """
    folder = _cache() / peer.package.replace("/", "_")
    if (folder / _DONE).exists():
        return folder
    print(f"installing {peer.package} into {folder}", file=sys.stderr, flush=True)
    for command in _commands(peer, folder):
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=300)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"cannot install {peer.package}: {error}", file=sys.stderr, flush=True)
            raise NotAvailable("not installed") from error
    (folder / _DONE).touch()
    return folder


def start_command(peer: Peer, folder: Path) -> tuple[str, ...]:
    """The command that starts an installed language server."""
    return tuple(part.format(folder=folder) for part in peer.start)


def _commands(peer: Peer, folder: Path) -> list[list[str]]:
    if peer.registry == "npm":
        quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        return [["npm", "install", *quiet, "--prefix", str(folder), peer.package]]
    uv = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    python = str(folder / "bin" / "python")
    return [
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", python, peer.package, *peer.with_packages],
    ]


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    version = f"python-{sys.version_info.major}.{sys.version_info.minor}"
    return Path(base) / "ollm-daemon-bench" / version
