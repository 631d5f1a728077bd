"""JSON from servers: strict, bounded in depth, and never an exception of the parser's own.

Owns one decision: NaN and Infinity are refused, nesting is limited by the parser, and a lone
surrogate escape (legal in JSON, not in Unicode) becomes U+FFFD instead of an error.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from pydantic_core import from_json

from ollm_daemon.errors import BrokenAnswerError, ErrorKind


def decode_json(data: bytes | str) -> Any:
    """Decode one JSON value.

    Raises:
        BrokenAnswerError: `protocol`, when the bytes are not JSON.
    """
    try:
        return from_json(data, allow_inf_nan=False)
    except ValueError:
        return _decode_leniently(data)


def _decode_leniently(data: bytes | str) -> Any:
    """Second try for what the strict parser refuses: broken UTF-8 and lone surrogate escapes."""
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        return from_json(_without_surrogates(json.dumps(value, ensure_ascii=False)))
    except (ValueError, RecursionError):
        raise BrokenAnswerError(
            f"The server sent something that is not JSON: {text[:80]!r}", kind=ErrorKind.PROTOCOL
        ) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _without_surrogates(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
