"""Server-sent events without I/O: bytes in, events out.

Follows the event-stream algorithm of the WHATWG HTML standard (section 9.2) to the letter: LF, CR
and CRLF in any mixture, one leading byte order mark, `data` lines joined by LF, blocks without data
not dispatched, `id` with NUL ignored, `retry` of ASCII digits only, an unfinished block discarded.
Any re-chunking of the input, down to single bytes, gives the same events.

Model servers leave the standard in three ways. With `extras` on, the decoder meets them on purpose:

- an unfinished last block is dispatched by `close` when its data is `[DONE]` or a whole JSON value
  (KoboldCpp ends with `data: [DONE]` and no line end);
- a field `error:` carries data of an event of type `error` (llama.cpp before September 2025);
- a line that begins with `{` is an event of type `unframed` (an error body in mid-stream).
"""

from __future__ import annotations

import json
import re

from ollm_daemon.errors import BrokenAnswerError, ErrorKind
from ollm_daemon.providers._ndjson import line_too_long

MAX_LINE = 1 << 20
MAX_EVENT = 8 << 20
_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\r|\n")
_DIGITS = re.compile(rb"[0-9]+")
_MAX_DIGITS = 4000  # int() refuses more than 4300


class SseEvent:
    """One dispatched event. `data` is UTF-8 as received; `text` decodes it, broken bytes replaced."""

    __slots__ = ("data", "last_event_id", "type")

    def __init__(self, data: bytes, type: str = "message", last_event_id: str = "") -> None:
        self.data = data
        self.type = type
        self.last_event_id = last_event_id

    @property
    def text(self) -> str:
        """The data as text, with U+FFFD for bytes that are not UTF-8."""
        return self.data.decode("utf-8", "replace")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SseEvent):
            return NotImplemented
        return (self.data, self.type, self.last_event_id) == (
            other.data,
            other.type,
            other.last_event_id,
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"SseEvent({self.data!r}, {self.type!r}, {self.last_event_id!r})"


class SseDecoder:
    """Incremental decoder of one event stream.

    Attributes:
        retry_ms: The last reconnection time the server asked for, milliseconds.
    """

    def __init__(self, *, extras: bool = False, max_line: int = MAX_LINE, max_event: int = MAX_EVENT) -> None:
        self.retry_ms: int | None = None
        self._extras = extras
        self._max_line = max_line
        self._max_event = max_event
        self._tail = bytearray()
        self._at_start = True
        self._after_cr = False
        self._data: list[bytes] = []
        self._data_size = 0
        self._type = ""
        self._id = ""

    def feed(self, data: bytes) -> list[SseEvent]:
        """Events completed by `data`.

        Raises:
            BrokenAnswerError: `limit`, when a line or an event grows past its limit.
        """
        if self._at_start:
            data = self._skip_byte_order_mark(data)
        if self._after_cr and data:
            self._after_cr = False
            if data[0] == 0x0A:
                data = data[1:]
        if b"\r" in data:
            self._after_cr = data[-1] == 0x0D
            lines = _LINE_END.split(data)
        else:
            lines = data.split(b"\n")
        rest = lines.pop()
        if lines and self._tail:
            lines[0] = bytes(self._tail) + lines[0]
            self._tail.clear()
        if rest:
            self._tail += rest
        if len(self._tail) > self._max_line:
            raise line_too_long(self._max_line)
        return self._take_lines(lines) if lines else []

    def close(self) -> list[SseEvent]:
        """End of the stream. Without extras an unfinished block is discarded, as the standard says."""
        if not self._extras:
            return []
        tail = bytes(self._tail)
        self._tail.clear()
        events = self._take_lines([tail]) if tail else []
        data = b"\n".join(self._data)
        if self._data and (data.strip() == b"[DONE]" or _is_json(data)):
            events += self._take_lines([b""])
        return events

    def _skip_byte_order_mark(self, data: bytes) -> bytes:
        data = bytes(self._tail) + data
        self._tail.clear()
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._tail += data
            return b""
        self._at_start = False
        return data.removeprefix(_BOM)

    def _take_lines(self, lines: list[bytes]) -> list[SseEvent]:
        events: list[SseEvent] = []
        pending = self._data
        for line in lines:
            if len(line) > self._max_line:
                raise line_too_long(self._max_line)
            if not line:
                if pending:
                    data = pending[0] if len(pending) == 1 else b"\n".join(pending)
                    events.append(SseEvent(data, self._type or "message", self._id))
                    pending.clear()
                self._data_size = 0
                self._type = ""
            elif line.startswith(b"data: "):
                # As `_add_data`, whose call would be a tenth of what a token costs.
                pending.append(line[6:])
                self._data_size += len(line) - 5
                if self._data_size > self._max_event:
                    raise self._event_too_large()
            elif line.startswith(b"data:"):
                self._add_data(line[5:])
            elif not line.startswith(b":"):
                self._take_field(line, events)
        return events

    def _add_data(self, value: bytes) -> None:
        self._data.append(value)
        self._data_size += len(value) + 1
        if self._data_size > self._max_event:
            raise self._event_too_large()

    def _event_too_large(self) -> BrokenAnswerError:
        return BrokenAnswerError(
            f"The server sent an event of more than {self._max_event >> 20} MiB, the most that is taken.",
            kind=ErrorKind.LIMIT,
        )

    def _take_field(self, line: bytes, events: list[SseEvent]) -> None:
        """Everything but comments and the usual `data:` line."""
        if self._extras and line.startswith(b"{"):
            events.append(SseEvent(line, "unframed", self._id))
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._add_data(value)
        elif name == b"event":
            self._type = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry":
            if len(value) <= _MAX_DIGITS and _DIGITS.fullmatch(value):
                self.retry_ms = int(value)
        elif name == b"error" and self._extras:
            self._type = "error"
            self._add_data(value)


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True
