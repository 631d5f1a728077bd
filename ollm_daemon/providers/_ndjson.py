"""Newline-delimited JSON without I/O: bytes in, complete lines out.

Only the byte LF ends a line, so U+2028, U+2029 and U+0085 inside a string are left alone, and any
re-chunking of the input gives the same lines.
"""

from __future__ import annotations

from ollm_daemon.errors import BrokenAnswerError, ErrorKind

MAX_LINE = 8 << 20
"""Bytes of one line; Ollama's last record of `/api/generate` carries the whole context as numbers."""


class NdjsonDecoder:
    """Splits a byte stream into its non-blank lines."""

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._tail = bytearray()
        self._max_line = max_line

    def feed(self, data: bytes) -> list[bytes]:
        """Lines completed by `data`, without their line ends.

        Raises:
            BrokenAnswerError: `limit`, when a line grows past the limit.
        """
        head, newline, rest = data.rpartition(b"\n")
        if not newline:
            self._keep(data)
            return []
        if self._tail:
            head = bytes(self._tail) + head
            self._tail.clear()
        self._keep(rest)
        lines = [line for line in head.split(b"\n") if line and not line.isspace()]
        if len(head) > self._max_line and any(len(line) > self._max_line for line in lines):
            raise line_too_long(self._max_line)
        return lines

    def close(self) -> list[bytes]:
        """The unterminated last line, if there is one."""
        tail = bytes(self._tail)
        self._tail.clear()
        return [tail] if tail.strip() else []

    def _keep(self, data: bytes) -> None:
        self._tail += data
        if len(self._tail) > self._max_line:
            raise line_too_long(self._max_line)


def line_too_long(limit: int) -> BrokenAnswerError:
    """The error for a line over `limit` bytes."""
    return BrokenAnswerError(
        f"The server sent a line of more than {limit >> 20} MiB, the largest that is accepted.",
        kind=ErrorKind.LIMIT,
    )
