"""What `ollm` prints: the answer on standard output, everything about it on standard error.

Text of a model, a server or a repository may hold escape sequences that move the cursor or retitle
the window; what goes to a terminal is cleaned of control characters.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ollm_daemon.client._client import AnyDelta
    from ollm_daemon.protocol.base import WireModel
    from ollm_daemon.protocol.chat import ChatResult

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_DIM, _RED, _RESET = "\x1b[2m", "\x1b[31m", "\x1b[0m"


class Screen:
    """Standard output and standard error of one run."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._text_ends_line = True
        self._notes: list[str] = []
        self._progress: ProgressLine | None = None
        for stream in (sys.stdout, sys.stderr):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure:
                reconfigure(encoding="utf-8", errors="replace")

    def show(self, delta: AnyDelta) -> None:
        """Show one delta as it arrives."""
        if self.as_json:
            return
        if delta.kind == "text":
            text = _clean(delta.text) if sys.stdout.isatty() else delta.text
            sys.stdout.write(text)
            sys.stdout.flush()
            if text:
                self._text_ends_line = text.endswith("\n")
        elif delta.kind == "thinking" and sys.stderr.isatty():
            sys.stderr.write(f"{_DIM}{_clean(delta.text)}{_RESET}")
            sys.stderr.flush()
        elif delta.kind == "status":
            self.note(delta.message)

    def finish(self, result: ChatResult) -> None:
        """Show what is left once the answer is complete."""
        if self.as_json:
            self.write_json(result)
            return
        self.end_line()
        for call in result.message.tool_calls or ():
            self.write(f"{call.name}({call.arguments})")
        for warning in result.warnings or ():
            if warning not in self._notes:
                self.note(warning)
        if result.finish_reason == "length":
            self.note("The answer was cut at the token limit.")

    def end_line(self) -> None:
        """Begin a new line if text has left one open."""
        if not self._text_ends_line:
            sys.stdout.write("\n")
            sys.stdout.flush()
            self._text_ends_line = True

    def write(self, text: str) -> None:
        """A line on standard output."""
        sys.stdout.write((_clean(text) if sys.stdout.isatty() else text) + "\n")

    def write_styled(self, *parts: tuple[str, str]) -> None:
        """A line on standard output of texts and their styles, in plain text when that is no terminal."""
        if not sys.stdout.isatty():
            self.write("".join(text for text, _ in parts))
            return
        from rich.console import Console
        from rich.text import Text

        line = Text.assemble(*((_clean(text), style) for text, style in parts))
        Console(file=sys.stdout, highlight=False, soft_wrap=True).print(line)

    @contextlib.contextmanager
    def progress(self) -> Iterator[None]:
        """Show work-done progress for the length of the block."""
        self._progress = ProgressLine()
        try:
            yield
        finally:
            self._progress.close()
            self._progress = None

    def take_progress(self, value: Any) -> None:
        """Take the value of one `$/progress` notification."""
        if self._progress and isinstance(value, dict) and not self.as_json:
            self._progress.take(value)

    def write_json(self, value: WireModel) -> None:
        """One JSON object on standard output."""
        sys.stdout.write(value.model_dump_json(by_alias=True, exclude_none=True) + "\n")

    def note(self, text: str, *, warning: bool = False) -> None:
        """A remark on standard error; on a terminal it does not stand in the middle of a line."""
        if sys.stdout.isatty():
            self.end_line()
        label = "ollm: " if not warning else "ollm: warning: "
        line = f"{label}{_clean(text)}"
        sys.stderr.write(f"{_DIM}{line}{_RESET}\n" if sys.stderr.isatty() else f"{line}\n")
        sys.stderr.flush()

    def fail(self, message: str, hint: str, data: Any) -> None:
        """The sentence of a failure, and its next step."""
        self.end_line()
        if self.as_json:
            sys.stdout.write(json.dumps({"error": {"message": message, **data}}, ensure_ascii=False) + "\n")
            return
        line = f"ollm: {_clean(message)}"
        sys.stderr.write(f"{_RED}{line}{_RESET}\n" if sys.stderr.isatty() else f"{line}\n")
        if hint:
            sys.stderr.write(f"      {_clean(hint)}\n")
        sys.stderr.flush()


class ProgressLine:
    """Work-done progress: a bar in a terminal, else a line each tenth of the way."""

    def __init__(self) -> None:
        self._title = ""
        self._told = ""
        self._bar: Any = None
        self._task: Any = None

    def take(self, value: Mapping[str, Any]) -> None:
        """Take the value of one `$/progress` notification."""
        kind, message = value.get("kind"), _clean(str(value.get("message", "")))
        if kind == "begin":
            self._title = _clean(str(value.get("title", "")))
            if sys.stderr.isatty():
                self._begin_bar()
        elif kind == "report":
            percentage = value.get("percentage")
            if self._bar is not None:
                self._bar.update(self._task, description=message or self._title, completed=percentage or 0)
            else:
                self._tell(message, percentage)
        self._title = self._title or message

    def close(self) -> None:
        """The work is over, or given up."""
        if self._bar is not None:
            self._bar.stop()

    def _begin_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        columns = TextColumn("{task.description}", markup=False), BarColumn(30), TaskProgressColumn()
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._bar.start()
        self._task = self._bar.add_task(self._title, total=100)

    def _tell(self, message: str, percentage: Any) -> None:
        """A line when there is news: another step, or ten more percent."""
        step = f"{message.partition(':')[0]} {percentage // 10 if isinstance(percentage, int) else ''}"
        if step != self._told:
            self._told = step
            sys.stderr.write(f"ollm: {message}\n")
            sys.stderr.flush()


def size_text(size: int | None) -> str:
    """A number of bytes for people; nothing when it is not known."""
    if size is None:
        return ""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns, as wide as they need to be."""
    widths = [max(len(row[index]) for row in (head, *rows)) for index in range(len(head))]
    lines = [head, *rows] if any(head) else list(rows)
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def one_line(text: str) -> str:
    """Text as it may stand in a line of ours: nothing in it ends the line or changes what is seen of it."""
    return text if text.isprintable() else json.dumps(text)


def _clean(text: str) -> str:
    return _CONTROL.sub("", text)
