"""The tools of the VS Code extension: npm, run in its folder with what its lock file names."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).parents[1] / "clients" / "vscode"
INSTALL_SECONDS = 300.0


class NodeMissing(Exception):
    """There is no npm, or it could not install; says why."""


def npm(*arguments: str) -> tuple[str, ...]:
    """A command of npm for the extension, whose packages are there from now on.

    Raises:
        NodeMissing: There is no npm, or the packages cannot be had.
    """
    program = shutil.which("npm")
    if program is None:
        raise NodeMissing("`npm` is not on PATH: install Node.js 20 or later, which brings it.")
    _install(program)
    return (program, "--prefix", str(CLIENT), *arguments)


def environment() -> dict[str, str]:
    """What the extension's tests are told: the Python that has the daemon."""
    return {**os.environ, "OLLM_PYTHON": sys.executable}


def run_npm(*arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    command = npm(*arguments)
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=seconds, cwd=CLIENT, env=environment()
    )


def _install(program: str) -> None:
    """`npm ci`, unless what the lock names is there already; two at once take turns."""
    installed, lock = CLIENT / "node_modules" / ".package-lock.json", CLIENT / "package-lock.json"
    with lock.open() as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
            return
        command = (program, "ci", "--no-audit", "--no-fund", "--loglevel=error")
        done = subprocess.run(
            command, cwd=CLIENT, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS
        )
        if done.returncode:
            raise NodeMissing(f"npm ci: {done.stderr.strip()}")
