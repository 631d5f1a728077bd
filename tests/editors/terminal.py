"""A terminal with a program in it, from tmux: what a user types, and what a user sees."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.editors.installing import from_debian

PATIENCE = 20.0
COLUMNS, LINES = 120, 30


class Terminal:
    """One program on a screen of its own."""

    def __init__(self, tmux: Path, socket: Path) -> None:
        self._tmux = (str(tmux), "-S", str(socket), "-f", "/dev/null")

    def start(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        """Run a command; the terminal goes away with it."""
        size = ("-x", str(COLUMNS), "-y", str(LINES))
        subprocess.run(
            (*self._tmux, "new-session", "-d", *size, "-c", str(folder), *command),
            check=True,
            env={**environment, "TERM": "xterm-256color", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"},
        )

    def type(self, text: str) -> None:
        """Strike the keys of a text."""
        self._call("send-keys", "-l", "--", text)

    def press(self, *keys: str) -> None:
        """Strike keys by their names, such as `Escape`, `C-x`, `M-]`."""
        self._call("send-keys", *keys)

    def screen(self) -> str:
        """What is on the screen, without the white space at the ends of lines."""
        return self._call("capture-pane", "-p")

    @property
    def column(self) -> int:
        """Where the cursor is in its line, from 0."""
        return int(self._call("display-message", "-p", "#{cursor_x}"))

    @property
    def is_gone(self) -> bool:
        """Whether the program has ended."""
        return subprocess.run((*self._tmux, "has-session"), check=False, capture_output=True).returncode != 0

    def sees(self, text: str) -> None:
        """Wait until a text is on the screen."""
        self.until(lambda: text in self.screen(), f"{text!r} on the screen")

    def until(self, predicate: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        """Look again and again until something is true."""
        deadline = time.monotonic() + patience
        while not predicate():
            if time.monotonic() > deadline:
                shown = "the program has ended" if self.is_gone else self.screen()
                raise AssertionError(f"not within {patience:.0f} s: {what}\n{shown}")
            time.sleep(0.02)

    def close(self) -> None:
        """End the program and the terminal."""
        subprocess.run((*self._tmux, "kill-server"), check=False, capture_output=True)

    def _call(self, *command: str) -> str:
        done = subprocess.run((*self._tmux, *command), check=True, capture_output=True, encoding="utf-8")
        return done.stdout


@contextlib.contextmanager
def terminal() -> Iterator[Terminal]:
    """A terminal for the length of the block.

    Raises:
        LeftOut: There is no tmux.
    """
    folder = Path(tempfile.mkdtemp(prefix="ollm-"))  # the name of a socket has to be short
    shown = Terminal(from_debian("tmux"), folder / "tmux")
    try:
        yield shown
    finally:
        shown.close()
        shutil.rmtree(folder)
