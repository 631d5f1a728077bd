"""From what a server says when it fails to one named error.

One extractor reads every error shape that the ten servers are known to send: in a status body, in a
200 body, in an event or in a line. One table turns status and text into a kind. Pure.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Any

from ollm_daemon.errors import BrokenAnswerError, ErrorKind, RefusedError
from ollm_daemon.providers._json import decode_json

_MAX_NESTING = 4

_BY_STATUS = {
    400: ErrorKind.INVALID,
    401: ErrorKind.AUTH,
    403: ErrorKind.FORBIDDEN,
    404: ErrorKind.NOT_FOUND,
    405: ErrorKind.PROTOCOL,
    408: ErrorKind.BACKEND,
    409: ErrorKind.BACKEND,
    413: ErrorKind.TOO_LARGE,
    422: ErrorKind.INVALID,
    425: ErrorKind.BACKEND,
    429: ErrorKind.RATE_LIMITED,
    501: ErrorKind.UNSUPPORTED,
    503: ErrorKind.OVERLOADED,
    529: ErrorKind.OVERLOADED,
    599: ErrorKind.OVERLOADED,
}

# What a text says outranks its status: FastChat sends 400 for everything, Ollama 500 for a bad option.
_BY_TEXT: tuple[tuple[re.Pattern[str], ErrorKind], ...] = (
    (
        re.compile(
            r"maximum context length|available context size|exceed_context_size|context_length_exceeded"
            r"|fit in context length|longer than the context length|context the overflows"
            r"|'max_tokens' or 'max_completion_tokens' is too large|input length exceeds",
            re.IGNORECASE,
        ),
        ErrorKind.CONTEXT_LENGTH,
    ),
    (
        re.compile(
            r"does not support|not supported by this|no model support|requires --enable-auto-tool-choice"
            r"|input is not supported|is not a multimodal model",
            re.IGNORECASE,
        ),
        ErrorKind.UNSUPPORTED,
    ),
    (
        re.compile(
            r"model .{0,200}(not found|does not exist)|^only .{0,500} allowed now|invalid model identifier",
            re.IGNORECASE | re.DOTALL,
        ),
        ErrorKind.NOT_FOUND,
    ),
    (
        # vLLM says the last two inside the stream, under status 200 (0.32).
        re.compile(
            r'^option ".{1,80}" must be of type|^invalid format: '
            r"|^Grammar error: |^Invalid grammar specification"
        ),
        ErrorKind.INVALID,
    ),
    (re.compile(r"invalid_api_key|invalid api key", re.IGNORECASE), ErrorKind.AUTH),
    (re.compile(r"unexpected endpoint or method", re.IGNORECASE), ErrorKind.PROTOCOL),
    (re.compile(r"server busy|server is busy|high traffic", re.IGNORECASE), ErrorKind.OVERLOADED),
)
_NO_SUCH_PATH = re.compile(r"(404 page |file |resource )?not found", re.IGNORECASE)
"""What frameworks say of a path they do not have; not a word about a model."""
_LOADING = re.compile(r"loading model|model_loading|still loading|model is loading", re.IGNORECASE)
_BY_CODE = {40301: ErrorKind.NOT_FOUND, 40303: ErrorKind.CONTEXT_LENGTH, 50001: ErrorKind.OVERLOADED}
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


@dataclass(frozen=True, slots=True)
class Failure:
    """What a server said about a failure: its sentence and its own code or type, as text."""

    message: str
    code: str = ""
    is_markup: bool = False


def find_failure(value: Any) -> Failure | None:
    """The failure a decoded JSON value reports, or `None` when it is not about a failure.

    Use on anything that arrives under status 200 too: bodies, event data, NDJSON lines.
    """
    if not isinstance(value, dict):
        return None
    if value.get("error"):
        return _describe(value["error"], outer=value)
    if value.get("object") == "error" or value.get("error_code"):
        return _describe(value, outer=value)
    if value.get("detail") and "choices" not in value and "message" not in value:
        return _describe(value["detail"], outer=value)
    return None


def read_failure(body: bytes) -> Failure:
    """The failure in the body of an error status, whatever its type."""
    if not body.strip():
        return Failure("")
    try:
        value = decode_json(body)
    except BrokenAnswerError:
        text = body.decode("utf-8", "replace")
        is_markup = bool(re.match(r"\s*<(!doctype|html|head|body|\?xml)", text, re.IGNORECASE))
        return Failure(clean_text(_MARKUP.sub(" ", text) if is_markup else text), "", is_markup)
    return find_failure(value) or _describe(value, outer={})


def _describe(value: Any, *, outer: dict[str, Any], depth: int = 0) -> Failure:
    if isinstance(value, str):
        return _describe_text(value, outer, depth)
    if isinstance(value, list):
        texts = [_describe(item, outer=outer, depth=depth + 1).message for item in value[:3]]
        return Failure(clean_text("; ".join(text for text in texts if text)))
    if not isinstance(value, dict):
        return Failure("" if value is None else clean_text(str(value)))
    inner = value.get("error") if depth < _MAX_NESTING else None
    if isinstance(inner, dict):
        return _describe(inner, outer=outer, depth=depth + 1)
    for name in ("message", "msg", "text", "error"):
        text = value.get(name)
        if isinstance(text, str) and text:
            found = _describe_text(text, outer, depth)
            return Failure(_with_location(found.message, value), found.code or _code_of(value))
    return Failure("", _code_of(value))


def _describe_text(text: str, outer: dict[str, Any], depth: int) -> Failure:
    """A sentence; when it holds JSON (Ollama wraps its runner's errors so), what that JSON says."""
    start = text.find("{")
    if start >= 0 and depth < _MAX_NESTING:
        try:
            nested = find_failure(decode_json(text[start:]))
        except BrokenAnswerError:
            nested = None
        if nested and nested.message:
            return nested
    return Failure(clean_text(text), _code_of(outer))


def _with_location(message: str, value: dict[str, Any]) -> str:
    location = value.get("loc")
    if isinstance(location, list):
        return clean_text(".".join(str(part) for part in location) + ": " + message)
    return message


def _code_of(value: dict[str, Any]) -> str:
    parts = [value.get(name) for name in ("code", "error_code", "type")]
    return " ".join(str(part) for part in parts if isinstance(part, str | int))


def clean_text(text: str) -> str:
    """One line without control characters or bidirectional overrides."""
    return " ".join(_CONTROL.sub(" ", html.unescape(text)).split())


def classify(status: int | None, failure: Failure) -> tuple[ErrorKind, bool]:
    """The kind of a failure, and whether it only means that a model is still loading."""
    searched = f"{failure.message} {failure.code}"
    if _LOADING.search(searched):
        return ErrorKind.OVERLOADED, True
    for code, kind in _BY_CODE.items():
        if str(code) in failure.code.split():
            return kind, False
    if status not in (401, 403):
        for pattern, kind in _BY_TEXT:
            if pattern.search(searched):
                return kind, False
    if status is None:
        return ErrorKind.BACKEND, False
    if 300 <= status < 400:
        return ErrorKind.REDIRECT, False
    if status in (404, 405) and (failure.is_markup or _NO_SUCH_PATH.fullmatch(failure.message)):
        return ErrorKind.PROTOCOL, False
    fallback = ErrorKind.BACKEND if status >= 500 else ErrorKind.INVALID
    return _BY_STATUS.get(status, fallback), False


def refused_in_stream(failure: Failure) -> RefusedError:
    """The error for a failure that a server reports inside an answer that began well."""
    kind, loading = classify(None, failure)
    said = failure.message or "no reason given"
    return RefusedError(f"The server stopped with an error: {said}", kind=kind, loading=loading)
