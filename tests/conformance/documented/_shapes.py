"""Framing that several servers share."""

from __future__ import annotations

import json

from tests.conformance.wire import Unknown, chunked, with_body
from tests.fakes.upstream import Reply

UVICORN = ("date: Sun, 22 Nov 2026 06:18:31 GMT", "server: uvicorn")


def compact(value: object) -> bytes:
    """JSON as most servers write it, without spaces; bytes and text as they are."""
    if isinstance(value, bytes):
        return value
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def fastapi(value: object, status: str = "200 OK") -> Reply:
    """A JSON answer of FastAPI under uvicorn."""
    return with_body(status, compact(value), *UVICORN, "content-type: application/json")


def fastapi_text(text: str, status: str) -> Reply:
    """What Starlette answers when a handler raises."""
    return with_body(status, text.encode(), *UVICORN, "content-type: text/plain; charset=utf-8")


def fastapi_events(*values: object, newline: bytes = b"\n") -> Reply:
    """Server-sent events under uvicorn, one chunk for each; the last is `[DONE]` only if it is given."""
    headers = (*UVICORN, "content-type: text/event-stream; charset=utf-8")
    return chunked(headers, tuple(b"data: " + compact(value) + newline * 2 for value in values))


def not_found(value: object = None) -> Unknown:
    """404 with FastAPI's body, or with another one."""
    reply = fastapi({"detail": "Not Found"} if value is None else value, "404 Not Found")
    return lambda _: reply


def choice(delta: object, reason: str | None = None, **rest: object) -> dict[str, object]:
    """One chunk of a chat of vLLM's family (openai/chat_completion/protocol.py, v0.33)."""
    one = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return {
        "id": "chatcmpl-x",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [one],
        **rest,
    }


def whole(message: object, reason: str, usage: object, model: str = "m") -> dict[str, object]:
    """One whole answer of the same family."""
    one = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return {
        "id": "chatcmpl-x",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [one],
        "usage": usage,
    }
