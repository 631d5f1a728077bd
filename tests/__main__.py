"""`python -m tests`: everything that must hold, in one run. `python -m tests fast` leaves out what needs a
real model server, starts processes or takes seconds; `python -m tests heavy` runs what needs a large server,
`python -m tests editors` what needs a real editor, `python -m tests vscode` what needs a real VS Code, and
nothing else. Further arguments go to pytest, or for VS Code to vitest."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.node import NodeMissing, environment, npm

ROOT = Path(__file__).parents[1]
WORKERS = str(max(2, os.cpu_count() or 2))
EVERYTHING = ("-n", WORKERS, "--dist", "loadgroup", "-m", "not heavy and not editors")
FAST = (*EVERYTHING[:-1], "not heavy and not editors and not real and not slow")
ALONE = {
    "heavy": ("-m", "heavy", "--capture=no"),  # installing takes minutes, and says so
    "editors": ("-m", "editors"),
}
CHECKS = {
    "format": ("ruff", "format", "--check", "--quiet", "."),
    "style": ("ruff", "check", "--quiet", "."),
    "types": ("mypy",),
    "layers": ("-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"),
    "contract": ("protocol/generate.py", "check"),
    "guides": ("docs/generate.py", "check"),
}


def main(arguments: list[str]) -> int:
    """Run the checks, then the tests; gives the exit code of the first that failed."""
    if arguments[:1] == ["vscode"]:
        return _run_in_vscode(arguments[1:])
    if arguments and (alone := ALONE.get(arguments[0])):
        return _run(f"{arguments[0]} tests", sys.executable, "-m", "pytest", *alone, *arguments[1:])
    selection, rest = (FAST, arguments[1:]) if arguments[:1] == ["fast"] else (EVERYTHING, arguments)
    for name, command in CHECKS.items():
        if code := _run(name, *_python(command)):
            return code
    return _run("tests", sys.executable, "-m", "pytest", *selection, *rest)


def _run_in_vscode(rest: list[str]) -> int:
    try:
        command = npm("run", "--silent", "e2e", "--", *rest)
    except NodeMissing as missing:
        print(missing)
        return 1
    return _run("tests in VS Code", *command)


def _python(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command, run by this Python: nothing but the environment's own tools is used."""
    is_module = not command[0].startswith("-") and not command[0].endswith(".py")
    return (sys.executable, "-m", *command) if is_module else (sys.executable, *command)


def _run(name: str, *command: str) -> int:
    started = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, check=False, env=environment()).returncode
    outcome = "ok" if code == 0 else f"failed with {code}"
    print(f"{name}: {outcome} in {time.monotonic() - started:.1f} s", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
