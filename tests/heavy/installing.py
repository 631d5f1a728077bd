"""Each server in an environment of its own, installed once and kept between runs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

RECIPES = Path(__file__).parent / "recipes"
RECIPE = "1"
"""Changes when this file installs something else from the same lists."""

TORCH = "torch==2.13.0+cpu"
"""The build without CUDA, which is eight gigabytes smaller and the one these wheels were linked to. The
public index has none; it comes from wherever pip is told to look."""

DOWNLOAD = 1200.0
"""Seconds that the packages of one server may take."""

_COMPLETE = "complete"


class LeftOut(Exception):
    """A server cannot be installed on this machine; says why."""


def vllm() -> Path:
    """The Python that has vLLM 0.32.0.

    Raises:
        LeftOut: There is no such environment here, and none can be made.
    """
    return _part("vllm-0.32.0", _install_vllm, "vllm.txt")


def fastchat() -> Path:
    """The Python that has FastChat 0.2.36, as `vllm`."""
    return _part("fastchat-0.2.36", lambda home: _install_with_torch(home, "fastchat.txt"), "fastchat.txt")


def router() -> Path:
    """The Python that has vLLM's router, as `vllm`."""
    return _part("vllm-router-0.1.17", lambda home: _install(home, "router.txt"), "router.txt")


def models() -> Path:
    """The folder with a folder for each model, as `vllm`."""
    python = vllm()

    def write(home: Path) -> None:
        script = str(RECIPES / "models.py")
        offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home / "hub"), "TQDM_DISABLE": "1"}
        subprocess.run([python, "-P", script, str(home)], check=True, env=offline)

    return _part("models", write, "models.py", "chat.jinja", "vllm.txt").parents[1]


def cache() -> Path:
    """The folder that everything is installed into."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "ollm-daemon-ci"


def _part(name: str, install: Callable[[Path], object], *recipe: str) -> Path:
    """The Python of a part's environment. A folder counts once its mark is there, which is written last;
    two runs at once take turns.
    """
    digest = hashlib.sha256(RECIPE.encode())
    for file in recipe:
        digest.update((RECIPES / file).read_bytes())
    home = cache() / f"{name}-{digest.hexdigest()[:12]}"
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / _COMPLETE).exists():
            if home.exists():
                shutil.rmtree(home)
            home.mkdir()
            started = time.monotonic()
            print(f"\n{name}: installing into {home}", flush=True)
            install(home)
            (home / _COMPLETE).touch()
            print(f"{name}: installed in {time.monotonic() - started:.0f} s", flush=True)
    return home / "bin" / "python"


def _install_vllm(home: Path) -> None:
    packages = _install_with_torch(home, "vllm.txt")
    # vLLM asks for the version of a distribution named `vllm`, and looks for "cpu" in it.
    shim = packages / "vllm-0.32.0+cpu.dist-info"
    shim.mkdir()
    (shim / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")


def _install_with_torch(home: Path, requirements: str) -> Path:
    python = _environment(home)
    try:
        _pip(python, TORCH)
    except LeftOut as error:
        raise LeftOut(
            f"no CPU build of torch here: {error}. PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL may name a place "
            f"that has {TORCH}"
        ) from None
    return _install(home, requirements)


def _install(home: Path, requirements: str) -> Path:
    """Install a list into an environment; gives the folder of its packages."""
    python = home / "bin" / "python"
    if not python.exists():
        _environment(home)
    _pip(python, "-r", str(RECIPES / requirements))
    [packages] = (home / "lib").glob("python*/site-packages")
    return packages


def _environment(home: Path) -> Path:
    base = sys.executable if sys.version_info[:2] == (3, 11) else shutil.which("python3.11")
    if base is None:
        raise LeftOut("no Python 3.11 here, which these servers are installed with")
    subprocess.run([base, "-m", "venv", str(home)], check=True)
    return home / "bin" / "python"


def _pip(python: Path, *what: str) -> None:
    """Install exactly what is named. What the lists leave out is not looked for."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--no-warn-script-location", *what]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=DOWNLOAD)
    except subprocess.TimeoutExpired:
        raise LeftOut(f"pip took longer than {DOWNLOAD / 60:.0f} minutes") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        raise LeftOut((errors or done.stderr.splitlines() or ["pip failed"])[-1].removeprefix("ERROR: "))
