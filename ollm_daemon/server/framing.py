"""Content-Length frames without I/O: bytes in, message bodies out.

The header is read as the base protocol of LSP writes it: lines that end in CRLF, field names in any
case, blanks allowed around the value. What is ambiguous is an error, because the end of a frame that
was misread cannot be found again.
"""

from __future__ import annotations

import re

MAX_HEADER = 16 << 10
MAX_FIELDS = 32
MAX_BODY = 64 << 20
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
_LENGTH = re.compile(rb"[0-9]{1,19}")
_LSP_FIELDS = frozenset({b"content-length", b"content-type"})


class FramingError(Exception):
    """The bytes are not frames; the connection cannot go on.

    Attributes:
        foreign: They are another protocol altogether, so no answer is owed.
    """

    def __init__(self, message: str, *, foreign: bool = False) -> None:
        super().__init__(message)
        self.foreign = foreign


class FrameDecoder:
    """Incremental decoder of one direction of a connection.

    With `strict`, as on a socket that anybody may reach, a header field that LSP does not define is
    taken for another protocol; otherwise it is ignored.

    Attributes:
        max_body: Bytes of one message that are accepted.
    """

    def __init__(self, *, strict: bool = False, max_body: int = MAX_BODY) -> None:
        self.max_body = max_body
        self._strict = strict
        self._buffer = bytearray()
        self._length: int | None = None
        self._scanned = 0

    @property
    def in_message(self) -> bool:
        """Whether part of a message has arrived and the rest has not."""
        return bool(self._buffer) or self._length is not None

    def rest(self) -> bytes:
        """Bytes that have been added and not taken."""
        return bytes(self._buffer)

    def add(self, data: bytes) -> None:
        """Add bytes to be taken apart by `take`."""
        self._buffer += data

    def take(self) -> bytes | None:
        """The next complete body, or `None` until more bytes are there.

        Raises:
            FramingError: The header is wrong or too long.
        """
        buffer = self._buffer
        if self._length is None:
            end = self._find_header_end()
            if end < 0:
                return None
            self._length = self._read_header(bytes(buffer[:end]))
            del buffer[: end + 4]
            self._scanned = 0
        if len(buffer) < self._length:
            return None
        body = bytes(buffer[: self._length])
        del buffer[: self._length]
        self._length = None
        return body

    def _find_header_end(self) -> int:
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
        known = end if end >= 0 else len(buffer)
        self._check_prefix(known)
        if end > MAX_HEADER or (end < 0 and len(buffer) > MAX_HEADER):
            raise FramingError(f"the header is longer than {MAX_HEADER >> 10} KiB")
        self._scanned = len(buffer)
        return end

    def _check_prefix(self, known: int) -> None:
        """Tell other protocols by their first line without waiting for an end that may never come."""
        head = bytes(self._buffer[: min(known, MAX_HEADER)])
        if self._scanned and b"\n" not in head[self._scanned :]:
            return
        if not head:
            return
        line, newline, _ = head.partition(b"\n")
        if self._strict and not _could_be_lsp(line):
            raise FramingError("not the language server protocol", foreign=True)
        if newline and not line.endswith(b"\r"):
            raise FramingError("header lines end in CRLF")

    def _read_header(self, header: bytes) -> int:
        lines = header.split(b"\r\n")
        if len(lines) > MAX_FIELDS:
            raise FramingError(f"more than {MAX_FIELDS} header fields")
        length: int | None = None
        for line in lines:
            match = _FIELD.fullmatch(line)
            if match is None or b"\n" in line or b"\r" in line:
                raise FramingError("a header line is not `Name: value`")
            name, value = match[1].lower(), match[2]
            if self._strict and name not in _LSP_FIELDS:
                raise FramingError("not the language server protocol", foreign=True)
            if name == b"content-length":
                if not _LENGTH.fullmatch(value):
                    raise FramingError("Content-Length is not a number")
                if length is not None and length != int(value):
                    raise FramingError("two different values of Content-Length")
                length = int(value)
            elif name == b"content-type":
                _check_charset(value)
        if length is None:
            raise FramingError("the header has no Content-Length")
        if length > self.max_body:
            raise FramingError(f"a message of more than {self.max_body / (1 << 20):g} MiB is not accepted")
        return length


def encode_frame(body: bytes) -> bytes:
    """A body with its header."""
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def _could_be_lsp(line: bytes) -> bool:
    """Whether the beginning of a first line may still become a header field of LSP."""
    name, colon, _ = line.lower().partition(b":")
    if colon:
        return name in _LSP_FIELDS
    return any(field.startswith(name) for field in _LSP_FIELDS)


def _check_charset(content_type: bytes) -> None:
    match = re.search(rb"charset\s*=\s*\"?([^\s\";]+)", content_type, re.IGNORECASE)
    if match and match[1].lower() not in (b"utf-8", b"utf8"):
        raise FramingError("only the charset utf-8 is spoken")
