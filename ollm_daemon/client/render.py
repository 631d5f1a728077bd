"""What `ollm` prints: the answer on standard output, everything about it on standard error.

Text of a model, a server or a repository may hold escape sequences that move the cursor or retitle
the window; what goes to a terminal is cleaned of control characters.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

from ollm_daemon.protocol.base import WireModel
from ollm_daemon.protocol.chat import ChatResult, StatusDelta, TextDelta, ThinkingDelta

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_DIM, _RED, _RESET = "\x1b[2m", "\x1b[31m", "\x1b[0m"


class Screen:
    """Standard output and standard error of one run."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._text_ends_line = True
        for stream in (sys.stdout, sys.stderr):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure:
                reconfigure(encoding="utf-8", errors="replace")

    def show(self, delta: Any) -> None:
        """Show one delta as it arrives."""
        if self.as_json:
            return
        if isinstance(delta, TextDelta):
            text = _clean(delta.text) if sys.stdout.isatty() else delta.text
            sys.stdout.write(text)
            sys.stdout.flush()
            if text:
                self._text_ends_line = text.endswith("\n")
        elif isinstance(delta, ThinkingDelta) and sys.stderr.isatty():
            sys.stderr.write(f"{_DIM}{_clean(delta.text)}{_RESET}")
            sys.stderr.flush()
        elif isinstance(delta, StatusDelta):
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
