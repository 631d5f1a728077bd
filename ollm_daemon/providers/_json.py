"""JSON from servers: strict, but for bytes that are not UTF-8, which become U+FFFD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ollm_daemon.errors import BrokenAnswerError, ErrorKind
from ollm_daemon.json_text import parse_json


def decode_json(data: bytes | str) -> Any:
    """Decode one JSON value.

    Raises:
        BrokenAnswerError: `protocol`, when the bytes are not JSON.
    """
    try:
        return parse_json(data)
    except ValueError:
        text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    try:
        return parse_json(text)
    except ValueError:
        # Not a word of it is repeated: it may be anything, a key of ours among it.
        raise BrokenAnswerError(
            f"The server sent {len(text)} characters that are not JSON where JSON belongs.",
            kind=ErrorKind.PROTOCOL,
        ) from None


def value_at(document: Any, keys: Sequence[str | int]) -> Any:
    """What stands at `keys` in a decoded document, or `None` when there is no such place."""
    for key in keys:
        if isinstance(key, int):
            document = document[key] if isinstance(document, list) and len(document) > key else None
        else:
            document = document.get(key) if isinstance(document, dict) else None
    return document
